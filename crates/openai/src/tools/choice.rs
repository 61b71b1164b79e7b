//! `tools`, `tool_choice` and `parallel_tool_calls`: what may be called, and what must be.

use serde_json::Value;
use understudy_inference::Constraint;

use super::grammar;
use crate::{error::RequestError, fields::Fields};

/// The tools of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tools {
    /// OpenAI definitions, as the template shows them to the model; empty when none may be called.
    pub shown: Vec<Value>,
    pub reading: ToolReading,
    /// The language of replies, where calls must have a form.
    pub constraint: Option<Constraint>,
}

/// How a reply's text is searched for calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ToolReading {
    /// Not at all.
    #[default]
    Off,
    /// A call is shown once it is whole: a model left free may begin one and lose its way.
    Whole,
    /// Arguments are shown as they come: a grammar vouches for them.
    Live,
}

#[derive(Debug, PartialEq)]
enum Choice {
    None,
    Auto,
    Required,
    Named(String),
}

impl Tools {
    pub(crate) fn read(fields: &Fields) -> Result<Self, RequestError> {
        let parallel = fields.flag_or_none("parallel_tool_calls")?.unwrap_or(true);
        let tools = fields.list("tools")?;
        let choice = choice(fields, tools.is_some())?;
        let Some(tools) = tools else { return Ok(Self::default()) };
        if tools.is_empty() {
            return Err(fields.wrong("tools", "must not be empty; leave it out instead"));
        }
        for (n, tool) in tools.iter().enumerate() {
            check(tool).map_err(|why| fields.wrong("tools", format!("[{n}] {why}")))?;
        }
        let constraint = match &choice {
            Choice::None => return Ok(Self::default()),
            Choice::Auto if parallel && !tools.iter().any(is_strict) => None,
            Choice::Auto => Some(grammar::optional(tools, parallel)),
            Choice::Required => Some(grammar::required(tools, parallel)),
            Choice::Named(name) => {
                let chosen: Vec<Value> =
                    tools.iter().filter(|tool| name_of(tool) == Some(name)).cloned().collect();
                if chosen.is_empty() {
                    let why = format!("names `{name}`, which is not among `tools`");
                    return Err(fields.wrong("tool_choice", why));
                }
                Some(grammar::required(&chosen, false))
            }
        };
        let reading = if constraint.is_some() { ToolReading::Live } else { ToolReading::Whole };
        let constraint = constraint.map(Constraint::Grammar);
        Ok(Self { shown: tools.clone(), reading, constraint })
    }
}

fn choice(fields: &Fields, any: bool) -> Result<Choice, RequestError> {
    let choice = match fields.get("tool_choice") {
        None if any => return Ok(Choice::Auto),
        None => return Ok(Choice::None),
        Some(Value::String(word)) => match word.as_str() {
            "none" => Some(Choice::None),
            "auto" => Some(Choice::Auto),
            "required" => Some(Choice::Required),
            _ => None,
        },
        Some(named) => named
            .pointer("/function/name")
            .and_then(Value::as_str)
            .map(|name| Choice::Named(name.to_owned())),
    };
    match choice {
        None => {
            let why = "must be none, auto, required or {\"type\": \"function\", \"function\": \
                       {\"name\": …}}";
            Err(fields.wrong("tool_choice", why))
        }
        Some(Choice::None) => Ok(Choice::None),
        Some(_) if !any => Err(fields.wrong("tool_choice", "needs `tools` to choose from")),
        Some(choice) => Ok(choice),
    }
}

fn check(tool: &Value) -> Result<(), String> {
    if tool.get("type").and_then(Value::as_str) != Some("function") {
        return Err("must have the type function".to_owned());
    }
    match name_of(tool) {
        None | Some("") => return Err("needs `function.name`".to_owned()),
        Some(_) => {}
    }
    match tool.pointer("/function/parameters") {
        None | Some(Value::Object(_) | Value::Null) => Ok(()),
        Some(_) => Err("needs an object as `function.parameters`".to_owned()),
    }
}

pub(super) fn name_of(tool: &Value) -> Option<&str> {
    tool.pointer("/function/name")?.as_str()
}

pub(super) fn is_strict(tool: &Value) -> bool {
    tool.pointer("/function/strict").and_then(Value::as_bool).unwrap_or(false)
}
