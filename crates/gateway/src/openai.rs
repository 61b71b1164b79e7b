//! OpenAI's wire: what a chat request may say, and how replies and chunks are written.

use serde_json::{Map, Value, json};
use understudy_inference::{Completion, Sampling, Usage};
use understudy_message::Message;

use crate::error::ApiError;

const DEFAULT_MAX_TOKENS: u32 = 256;

/// A chat request with every field checked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ChatRequest {
    pub(crate) model: String,
    pub(crate) messages: Vec<Message>,
    pub(crate) sampling: Sampling,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) user: Option<String>,
}

impl ChatRequest {
    /// Reads a body. `null` means absent, unknown fields pass, and a known field asking for
    /// something we do not do is refused by name.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body: Value = serde_json::from_slice(body)
            .map_err(|why| ApiError::bad_request(format!("the body is not JSON: {why}")))?;
        let Value::Object(mut fields) = body else {
            return Err(ApiError::bad_request("the body must be a JSON object"));
        };
        fields.retain(|_, value| !value.is_null());
        refuse_unsupported(&fields)?;
        let stream = flag(&fields, "stream")?;
        let request = Self {
            model: text(&fields, "model")?
                .ok_or_else(|| ApiError::bad_field("model", "`model` is required"))?,
            messages: messages(&fields)?,
            sampling: sampling(&fields)?,
            stream,
            include_usage: include_usage(&fields, stream)?,
            user: text(&fields, "user")?,
        };
        request.sampling.validate()?;
        Ok(request)
    }
}

/// Fields of OpenAI and vLLM with the one value each that asks for nothing special.
fn refuse_unsupported(fields: &Map<String, Value>) -> Result<(), ApiError> {
    let neutral: [(&str, &[Value]); 22] = [
        ("n", &[json!(1)]),
        ("logprobs", &[json!(false)]),
        ("top_logprobs", &[json!(0)]),
        ("presence_penalty", &[json!(0), json!(0.0)]),
        ("frequency_penalty", &[json!(0), json!(0.0)]),
        ("repetition_penalty", &[json!(1), json!(1.0)]),
        ("min_p", &[json!(0), json!(0.0)]),
        ("logit_bias", &[json!({})]),
        ("response_format", &[json!({"type": "text"})]),
        ("tools", &[]),
        ("tool_choice", &[json!("none")]),
        ("functions", &[]),
        ("stop_token_ids", &[json!([])]),
        ("ignore_eos", &[json!(false)]),
        ("min_tokens", &[json!(0)]),
        ("prompt_logprobs", &[]),
        ("return_token_ids", &[json!(false)]),
        ("chat_template", &[]),
        ("continue_final_message", &[json!(false)]),
        ("structured_outputs", &[]),
        ("modalities", &[json!(["text"])]),
        ("audio", &[]),
    ];
    for (name, allowed) in neutral {
        if let Some(value) = fields.get(name)
            && !allowed.contains(value)
        {
            let message = format!("`{name}` is not supported by this server; leave it out");
            return Err(ApiError::bad_field(name, message));
        }
    }
    Ok(())
}

