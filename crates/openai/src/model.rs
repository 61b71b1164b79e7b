//! `GET /v1/models`: vLLM's cards, with lineage.

use serde_json::{Map, Value, json};

/// One name that can be asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelCard {
    pub id: String,
    /// Seconds since 1970.
    pub created: i64,
    /// What it is made of: a registry reference or the base's name, never a path.
    pub root: String,
    /// The base under an adapter or a route.
    pub parent: Option<String>,
    pub max_model_len: usize,
    /// What only some have: an adapter's generation, rank and bytes, a task's route.
    pub more: Map<String, Value>,
}

impl ModelCard {
    pub fn to_json(&self) -> Value {
        let mut card = json!({
            "id": self.id,
            "object": "model",
            "created": self.created,
            "owned_by": "understudy",
            "root": self.root,
            "parent": self.parent,
            "max_model_len": self.max_model_len,
            "permission": [],
        });
        for (name, value) in &self.more {
            card[name] = value.clone();
        }
        card
    }
}

pub fn model_list(cards: &[ModelCard]) -> Value {
    json!({"object": "list", "data": cards.iter().map(ModelCard::to_json).collect::<Vec<_>>()})
}
