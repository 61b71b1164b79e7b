//! What a completion must be: OpenAI's `response_format` and vLLM's `structured_outputs`.

use serde_json::Value;
use understudy_inference::Constraint;

use crate::{error::RequestError, fields::Fields};

/// What vLLM knows beside the constraints, and the values that ask for nothing.
const UNSUPPORTED: [(&str, &Value); 4] = [
    ("structural_tag", &Value::Null),
    ("whitespace_pattern", &Value::Null),
    ("disable_any_whitespace", &Value::Bool(false)),
    ("disable_additional_properties", &Value::Bool(false)),
];

/// The one constraint a request asks for, if any.
pub(crate) fn constraint(fields: &Fields) -> Result<Option<Constraint>, RequestError> {
    match (response_format(fields)?, structured_outputs(fields)?) {
        (Some(_), Some(_)) => {
            Err(fields.wrong("structured_outputs", "cannot be combined with `response_format`"))
        }
        (one, other) => Ok(one.or(other)),
    }
}

fn response_format(fields: &Fields) -> Result<Option<Constraint>, RequestError> {
    let Some(format) = fields.object("response_format")? else { return Ok(None) };
    let wrong = |why: &str| Err(fields.wrong("response_format", why));
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(Constraint::JsonObject)),
        Some("json_schema") => match format.get("json_schema").and_then(Value::as_object) {
            None => wrong("needs `json_schema` when its type is json_schema"),
            Some(named) => match named.get("schema") {
                Some(schema @ (Value::Object(_) | Value::Bool(_))) => {
                    Ok(Some(Constraint::JsonSchema(schema.clone())))
                }
                _ => wrong("needs an object `json_schema.schema`"),
            },
        },
        _ => wrong("must have the type text, json_object or json_schema"),
    }
}

fn structured_outputs(fields: &Fields) -> Result<Option<Constraint>, RequestError> {
    if fields.object("structured_outputs")?.is_none() {
        return Ok(None);
    }
    let asked = fields.inner("structured_outputs", "structured_outputs.")?;
    for (name, neutral) in UNSUPPORTED {
        if asked.named(name).is_some_and(|value| value != neutral) {
            return Err(asked.refused(name));
        }
    }
    let known = ["json", "regex", "choice", "grammar", "json_object"];
    let named: Vec<&str> = asked.names().filter(|name| known.contains(name)).collect();
    let [name] = named[..] else {
        let why = format!("must hold exactly one of {}", known.join(", "));
        return Err(fields.wrong("structured_outputs", why));
    };
    match name {
        "json" => schema(&asked).map(Some),
        "regex" => Ok(asked.text("regex")?.map(Constraint::Regex)),
        "grammar" => Ok(asked.text("grammar")?.map(Constraint::Grammar)),
        "json_object" => Ok(asked.flag("json_object")?.then_some(Constraint::JsonObject)),
        _ => match asked.texts("choice")? {
            texts if texts.is_empty() => Err(asked.wrong("choice", "must hold at least one text")),
            texts => Ok(Some(Constraint::Choice(texts))),
        },
    }
}

/// vLLM takes a schema as an object or as the text of one.
fn schema(asked: &Fields) -> Result<Constraint, RequestError> {
    let parsed = match asked.get("json") {
        Some(Value::String(text)) => serde_json::from_str(text).ok(),
        other => other.cloned(),
    };
    match parsed {
        Some(schema @ (Value::Object(_) | Value::Bool(_))) => Ok(Constraint::JsonSchema(schema)),
        _ => Err(asked.wrong("json", "must be a JSON schema")),
    }
}
