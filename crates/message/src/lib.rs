//! What is said: roles, parts, tool calls and results.
//!
//! Guarantees: one [`Message`] type from the wire to the trainer, whose JSON is the OpenAI chat
//! form, so that a captured message can be replayed byte for byte in meaning.
//!
//! Never: knows models, templates or trajectories.

mod content;
mod tool;

use serde::{Deserialize, Serialize};

pub use content::{Content, Part};
pub use tool::{FunctionCall, ToolCall};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// `developer` is what newer OpenAI clients call the same thing.
    #[serde(alias = "developer")]
    System,
    User,
    Assistant,
    Tool,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One text, directive or tool payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    /// Empty when an assistant only calls tools; `null` on the wire reads as empty.
    #[serde(default)]
    pub content: Content,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Which call a tool message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Message {
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        let content = Content::text(text);
        Self { role, content, name: None, tool_calls: Vec::new(), tool_call_id: None }
    }

    /// The same message with every text somebody wrote in it replaced: content, name and the arguments
    /// of calls, in this order.
    #[must_use]
    pub fn map_text(&self, mut replace: impl FnMut(&str) -> String) -> Self {
        let mut message = self.clone();
        message.content = self.content.map_text(&mut replace);
        message.name = self.name.as_deref().map(&mut replace);
        for call in &mut message.tool_calls {
            call.function.arguments = replace(&call.function.arguments);
        }
        message
    }

    pub fn system(text: impl Into<String>) -> Self {
        Self::new(Role::System, text)
    }

    pub fn user(text: impl Into<String>) -> Self {
        Self::new(Role::User, text)
    }

    pub fn assistant(text: impl Into<String>) -> Self {
        Self::new(Role::Assistant, text)
    }

    /// All text of the message, parts joined in order; parts of other kinds contribute nothing.
    pub fn text(&self) -> String {
        self.content.to_text()
    }
}

/// Clients that fill every field send `"tool_calls": null`.
fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<ToolCall>, D::Error> {
    Ok(Option::<Vec<ToolCall>>::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests;
