//! `GET /api/v1/trajectories`: what was said in which session, and what users did about it.
//!
//! | path | what |
//! | --- | --- |
//! | `GET /api/v1/trajectories?task=&after=&limit=` | which there are, a page at a time |
//! | `GET /api/v1/trajectories/{id}` | one: every step with its outcomes, and the conversation that telemetry told around them |
//!
//! A tenant's key sees its tenant's, and a key of one user what is that user's alone: what is
//! somebody else's is not there, in the words in which nothing is there.

use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Value, json};
use understudy_ident::{TenantName, TrajectoryId};
use understudy_journal::Listing;
use understudy_trajectory::{Conversation, Trajectory};

use crate::{auth::Caller, error::ApiError, state::Gateway};

/// Of one answer, unless fewer are asked for.
const PAGE: usize = 100;
const MOST: usize = 1000;

pub(crate) fn routes() -> Router<Gateway> {
    Router::new()
        .route("/api/v1/trajectories", get(list))
        .route("/api/v1/trajectories/{id}", get(one))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    task: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

async fn list(
    State(gateway): State<Gateway>,
    caller: Caller,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(Which { task, after, limit }) = which?;
    let limit = limit.unwrap_or(PAGE);
    if !(1..=MOST).contains(&limit) {
        return Err(ApiError::bad_field("limit", format!("`limit` must lie between 1 and {MOST}")));
    }
    let unnamed = |task: &str| ApiError::bad_field("task", format!("`{task}` names no task"));
    let named = |task: String| caller.task(&task).ok_or_else(|| unnamed(&task));
    let listing = Listing {
        tenant: caller.tenant().map(|tenant| tenant.as_str().to_owned()),
        task: task.map(named).transpose()?,
        subject: caller.user().map(str::to_owned),
        after: after.map(|id| parsed(&id, "after")).transpose()?,
        limit,
    };
    let mut listed = blocking(&gateway, move |gateway| {
        gateway.journal.list(&listing).map_err(|why| ApiError::unavailable(why.to_string()))
    })
    .await?;
    // A full page may be followed by another.
    let after = listed.last().filter(|_| listed.len() == limit).map(|last| last.id.clone());
    for one in &mut listed {
        localise(&caller, &mut one.task)?;
    }
    Ok(Json(json!({"trajectories": listed, "after": after})))
}

async fn one(
    State(gateway): State<Gateway>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let missing = || ApiError::not_found(format!("there is no trajectory `{id}`"));
    let known = parsed(&id, "id")?;
    if !caller.owns_id(&known) {
        return Err(missing());
    }
    let (trajectory, conversation) =
        blocking(&gateway, move |gateway| read(gateway, &known)).await?.ok_or_else(missing)?;
    let mut trajectory = trajectory;
    let is_theirs = trajectory.steps.iter().all(|judged| {
        let is_of = |user: &str| judged.step.subject.as_deref() == Some(user);
        caller.owns(judged.step.task.as_str()) && caller.user().is_none_or(is_of)
    });
    if !is_theirs {
        return Err(missing());
    }
    for judged in &mut trajectory.steps {
        localise(&caller, &mut judged.step.task)?;
    }
    let is_of = |told: &Conversation| {
        caller.user().is_none_or(|user| told.subject.as_deref() == Some(user))
    };
    let conversation = conversation.filter(is_of);
    Ok(Json(json!({
        "id": trajectory.id,
        "steps": trajectory.steps,
        "conversation": conversation,
    })))
}

/// A trajectory and what telemetry told around it, as far as its raw bodies are still there.
fn read(
    gateway: &Gateway,
    id: &TrajectoryId,
) -> Result<Option<(Trajectory, Option<Conversation>)>, ApiError> {
    let failed = |why: String| ApiError::unavailable(format!("cannot read trajectory {id}: {why}"));
    let found = gateway.journal.trajectory(id).map_err(|why| failed(why.to_string()))?;
    let Some(trajectory) = found else { return Ok(None) };
    let told = gateway.intake().conversation(&trajectory).map_err(|why| failed(why.to_string()))?;
    Ok(Some((trajectory, told)))
}

fn parsed(id: &str, field: &str) -> Result<TrajectoryId, ApiError> {
    id.parse().map_err(|_| {
        let why = format!("`{id}` is no id of a trajectory; `x-understudy-trajectory` names them");
        ApiError::bad_field(field, why)
    })
}

/// The name that the caller has for a task of theirs.
fn localise(caller: &Caller, task: &mut understudy_ident::TaskName) -> Result<(), ApiError> {
    if caller.tenant().is_some() {
        let local = TenantName::local(task.as_str());
        *task = local.parse().map_err(|_| ApiError::internal("a task has no local name"))?;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    gateway: &Gateway,
    run: impl FnOnce(&Gateway) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let gateway = gateway.clone();
    let run = move || run(&gateway);
    tokio::task::spawn_blocking(run).await.map_err(|why| ApiError::unavailable(why.to_string()))?
}
