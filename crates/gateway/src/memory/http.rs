//! What agents ask of the memory directly.

use std::sync::atomic::Ordering;

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use understudy_memory::{HealRequest, MemoryError, Query, Room, estimated_tokens};

use super::Memories;
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
    let view = shared.view(&caller).map_err(|why| failed(&why))?;
    let reply = view.library(shared).heal(&request, shared.clock.now());
    Ok(Json(json!(reply.map_err(|why| failed(&why))?)))
}

async fn healed(
    State(gateway): State<Gateway>,
    Path(id): Path<String>,
    Body(body): Body,
) -> Result<Json<Value>, ApiError> {
    let shared = &memories(&gateway)?.shared;
    let Healed { worked } = parse(&body)?;
    let wrong = |why| ApiError::bad_field("id", format!("{why}"));
    let id: understudy_memory::MemoryId = id.parse().map_err(wrong)?;
    let now = shared.clock.now();
    shared.store.get(&id, now).map_err(|why| ApiError::not_found(why.to_string()))?;
    // Every report counts: it stands for a request of its own.
    let request = format!("heal {}", understudy_ident::StepId::generate());
    let counted = shared
        .store
        .considered(&request, std::slice::from_ref(&id), &[], now)
        .and_then(|()| shared.store.outcome(&request, worked, now));
    Ok(Json(json!({"noted": id, "consequences": counted.map_err(|why| failed(&why))?})))
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
    let room = Room { tokens: shared.settings().max_tokens, count: &estimated_tokens };
    let view = shared.view(&caller).map_err(|why| failed(&why))?;
    let retrieved = shared.retrieve(&view, &query, room);
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
