//! `GET /v1/models`: the base, loaded adapters, and every routed task, with lineage.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use serde_json::{Map, Value, json};
use understudy_openai::{ModelCard, model_list};

use crate::{adapters::routed, auth::Caller, error::ApiError, routing, state::Gateway};

pub(crate) async fn list(State(gateway): State<Gateway>, caller: Caller) -> Json<Value> {
    Json(model_list(&cards(&gateway, &caller)))
}

/// Names may hold slashes, so the rest of the path is one.
pub(crate) async fn one(
    State(gateway): State<Gateway>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(id) = id?;
    let found = cards(&gateway, &caller).into_iter().find(|card| card.id == id);
    found.map(|card| Json(card.to_json())).ok_or_else(|| routing::unknown(&gateway, &caller, &id))
}

/// Whether a name stands for anything; nobody has to give one.
pub(crate) fn check(
    gateway: &Gateway,
    caller: &Caller,
    model: Option<&str>,
) -> Result<(), ApiError> {
    match model {
        Some(name) if !cards(gateway, caller).iter().any(|card| card.id == name) => {
            Err(routing::unknown(gateway, caller, name))
        }
        _ => Ok(()),
    }
}

/// What there is for this caller, by the names that the caller has for it.
fn cards(gateway: &Gateway, caller: &Caller) -> Vec<ModelCard> {
    let base = gateway.student.base().to_owned();
    let card = |id: &str, parent: Option<&str>, more: Map<String, Value>| ModelCard {
        id: id.to_owned(),
        created: gateway.started().as_second(),
        root: id.to_owned(),
        parent: parent.map(str::to_owned),
        max_model_len: gateway.student.context(),
        more,
    };
    let identity =
        gateway.student.identity().map(|identity| ("identity".to_owned(), json!(identity)));
    let mut cards = vec![card(&base, None, identity.into_iter().collect())];
    let routed = routed(gateway);
    for adapter in gateway.student.adapters() {
        if !caller.owns(&adapter.alias) {
            continue;
        }
        let more = [
            ("adapter_generation", json!(adapter.generation)),
            ("rank", json!(adapter.rank)),
            ("bytes", json!(adapter.bytes)),
        ];
        let stage = routed.get(&adapter.alias).map(|stage| ("labels", json!({ "stage": stage })));
        let more = more.into_iter().chain(stage);
        let more = more.map(|(name, value)| (name.to_owned(), value)).collect();
        cards.push(card(caller.local(&adapter.alias), Some(&base), more));
    }
    for (task, entry) in gateway.routes.snapshot().iter() {
        if !caller.owns(task.as_str()) {
            continue;
        }
        let more = [("route", json!(entry.route)), ("release", json!(entry.release))];
        let more = more.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        cards.push(card(caller.local(task.as_str()), Some(&base), more));
    }
    cards.retain(|card| caller.may_see(&card.id));
    cards
}
