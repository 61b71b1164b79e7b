//! What agents ask of the memory directly.

use std::sync::atomic::Ordering;

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use understudy_memory::{HealReply, HealRequest, HealSource, MemoryError, Query, estimated_tokens};

use super::{Memories, Window};
use crate::{auth::Caller, body::Body, error::ApiError, state::Gateway};

pub(crate) fn routes() -> Router<Gateway> {
    Router::new()
        .route("/v1/memory/heal", post(heal))
        .route("/v1/memory/heal/{id}/outcome", post(healed))
        .route("/v1/memory/plan", post(plan))
        .route("/v1/memory/status", get(status))
        .merge(super::own::routes())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    goal: String,
    #[serde(default)]
    agent: Option<String>,
    tools: Vec<String>,
    session: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Healed {
    worked: bool,
}

async fn heal(
    State(gateway): State<Gateway>,
    caller: Caller,
    Body(body): Body,
) -> Result<Json<Value>, ApiError> {
    let memories = memories(&gateway)?;
    let request: HealRequest = parse(&body)?;
    let shared = &memories.shared;
    let (view, now) = (shared.view(&caller).map_err(|why| failed(&why))?, shared.clock.now());
    let offered = || -> Result<HealReply, MemoryError> {
        let reply = view.library(shared).heal(&request, now)?;
        shared.store.offered(&reply.ids(HealSource::Item), now)?;
        if let Some(principal) = shared.principal(&caller).filter(|p| shared.root.has_user(p)) {
            shared.root.user(&principal)?.offered(&reply.ids(HealSource::Episode), now)?;
        }
        Ok(reply)
    };
    Ok(Json(json!(offered().map_err(|why| failed(&why))?)))
}

/// Counted where the lesson lies: with everybody's, or with the caller's own.
async fn healed(
    State(gateway): State<Gateway>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body,
) -> Result<Json<Value>, ApiError> {
    let shared = &memories(&gateway)?.shared;
    let Healed { worked } = parse(&body)?;
    let wrong = |why| ApiError::bad_field("id", format!("{why}"));
    let id: understudy_memory::MemoryId = id.parse().map_err(wrong)?;
    let now = shared.clock.now();
    let counted = || match shared.store.healed(&id, worked, now) {
        Err(MemoryError::Unknown { id }) => {
            let own = shared.principal(&caller).filter(|own| shared.root.has_user(own));
            let own = own.ok_or_else(|| MemoryError::Unknown { id: id.clone() })?;
            shared.root.user(&own)?.healed(&id, worked, now)?;
            shared.changed(&own)
        }
        counted => counted,
    };
    counted().map_err(|why| match why {
        MemoryError::Unknown { .. } => ApiError::not_found(why.to_string()),
        MemoryError::NotOffered { .. } => ApiError::conflict(why.to_string()),
        why => failed(&why),
    })?;
    Ok(Json(json!({"noted": id})))
}

async fn plan(
    State(gateway): State<Gateway>,
    caller: Caller,
    Body(body): Body,
) -> Result<Json<Value>, ApiError> {
    let memories = memories(&gateway)?;
    let plan: Plan = parse(&body)?;
    let shared = &memories.shared;
    let query = Query {
        goal: &plan.goal,
        agent: plan.agent.as_deref(),
        tools: plan.tools.iter().map(String::as_str).collect(),
        session: &plan.session,
        ..Query::default()
    };
    let window = Window { context: gateway.student.context(), count: &estimated_tokens };
    let view = shared.view(&caller).map_err(|why| failed(&why))?;
    let retrieved = shared.retrieve(&view, &query, window);
    Ok(Json(json!(retrieved.map_err(|why| failed(&why))?)))
}

async fn status(State(gateway): State<Gateway>) -> Result<Json<Value>, ApiError> {
    let shared = &memories(&gateway)?.shared;
    let serving = shared.serving();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let trial = shared.routes.get(&shared.channel);
    let trial = trial.filter(|entry| entry.route.canary.is_some());
    Ok(Json(json!({
        "tenant": shared.deployment.tenant,
        "trial": trial.map(|entry| json!({
            "release": entry.release,
            "canary": entry.route.canary,
            "ready": shared.candidate_waited_for().is_ok_and(|waited_for| waited_for.is_none()),
        })),
        "release": serving.shelf.release(),
        "lessons": serving.shelf.len(),
        "embedder": serving.finder.as_ref().map(|finder| finder.embedder.name()),
        "shown": count(&shared.shown),
        "withheld": count(&shared.withheld),
        "failed": count(&shared.failed),
        "late": count(&shared.late),
    })))
}

pub(super) fn memories(gateway: &Gateway) -> Result<&Memories, ApiError> {
    gateway.memories().ok_or_else(|| {
        ApiError::not_found(
            "this server has no memory; write a memory.toml and start it again".to_owned(),
        )
    })
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|why| ApiError::bad_request(format!("the body cannot be understood: {why}")))
}

pub(super) fn failed(why: &MemoryError) -> ApiError {
    ApiError::unavailable(why.to_string())
}
