//! Releases over HTTP, for people and their programs: what the commands of `understudy release` do,
//! by the same calls, with the same answers.
//!
//! | path | what |
//! | --- | --- |
//! | `POST /api/v1/releases` | starts one: 201 with its `location` and `etag` |
//! | `GET /api/v1/releases?task=T` | all of a task, from the first |
//! | `GET /api/v1/releases/{id}` | one, with who has acknowledged the routes |
//! | `GET /api/v1/releases/{id}/evidence` | both arms, every finding, and what was decided by them |
//! | `POST /api/v1/releases/{id}/…` | `promote`, `resume`, `pause`, `rollback`, `abort` |
//! | `GET /api/v1/channels/{task}` | what serves, what is open, what stands in the way |
//! | `GET /api/v1/channels/{task}/history` | every release and every move of the pointer |
//! | `POST /api/v1/channels/{task}/undo` | back to what served before, without reading first |
//!
//! `etag` is the release's revision. What adds exposure wants it back as `if-match`; what takes a
//! candidate off never does, and honours it where it is sent. An `idempotency-key` makes a command
//! happen once. Who acts is whom the key was made for; without keys, whoever the body names.

mod refused;
mod said;

use axum::{
    Json, Router,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use understudy_canary::{Opening, decided, open};
use understudy_ident::{AdapterVersion, ReleaseId, TaskName};
use understudy_manifest::Recipe;
use understudy_registry::{PauseReason, Registry, ReleaseRecord, Target};

use self::{
    refused::Refused,
    said::{Said, Who},
};
use crate::{auth::Caller, body::Body, error::ApiError, state::Gateway};

pub(crate) fn routes() -> Router<Gateway> {
    Router::new()
        .route("/api/v1/releases", get(list).post(start))
        .route("/api/v1/releases/{id}", get(one))
        .route("/api/v1/releases/{id}/evidence", get(evidence))
        .route("/api/v1/releases/{id}/promote", on(Verb::Promote))
        .route("/api/v1/releases/{id}/resume", on(Verb::Resume))
        .route("/api/v1/releases/{id}/pause", on(Verb::Pause))
        .route("/api/v1/releases/{id}/rollback", on(Verb::RollBack))
        .route("/api/v1/releases/{id}/abort", on(Verb::Abort))
        .route("/api/v1/channels/{task}", get(channel))
        .route("/api/v1/channels/{task}/history", get(history))
        .route("/api/v1/channels/{task}/undo", post(undo))
}

/// What can be asked of a release that has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Promote,
    Resume,
    Pause,
    RollBack,
    Abort,
}

impl Verb {
    fn adds_exposure(self) -> bool {
        matches!(self, Self::Promote | Self::Resume)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    candidate: AdapterVersion,
    /// The recipe it was made by, as text, whose `[release]` says how to ramp.
    recipe: String,
    /// Gives up the release of another candidate that is open.
    #[serde(default)]
    supersede: bool,
    reason: String,
    #[serde(default)]
    owner: Option<String>,
    #[serde(default)]
    force: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Undo {
    /// What served before, unless something else is named.
    #[serde(default)]
    to: Option<Target>,
    reason: String,
    #[serde(default)]
    owner: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Of {
    task: TaskName,
}

async fn start(
    State(gateway): State<Gateway>,
    caller: Caller,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let Start { candidate, recipe, supersede, reason, owner, force } = said::parse(&body)?;
    let said = Said::read(&caller, &headers, Who { reason, owner, force })?;
    said.refuse_if_match("is for releases that have started; this one has no revision yet")?;
    let recipe = Recipe::parse("recipe", &recipe)
        .map_err(|why| ApiError::bad_field("recipe", why.to_string()))?;
    let first = if gateway.teacher.is_some() { Target::Teacher } else { Target::Base };
    let release = blocking(&gateway, move |gateway| {
        let opening = Opening {
            candidate: &candidate,
            recipe: &recipe,
            forced: said.forced.clone(),
            supersede,
            first,
            defaults: gateway.release_defaults(),
        };
        let change = said.change(&*gateway.clock);
        open::<Refused>(&gateway.registry, || Ok(&*gateway.student), opening, change)
    })
    .await?;
    let place = format!("/api/v1/releases/{}", release.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, place)], told(&release)).into_response())
}

async fn list(
    State(gateway): State<Gateway>,
    of: Result<Query<Of>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let Query(Of { task }) = of?;
    let releases = blocking(&gateway, move |gateway| Ok(gateway.registry.releases(&task)?)).await?;
    Ok(Json(json!({"releases": releases})))
}

async fn one(State(gateway): State<Gateway>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let id = release_id(&id)?;
    let release = blocking(&gateway, move |gateway| Ok(gateway.registry.release(&id)?)).await?;
    let servers = gateway.servers();
    let body = Json(json!({"release": release, "servers": servers}));
    Ok(([(header::ETAG, etag(&release))], body).into_response())
}

