//! What was said in a sample: messages of Inspect as messages of ours.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use understudy_message::{FunctionCall, Message, Role, ToolCall};

use crate::suite::Take;

/// A text that stands among the sample's attachments.
const ATTACHMENT: &str = "attachment://";

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Said {
    role: Role,
    #[serde(default)]
    content: Value,
    /// `input` for what the dataset brought, `generate` for what a model said.
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<Call>>,
    #[serde(default)]
    tool_call_id: Option<String>,
    /// Of a tool that failed.
    #[serde(default)]
    error: Option<Failure>,
}

#[derive(Debug, Clone, Deserialize)]
struct Call {
    #[serde(default)]
    id: String,
    function: String,
    #[serde(default)]
    arguments: Value,
}

#[derive(Debug, Clone, Deserialize)]
struct Failure {
    #[serde(default)]
    message: String,
}

/// A sample as a question and what came of it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Asked {
    pub prompt: Vec<Message>,
    /// Everything after the prompt.
    pub steps: Vec<Message>,
}

/// Messages as they stand.
pub(super) fn messages(
    said: &[Said],
    attachments: &BTreeMap<String, String>,
) -> Result<Vec<Message>, String> {
    said.iter().map(|one| one.message(attachments)).collect()
}

impl Asked {
    pub(super) fn of(
        said: &[Said],
        attachments: &BTreeMap<String, String>,
        take: Take,
    ) -> Result<Self, String> {
        if said.is_empty() {
            return Err("it has no messages; was it run?".to_owned());
        }
        let is_reply = |one: &Said| one.role == Role::Assistant && !one.was_given();
        let first = said.iter().position(is_reply).unwrap_or(said.len());
        let last = said.iter().rposition(is_reply).unwrap_or(said.len());
        let asked = match take {
            Take::LastReply => last,
            Take::Reply | Take::Scores => first,
        };
        if take == Take::Reply && !is_single(&said[first..]) {
            return Err(
                "`messages` took several turns, and one reply is asked here: --last-reply \
                 asks the last one after all before it, --recorded-scores takes the log's scores"
                    .to_owned(),
            );
        }
        // What came after the last reply, as the user's turn that a limit cut off, is no reply.
        let end = if take == Take::LastReply { (last + 1).min(said.len()) } else { said.len() };
        let prompt = messages(&said[..asked], attachments)?;
        Ok(Self { prompt, steps: messages(&said[asked..end], attachments)? })
    }

    /// The last that the model said.
    pub(super) fn reply(&self) -> Option<&Message> {
        self.steps.iter().rfind(|message| message.role == Role::Assistant)
    }
}

/// One reply that asks for no tool, or none.
fn is_single(said: &[Said]) -> bool {
    said.len() <= 1 && said.iter().all(|one| one.tool_calls.as_ref().is_none_or(Vec::is_empty))
}

impl Said {
    fn was_given(&self) -> bool {
        self.source.as_deref() == Some("input")
    }

    fn message(&self, attachments: &BTreeMap<String, String>) -> Result<Message, String> {
        let mut said = text(&self.content, attachments)?;
        if let (true, Some(Failure { message })) = (said.is_empty(), &self.error) {
            said.clone_from(message);
        }
        let mut message = Message::new(self.role, said);
        message.tool_call_id.clone_from(&self.tool_call_id);
        message.tool_calls = self.tool_calls.iter().flatten().map(Call::read).collect();
        Ok(message)
    }
}

impl Call {
    fn read(&self) -> ToolCall {
        let arguments = match &self.arguments {
            Value::Null => "{}".to_owned(),
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        let function = FunctionCall { name: self.function.clone(), arguments };
        ToolCall { id: self.id.clone(), kind: "function".to_owned(), function }
    }
}

/// A text, or parts of text; a model's thoughts are no part of what it said.
fn text(content: &Value, attachments: &BTreeMap<String, String>) -> Result<String, String> {
    let resolved = |text: &str| match text.strip_prefix(ATTACHMENT) {
        Some(id) => attachments
            .get(id)
            .cloned()
            .ok_or_else(|| format!("the attachment `{id}` is not in the log")),
        None => Ok(text.to_owned()),
    };
    match content {
        Value::String(text) => resolved(text),
        Value::Array(parts) => {
            let mut whole = String::new();
            for part in parts {
                match part["type"].as_str() {
                    Some("text") => {
                        whole.push_str(&resolved(part["text"].as_str().unwrap_or_default())?);
                    }
                    Some("reasoning") => {}
                    other => {
                        let kind = other.unwrap_or("unknown");
                        return Err(format!("a message has content of kind `{kind}`"));
                    }
                }
            }
            Ok(whole)
        }
        _ => Err("a message has no content".to_owned()),
    }
}
