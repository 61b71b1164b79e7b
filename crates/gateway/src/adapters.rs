//! vLLM's adapter lifecycle, with compare-and-swap, rollback and a full status.

mod confine;
mod desired;
mod leave;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use understudy_ident::Timestamp;
use understudy_inference::{AdapterInfo, Expected, InferenceError, LoadAdapter, LoadedAdapter};
use understudy_openai::{
    ErrorReply, LoadBody, RollbackBody, UnloadBody, adapter_status, loaded_adapter,
};
use understudy_registry::generation;
use understudy_router::Target;

use self::desired::Desired;
pub(crate) use self::{desired::routed, leave::expire_for_ever};
use crate::{
    auth::Caller,
    body::Body,
    error::ApiError,
    state::{AdapterUpdates, Gateway},
};

/// Loads that clients may have asked for at once, waiting ones included: each keeps a thread.
pub(crate) const MOST_LOADS: usize = 8;

/// `?format=json` asks for the same as `Accept: application/json`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Format {
    format: Option<String>,
}

impl Format {
    /// Only an explicit wish: vLLM's clients accept anything and expect text.
    fn is_json(&self, headers: &HeaderMap) -> bool {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        self.format.as_deref() == Some("json")
            || accept.is_some_and(|accept| accept.contains("application/json"))
    }
}

