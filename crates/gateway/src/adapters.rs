//! vLLM's adapter lifecycle and the list of models.

use std::path::Path;

use axum::{
    Json,
    body::Bytes,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{error::ApiError, state::Gateway};

#[derive(Debug, Deserialize)]
struct LoadRequest {
    lora_name: String,
    lora_path: String,
    #[serde(default)]
    load_inplace: bool,
}

#[derive(Debug, Deserialize)]
struct UnloadRequest {
    lora_name: String,
}

/// `POST /v1/load_lora_adapter`: answers in plain text, as vLLM does.
pub(crate) async fn load(
    State(gateway): State<Gateway>,
    body: Bytes,
) -> Result<Response, ApiError> {
    allowed(&gateway)?;
    let load: LoadRequest = parse(&body)?;
    let loaded = gateway.student.adapters().iter().any(|adapter| adapter.alias == load.lora_name);
    if loaded && !load.load_inplace {
        let message =
            format!("`{}` is loaded already; set load_inplace to replace it", load.lora_name);
        return Err(ApiError::bad_field("lora_name", message));
    }
    if load.lora_name == gateway.student.base() {
        return Err(ApiError::bad_field(
            "lora_name",
            "an adapter can't take the base model's name",
        ));
    }
    if !Path::new(&load.lora_path).is_dir() {
        let message = format!(
            "Loading lora {} failed: no adapter directory at {}",
            load.lora_name, load.lora_path
        );
        return Err(ApiError::not_found(message));
    }
    let (name, path) = (load.lora_name.clone(), load.lora_path);
    let student = std::sync::Arc::clone(&gateway.student);
    // Reading and checking files would hold up the other requests of this thread.
    tokio::task::spawn_blocking(move || student.load_adapter(&name, Path::new(&path)))
        .await
        .map_err(|why| ApiError::internal(format!("loading stopped: {why}")))??;
    let text = format!("Success: LoRA adapter '{}' added successfully.", load.lora_name);
    Ok(text.into_response())
}

/// `POST /v1/unload_lora_adapter`. Requests in flight finish on what they started with.
pub(crate) async fn unload(
    State(gateway): State<Gateway>,
    body: Bytes,
) -> Result<Response, ApiError> {
    allowed(&gateway)?;
    let unload: UnloadRequest = parse(&body)?;
    let routed = gateway.routes.snapshot().iter().any(|(_, entry)| {
        let names = |target: &understudy_router::Target| match target {
            understudy_router::Target::Adapter { version, .. } => *version == unload.lora_name,
            understudy_router::Target::Teacher | understudy_router::Target::Base => false,
        };
        names(&entry.route.stable)
            || entry.route.canary.as_ref().is_some_and(|canary| names(&canary.target))
    });
    if routed {
        let message = format!("`{}` is serving a route; roll it back first", unload.lora_name);
        return Err(ApiError::conflict(message));
    }
    gateway.student.unload_adapter(&unload.lora_name)?;
    let text = format!("Success: LoRA adapter '{}' removed successfully.", unload.lora_name);
    Ok(text.into_response())
}

/// `GET /v1/models`: the base, loaded adapters, and every routed task.
pub(crate) async fn models(State(gateway): State<Gateway>) -> Json<Value> {
    let base = gateway.student.base().to_owned();
    let card = |id: &str, root: &str, parent: Option<&str>| {
        json!({
            "id": id, "object": "model", "created": 0, "owned_by": "understudy",
            "root": root, "parent": parent,
        })
    };
    let mut data = vec![card(&base, &base, None)];
    for adapter in gateway.student.adapters() {
        let mut entry = card(&adapter.alias, &adapter.alias, Some(&base));
        entry["adapter_generation"] = json!(adapter.generation);
        entry["rank"] = json!(adapter.rank);
        entry["bytes"] = json!(adapter.bytes);
        data.push(entry);
    }
    for (task, entry) in gateway.routes.snapshot().iter() {
        let mut card = card(task.as_str(), task.as_str(), Some(&base));
        card["route"] = json!(entry.route);
        card["release"] = json!(entry.release);
        data.push(card);
    }
    Json(json!({"object": "list", "data": data}))
}

fn allowed(gateway: &Gateway) -> Result<(), ApiError> {
    if gateway.adapter_updates {
        return Ok(());
    }
    Err(ApiError::forbidden(
        "adapters are loaded by releases here; start with --allow-adapter-updates \
         to load them by hand",
    ))
}

fn parse<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|why| ApiError::bad_request(why.to_string()))
}
