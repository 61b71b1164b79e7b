//! JSON-RPC 2.0: what is a request, and what is not.

use serde_json::{Value, json};

pub(crate) const PARSE_ERROR: i64 = -32_700;
pub(crate) const INVALID_REQUEST: i64 = -32_600;
pub(crate) const METHOD_NOT_FOUND: i64 = -32_601;
pub(crate) const INVALID_PARAMS: i64 = -32_602;

/// A message that wants an answer.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) id: &'a Value,
    pub(crate) method: &'a str,
    pub(crate) params: &'a Value,
}

/// Why there is no result.
#[derive(Debug)]
pub(crate) struct Refusal {
    code: i64,
    message: String,
}

impl Refusal {
    pub(crate) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl<'a> Request<'a> {
    /// `None` for what wants no answer: a notification, or the answer to a question nobody asked.
    pub(crate) fn read(message: &'a Value) -> Result<Option<Self>, Refusal> {
        let invalid = |why: &str| Err(Refusal::new(INVALID_REQUEST, why));
        let Some(fields) = message.as_object() else {
            return invalid(
                "a message is an object; batches are not part of the protocol any more",
            );
        };
        if fields.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
            return invalid("`jsonrpc` must be \"2.0\"");
        }
        let Some(method) = fields.get("method") else {
            let answers = fields.contains_key("result") || fields.contains_key("error");
            return if answers { Ok(None) } else { invalid("`method` is missing") };
        };
        let Some(method) = method.as_str() else { return invalid("`method` must be a string") };
        match fields.get("id") {
            None => Ok(None),
            Some(id @ (Value::String(_) | Value::Number(_))) => {
                let params = fields.get("params").unwrap_or(&Value::Null);
                Ok(Some(Self { id, method, params }))
            }
            Some(_) => invalid("`id` must be a string or a number"),
        }
    }
}

pub(crate) fn error(id: &Value, refusal: &Refusal) -> Value {
    // An id that could not have been one is not echoed.
    let id = if id.is_string() || id.is_number() { id } else { &Value::Null };
    let Refusal { code, message } = refusal;
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
}