/// `POST /v1/load_lora_adapter`: answers in plain text, as vLLM does, unless JSON is asked for.
pub(crate) async fn load(
    State(gateway): State<Gateway>,
    caller: Caller,
    format: Result<Query<Format>, QueryRejection>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, ApiError> {
    let roots = allowed(&gateway)?;
    let Query(format) = format?;
    let mut load = LoadBody::parse(&body)?;
    let name = load.name.clone();
    load.name = full(&caller, &name)?;
    if name == gateway.student.base() {
        let why = "an adapter can't take the base model's name";
        return Err(ApiError::bad_field("lora_name", why));
    }
    let loaded = publish(&gateway, &caller, load, roots.to_vec()).await?;
    if format.is_json(&headers) {
        let alias = caller.local(&loaded.adapter.alias).to_owned();
        let adapter = AdapterInfo { alias, ..loaded.adapter };
        return Ok(Json(loaded_adapter(&LoadedAdapter { adapter, ..loaded })).into_response());
    }
    Ok(format!("Success: LoRA adapter '{name}' added successfully.").into_response())
}

async fn publish(
    gateway: &Gateway,
    caller: &Caller,
    load: LoadBody,
    roots: Vec<std::path::PathBuf>,
) -> Result<LoadedAdapter, ApiError> {
    let student = std::sync::Arc::clone(&gateway.student);
    let revoked = gateway.routes.numbered().revoked;
    let name = caller.local(&load.name).to_owned();
    let ttl = load.ttl.map(|ttl| gateway.clock.now().saturating_add(ttl));
    let expires = ttl.map(|at| at.unwrap_or(Timestamp::MAX));
    let must_be_free = load.expected == Expected::Nothing;
    let place = gateway.place_to_load().ok_or_else(busy)?;
    // Reading and checking files would hold up the other requests of this thread.
    let published = tokio::task::spawn_blocking(move || {
        // Also where whoever asked does not wait for it.
        let _place = place;
        let directory = confine::directory(&load.name, &load.path, &roots)?;
        // What cannot be read is for the engine to refuse.
        let content = if revoked.is_empty() { None } else { generation(&directory).ok() };
        if content.is_some_and(|content| revoked.contains(&content.to_hex())) {
            let why = "this content was revoked in the registry, and answers nobody";
            let reply = ErrorReply::new(403, why).about("lora_path");
            return Err(ApiError(reply.because("version_revoked")));
        }
        let LoadBody { name, expected, generation, pinned, keep_previous, on_demand, .. } = load;
        let load = LoadAdapter {
            alias: name,
            directory,
            expected,
            generation,
            pinned,
            expires,
            keep_previous,
            on_demand,
        };
        Ok::<_, ApiError>(student.publish_adapter(load))
    });
    let stopped = |why| ApiError::internal(format!("loading stopped: {why}"));
    match published.await.map_err(stopped)?? {
        Err(InferenceError::AdapterChanged { .. }) if must_be_free => {
            let why = format!(
                "The lora adapter '{name}' has already been loaded. If you want to load the \
                 adapter in place, set 'load_inplace' to true."
            );
            let reply = ErrorReply::new(400, why).about("lora_name");
            Err(ApiError(reply.because("lora_adapter_already_loaded")))
        }
        other => Ok(other?),
    }
}

fn busy() -> ApiError {
    let why = format!(
        "{MOST_LOADS} adapters are being loaded or wait for it, and no more are taken; load this one \
         again in a moment"
    );
    ApiError(ErrorReply::new(429, why).because("lora_load_busy"))
}

/// `POST /v1/unload_lora_adapter`. Requests in flight finish on what they started with, and are waited
/// for where that is asked for.
pub(crate) async fn unload(
    State(gateway): State<Gateway>,
    caller: Caller,
    format: Result<Query<Format>, QueryRejection>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, ApiError> {
    allowed(&gateway)?;
    let Query(format) = format?;
    let UnloadBody { name, drain } = UnloadBody::parse(&body)?;
    let alias = full(&caller, &name)?;
    if is_routed(&gateway, &alias) {
        let message = format!("`{name}` is serving a route; roll it back first");
        return Err(ApiError::conflict(message));
    }
    gateway.student.unload_adapter(&alias).map_err(named)?;
    if let Some(patience) = drain {
        leave::drained(&gateway, &alias, &name, patience).await?;
    }
    if format.is_json(&headers) {
        let drained = drain.map(|_| true);
        let answer = json!({
            "object": "lora_adapter", "alias": name, "unloaded": true, "drained": drained,
        });
        return Ok(Json(answer).into_response());
    }
    Ok(format!("Success: LoRA adapter '{name}' removed successfully.").into_response())
}

/// `POST /v1/rollback_lora_adapter`: points an alias back at a generation still in memory.
pub(crate) async fn rollback(
    State(gateway): State<Gateway>,
    caller: Caller,
    Body(body): Body,
) -> Result<Json<Value>, ApiError> {
    allowed(&gateway)?;
    let RollbackBody { name, to } = RollbackBody::parse(&body)?;
    let alias = full(&caller, &name)?;
    let adapter = gateway.student.rollback_adapter(&alias, to.as_deref()).map_err(named)?;
    Ok(Json(shown(&caller, adapter)))
}

/// `GET /v1/lora_adapters`: every adapter that is held or should be, as it is and as it should be.
pub(crate) async fn status(
    State(gateway): State<Gateway>,
    caller: Caller,
) -> Result<Json<Value>, ApiError> {
    let failed = |why: String| {
        ApiError::unavailable(format!(
            "the registry could not be asked which adapters it wants: {why}"
        ))
    };
    let asked = gateway.clone();
    let desired = tokio::task::spawn_blocking(move || Desired::read(&asked))
        .await
        .map_err(|why| failed(why.to_string()))?
        .map_err(|why| failed(why.to_string()))?;
    let student = &gateway.student;
    // Asked first: what arrives in between is said to be on its way, and not to be missing.
    let attempts = student.attempts();
    let rows = desired.beside(&student.adapters(), &attempts, &caller);
    let in_sync = rows.iter().all(|row| row["in_sync"] != json!(false));
    let mut list = json!({"object": "list", "data": rows, "in_sync": in_sync});
    // How full the machine is says something about all tenants.
    if caller.tenant().is_none() {
        let stats = student.stats();
        list["resident"] =
            json!({"adapters": stats.resident_adapters, "bytes": stats.resident_bytes});
    }
    Ok(Json(list))
}

fn shown(caller: &Caller, mut adapter: AdapterInfo) -> Value {
    adapter.alias = caller.local(&adapter.alias).to_owned();
    adapter_status(&adapter)
}

fn full(caller: &Caller, name: &str) -> Result<String, ApiError> {
    caller.full(name).ok_or_else(|| {
        let why = format!(
            "`{name}` cannot be your adapter's name: what comes before a dot is whose it is"
        );
        ApiError::bad_field("lora_name", why)
    })
}

/// The directories adapters may come from, where they may come at all.
pub(crate) fn allowed(gateway: &Gateway) -> Result<&[std::path::PathBuf], ApiError> {
    match &gateway.adapter_updates {
        AdapterUpdates::Under(roots) => Ok(roots),
        AdapterUpdates::Forbidden => Err(ApiError::forbidden(
            "adapters are loaded by releases here; start with --allow-adapter-updates to load \
             them by hand",
        )),
    }
}

/// An unknown adapter is here the fault of `lora_name`.
fn named(error: InferenceError) -> ApiError {
    let ApiError(reply) = ApiError::from(error);
    let is_model = reply.param.as_deref() == Some("model");
    ApiError(if is_model { reply.about("lora_name") } else { reply })
}

fn is_routed(gateway: &Gateway, alias: &str) -> bool {
    let names = |target: &Target| match target {
        Target::Adapter { version, .. } => version == alias,
        Target::Teacher | Target::Base => false,
    };
    gateway.routes.snapshot().iter().any(|(_, entry)| {
        names(&entry.route.stable)
            || entry.route.canary.as_ref().is_some_and(|canary| names(&canary.target))
    })
}
