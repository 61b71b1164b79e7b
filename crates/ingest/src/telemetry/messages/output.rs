//! The whole answer of a model, as some sources keep it in one JSON value.

use serde_json::Value;
use understudy_message::{Message, Role};

use super::Reader;

/// What an answer tells beside its messages.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) messages: Vec<Message>,
    pub(crate) finish: Option<String>,
    pub(crate) response_id: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) usage: Option<Value>,
}

/// Reads an OpenAI chat completion or response, a LangChain result, messages, or a text.
pub(crate) fn read_output(reader: &mut Reader, value: &Value) -> Output {
    let text = |pointer: &str| {
        let found = value.pointer(pointer).and_then(Value::as_str);
        found.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    if let Some(Value::Array(choices)) = value.get("choices") {
        return Output {
            messages: choices.iter().flat_map(|c| reader.read(c, Role::Assistant)).collect(),
            finish: text("/choices/0/finish_reason"),
            response_id: text("/id"),
            model: text("/model"),
            usage: value.get("usage").cloned(),
        };
    }
    if let Some(Value::Array(prompts)) = value.get("generations") {
        let message = "/generations/0/0/message";
        let metadata = ["kwargs/response_metadata", "data/response_metadata", "response_metadata"]
            .iter()
            .find_map(|place| value.pointer(&format!("{message}/{place}")));
        let told = |name: &str| metadata?.get(name)?.as_str().map(str::to_owned);
        let usage = ["kwargs/usage_metadata", "data/usage_metadata", "usage_metadata"]
            .iter()
            .find_map(|place| value.pointer(&format!("{message}/{place}")));
        let choices = prompts.iter().filter_map(Value::as_array).flatten();
        return Output {
            messages: choices.flat_map(|c| generation(reader, c)).collect(),
            finish: text("/generations/0/0/generation_info/finish_reason")
                .or_else(|| told("finish_reason")),
            response_id: told("id"),
            model: told("model_name").or_else(|| told("model")),
            usage: usage.or_else(|| value.pointer("/llm_output/token_usage")).cloned(),
        };
    }
    if let Some(Value::Array(items)) = value.get("output") {
        let is_response = value.get("object").and_then(Value::as_str) == Some("response");
        return Output {
            messages: reader.read(&Value::Array(items.clone()), Role::Assistant),
            response_id: text("/id").filter(|_| is_response),
            model: text("/model"),
            usage: value.get("usage").cloned(),
            finish: None,
        };
    }
    let inner = value.get("output").unwrap_or(value);
    let messages = reader.read(inner, Role::Assistant);
    Output { messages, finish: text("/0/finish_reason"), ..Output::default() }
}

/// A generation of a completion model has a text and no message.
fn generation(reader: &mut Reader, choice: &Value) -> Vec<Message> {
    let inner = choice.get("message").or_else(|| choice.get("text"));
    inner.map(|inner| reader.read(inner, Role::Assistant)).unwrap_or_default()
}
