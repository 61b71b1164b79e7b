//! TRL data sets: prompt and completion, judged or not, and preference pairs.

use serde_json::Value;
use understudy_message::Message;
use understudy_trajectory::Signal;

use crate::{
    Row,
    example::{Example, messages, split_reply, tools},
};

pub(crate) fn read(row: &Row) -> Result<Example, String> {
    match (row.get("completion"), row.get("chosen"), row.get("rejected")) {
        (Some(completion), None, None) => {
            let (prompt, reply) = conversation(row, "completion", completion)?;
            Ok(Example { prompt, reply, tools: tools(row)?, signal: label(row)? })
        }
        (None, Some(chosen), Some(rejected)) => pair(row, chosen, rejected),
        _ => Err("expected either `completion`, or `chosen` and `rejected`".to_owned()),
    }
}

/// The rejected reply is what was said, the chosen one what somebody would have had instead.
fn pair(row: &Row, chosen: &Value, rejected: &Value) -> Result<Example, String> {
    let (prompt, chosen) = conversation(row, "chosen", chosen)?;
    let (other, rejected) = conversation(row, "rejected", rejected)?;
    if prompt != other {
        return Err("`chosen` and `rejected` part before their last message".to_owned());
    }
    if !chosen.tool_calls.is_empty() || !chosen.content.is_text_only() || chosen.text().is_empty() {
        return Err("the last message of `chosen` is not text, as an edit has to be".to_owned());
    }
    if chosen == rejected {
        return Err("`chosen` and `rejected` are the same".to_owned());
    }
    let signal = Signal::Edit { text: chosen.text() };
    Ok(Example { prompt, reply: rejected, tools: tools(row)?, signal })
}

/// Everything up to the reply, and the reply. The prompt may stand apart, or be repeated at the
/// start of the turns, or stand only there.
fn conversation(row: &Row, field: &str, turns: &Value) -> Result<(Vec<Message>, Message), String> {
    let prompt = match row.get("prompt") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => vec![Message::user(text)],
        Some(list) => messages("prompt", list)?,
    };
    let turns = match turns {
        Value::String(text) => vec![Message::assistant(text)],
        list => messages(field, list)?,
    };
    let (before, reply) = split_reply(field, turns)?;
    let prompt = if before.starts_with(&prompt) { before } else { [prompt, before].concat() };
    Ok((prompt, reply))
}

/// Unpaired data says of each reply whether it was wanted.
fn label(row: &Row) -> Result<Signal, String> {
    match row.get("label") {
        None | Some(Value::Null | Value::Bool(true)) => Ok(Signal::Accept),
        Some(Value::Bool(false)) => Ok(Signal::Rating { value: 0.0 }),
        Some(_) => Err("`label` is neither true nor false".to_owned()),
    }
}
