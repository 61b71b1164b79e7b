//! `GET /v1/models`: the base, loaded adapters, and every routed task, with lineage.

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
};
use serde_json::{Map, Value, json};
use understudy_openai::{ModelCard, model_list};

use crate::{error::ApiError, routing, state::Gateway};

pub(crate) async fn list(State(gateway): State<Gateway>) -> Json<Value> {
    Json(model_list(&cards(&gateway)))
}

/// Names may hold slashes, so the rest of the path is one.
pub(crate) async fn one(
    State(gateway): State<Gateway>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, ApiError> {
    let Path(id) = id?;
    let found = cards(&gateway).into_iter().find(|card| card.id == id);
    found.map(|card| Json(card.to_json())).ok_or_else(|| routing::unknown(&gateway, &id))
}

/// Whether a name stands for anything; nobody has to give one.
pub(crate) fn check(gateway: &Gateway, model: Option<&str>) -> Result<(), ApiError> {
    match model {
        Some(name) if !cards(gateway).iter().any(|card| card.id == name) => {
            Err(routing::unknown(gateway, name))
        }
        _ => Ok(()),
    }
}

fn cards(gateway: &Gateway) -> Vec<ModelCard> {
    let base = gateway.student.base().to_owned();
    let card = |id: &str, parent: Option<&str>, more: Map<String, Value>| ModelCard {
        id: id.to_owned(),
        created: gateway.started().as_second(),
        root: id.to_owned(),
        parent: parent.map(str::to_owned),
        max_model_len: gateway.student.context(),
        more,
    };
    let mut cards = vec![card(&base, None, Map::new())];
    for adapter in gateway.student.adapters() {
        let more = [
            ("adapter_generation", json!(adapter.generation)),
            ("rank", json!(adapter.rank)),
            ("bytes", json!(adapter.bytes)),
        ];
        let more = more.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        cards.push(card(&adapter.alias, Some(&base), more));
    }
    for (task, entry) in gateway.routes.snapshot().iter() {
        let more = [("route", json!(entry.route)), ("release", json!(entry.release))];
        let more = more.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        cards.push(card(task.as_str(), Some(&base), more));
    }
    cards
}