async fn evidence(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let id = release_id(&id)?;
    let (release, live, decisions) = blocking(&gateway, move |gateway| {
        let release = gateway.registry.release(&id)?;
        let live = gateway.examiner().examine(&gateway.registry, &gateway.journal, &release)?;
        let decisions = decided(&gateway.registry, &release)?;
        Ok((release, live, decisions))
    })
    .await?;
    let body = Json(json!({
        "release": release.id, "state": release.state, "step": release.step,
        "live": live, "decisions": decisions,
    }));
    Ok(([(header::ETAG, etag(&release))], body).into_response())
}

fn on(verb: Verb) -> MethodRouter<Gateway> {
    post(
        move |State(gateway): State<Gateway>,
              caller: Caller,
              headers: HeaderMap,
              Path(id): Path<String>,
              Body(body): Body| async move {
            let who: Who = said::parse(&body)?;
            let said = Said::read(&caller, &headers, who)?;
            act(&gateway, verb, release_id(&id)?, said).await
        },
    )
}

async fn act(
    gateway: &Gateway,
    verb: Verb,
    id: ReleaseId,
    said: Said,
) -> Result<Response, ApiError> {
    if verb.adds_exposure() {
        said.require_if_match()?;
    } else {
        said.refuse_force("is not needed: nothing stops what takes a candidate off")?;
    }
    let release = blocking(gateway, move |gateway| {
        let registry: &Registry = &gateway.registry;
        // Of whoever sends `*`, the release must only be there.
        let present = registry.release(&id)?.revision;
        let revision = said.revision().unwrap_or(present);
        let change = said.change(&*gateway.clock);
        Ok(match verb {
            Verb::Promote => registry.promote(&id, revision, change)?,
            Verb::Resume => registry.resume(&id, revision, change)?,
            Verb::Pause => registry.pause(&id, PauseReason::Manual, change)?,
            Verb::RollBack => registry.roll_back(&id, change)?,
            Verb::Abort => registry.abort(&id, change)?,
        })
    })
    .await?;
    Ok(told(&release))
}

async fn channel(
    State(gateway): State<Gateway>,
    Path(task): Path<String>,
) -> Result<Response, ApiError> {
    let task = task_name(&task)?;
    let standing = blocking(&gateway, move |gateway| {
        Ok(gateway.registry.standing(&task, gateway.clock.now())?)
    })
    .await?;
    let tag = standing.open.as_ref().map(etag);
    let mut body = json!(standing);
    body["servers"] = gateway.servers();
    let tag = tag.map(|tag| [(header::ETAG, tag)]);
    Ok((tag, Json(body)).into_response())
}

async fn history(
    State(gateway): State<Gateway>,
    Path(task): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let task = task_name(&task)?;
    let (releases, moves) = blocking(&gateway, move |gateway| {
        Ok((gateway.registry.releases(&task)?, gateway.registry.history(&task)?))
    })
    .await?;
    Ok(Json(json!({"releases": releases, "moves": moves})))
}

async fn undo(
    State(gateway): State<Gateway>,
    caller: Caller,
    headers: HeaderMap,
    Path(task): Path<String>,
    Body(body): Body,
) -> Result<Json<Value>, ApiError> {
    let task = task_name(&task)?;
    let Undo { to, reason, owner } = said::parse(&body)?;
    let said = Said::read(&caller, &headers, Who { reason, owner, force: false })?;
    said.refuse_if_match("is for releases; an undoing is about the pointer, and needs no reading")?;
    let channel = blocking(&gateway, move |gateway| {
        gateway.registry.undo(&task, to.as_ref(), said.change(&*gateway.clock))?;
        Ok(gateway.registry.channel(&task)?)
    })
    .await?;
    Ok(Json(json!(channel)))
}

/// The registry's disk is waited for off the threads that serve.
async fn blocking<T: Send + 'static>(
    gateway: &Gateway,
    work: impl FnOnce(&Gateway) -> Result<T, Refused> + Send + 'static,
) -> Result<T, ApiError> {
    let gateway = gateway.clone();
    let done = tokio::task::spawn_blocking(move || work(&gateway)).await;
    Ok(done.map_err(|why| ApiError::internal(why.to_string()))??)
}

fn told(release: &ReleaseRecord) -> Response {
    ([(header::ETAG, etag(release))], Json(json!(release))).into_response()
}

fn etag(release: &ReleaseRecord) -> String {
    format!("\"{}\"", release.revision)
}

fn release_id(text: &str) -> Result<ReleaseId, ApiError> {
    text.parse().map_err(|_| ApiError::not_found(format!("there is no release {text}")))
}

fn task_name(text: &str) -> Result<TaskName, ApiError> {
    text.parse().map_err(|why| ApiError::bad_field("task", format!("{why}")))
}