fn messages(fields: &Map<String, Value>) -> Result<Vec<Message>, ApiError> {
    let wrong = |why: String| ApiError::bad_field("messages", why);
    let Some(Value::Array(list)) = fields.get("messages") else {
        return Err(wrong("`messages` must be a list".to_owned()));
    };
    let messages = list
        .iter()
        .enumerate()
        .map(|(n, message)| {
            serde_json::from_value::<Message>(message.clone())
                .map_err(|why| wrong(format!("`messages[{n}]`: {why}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if messages.is_empty() {
        return Err(wrong("`messages` must hold at least one message".to_owned()));
    }
    if let Some(n) = messages.iter().position(|message| !message.content.is_text_only()) {
        return Err(wrong(format!("`messages[{n}]` holds a part that is not text")));
    }
    Ok(messages)
}

fn sampling(fields: &Map<String, Value>) -> Result<Sampling, ApiError> {
    let max_tokens = match integer(fields, "max_completion_tokens")? {
        Some(count) => Some(count),
        None => integer(fields, "max_tokens")?,
    };
    let stop = match fields.get("stop") {
        None => Vec::new(),
        Some(Value::String(one)) => vec![one.clone()],
        Some(several) => serde_json::from_value(several.clone()).map_err(|_| {
            ApiError::bad_field("stop", "`stop` must be a string or a list of them")
        })?,
    };
    Ok(Sampling {
        temperature: number(fields, "temperature")?.unwrap_or(1.0) as f32,
        top_p: number(fields, "top_p")?.unwrap_or(1.0) as f32,
        top_k: integer(fields, "top_k")?.unwrap_or(0) as u32,
        seed: integer(fields, "seed")?,
        max_tokens: max_tokens.unwrap_or(u64::from(DEFAULT_MAX_TOKENS)).min(1 << 20) as u32,
        stop,
        ..Sampling::default()
    })
}

fn include_usage(fields: &Map<String, Value>, stream: bool) -> Result<bool, ApiError> {
    let Some(options) = fields.get("stream_options") else { return Ok(false) };
    if !stream {
        let message = "`stream_options` only applies with `stream: true`";
        return Err(ApiError::bad_field("stream_options", message));
    }
    Ok(options.get("include_usage").and_then(Value::as_bool).unwrap_or(false))
}

fn text(fields: &Map<String, Value>, name: &str) -> Result<Option<String>, ApiError> {
    typed(fields, name, "a string", |value| value.as_str().map(str::to_owned))
}

fn flag(fields: &Map<String, Value>, name: &str) -> Result<bool, ApiError> {
    Ok(typed(fields, name, "true or false", Value::as_bool)?.unwrap_or(false))
}

fn number(fields: &Map<String, Value>, name: &str) -> Result<Option<f64>, ApiError> {
    typed(fields, name, "a number", Value::as_f64)
}

fn integer(fields: &Map<String, Value>, name: &str) -> Result<Option<u64>, ApiError> {
    typed(fields, name, "a whole number, 0 or more", Value::as_u64)
}

fn typed<T>(
    fields: &Map<String, Value>,
    name: &str,
    expected: &str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Option<T>, ApiError> {
    let Some(value) = fields.get(name) else { return Ok(None) };
    let wrong = || ApiError::bad_field(name, format!("`{name}` must be {expected}"));
    read(value).map(Some).ok_or_else(wrong)
}

/// What is the same in a reply and in each chunk of a stream.
#[derive(Debug, Clone)]
pub(crate) struct ReplyHead {
    pub(crate) id: String,
    pub(crate) created: i64,
    /// What answered: adapter version and generation, the base, or the teacher's model.
    pub(crate) model: String,
    pub(crate) fingerprint: String,
}

impl ReplyHead {
    pub(crate) fn reply(&self, completion: &Completion) -> Value {
        let message = json!({"role": "assistant", "content": completion.text, "refusal": null});
        let choice = json!({
            "index": 0,
            "message": message,
            "logprobs": null,
            "finish_reason": completion.finish_reason.as_openai(),
        });
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": [choice],
            "usage": usage(completion.usage),
        })
    }

    pub(crate) fn chunk(&self, delta: Value, finish_reason: Option<&str>) -> Value {
        let choice = json!({
            "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason,
        });
        self.chunk_of(json!([choice]))
    }

    pub(crate) fn usage_chunk(&self, spent: Usage) -> Value {
        let mut chunk = self.chunk_of(json!([]));
        chunk["usage"] = usage(spent);
        chunk
    }

    fn chunk_of(&self, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        })
    }
}

fn usage(spent: Usage) -> Value {
    json!({
        "prompt_tokens": spent.prompt_tokens,
        "completion_tokens": spent.completion_tokens,
        "total_tokens": spent.prompt_tokens + spent.completion_tokens,
    })
}
