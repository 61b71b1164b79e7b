//! The parts of one message: text, calls, results, media and what cannot be interpreted.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value, json};
use understudy_ident::Digest;
use understudy_message::{Content, Message, Role, ToolCall};

use super::{HIDDEN, Reader, content, result_text, tool_call};

#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) content: Vec<Value>,
    pub(super) calls: Vec<ToolCall>,
    /// Results inside a message of another role, as messages of their own.
    pub(super) results: Vec<Message>,
}

impl Parts {
    pub(super) fn read(&mut self, reader: &mut Reader, value: &Value) {
        match value {
            Value::String(text) => self.text(reader, text),
            Value::Array(items) => items.iter().for_each(|item| self.read(reader, item)),
            Value::Object(part) => self.part(reader, part),
            Value::Null => {}
            Value::Bool(_) | Value::Number(_) => self.text(reader, &value.to_string()),
        }
    }

    pub(super) fn content(&mut self) -> Content {
        content(std::mem::take(&mut self.content))
    }

    pub(super) fn other(&mut self, kind: &str, field: &str, text: &str) {
        self.content.push(json!({"type": kind, field: text}));
    }

    fn text(&mut self, reader: &mut Reader, text: &str) {
        if text == HIDDEN {
            reader.hidden += 1;
            self.content.push(json!({"type": "hidden"}));
        } else if !text.is_empty() {
            self.content.push(json!({"type": "text", "text": text}));
        }
    }

    fn part(&mut self, reader: &mut Reader, part: &Map<String, Value>) {
        // OpenInference wraps each part.
        if let Some(inner) = part.get("message_content") {
            return self.read(reader, inner);
        }
        let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
        let said = ["text", "content", "reasoning", "thinking", "refusal"]
            .iter()
            .find_map(|name| part.get(*name).and_then(Value::as_str));
        match (kind, said) {
            ("text" | "input_text" | "output_text" | "", Some(text)) => self.text(reader, text),
            ("reasoning" | "thinking", Some(text)) => self.other("reasoning", "text", text),
            ("refusal", Some(text)) => self.other("refusal", "refusal", text),
            ("tool_call" | "tool_use" | "tool-call" | "function_call", _) => {
                self.calls.extend(tool_call(&Value::Object(part.clone())));
            }
            ("tool_call_response" | "tool_result" | "tool-result", _) => {
                self.results.push(tool_result(part));
            }
            (
                "image_url" | "input_image" | "image" | "blob" | "uri" | "file" | "input_audio",
                _,
            ) => {
                self.media(reader, part);
            }
            ("", None) => self.content.push(json!({"type": "json", "json": part})),
            _ => self.content.push(Value::Object(part.clone())),
        }
    }

    /// Inline media leave their bytes with the reader; only the digest stays in the message.
    fn media(&mut self, reader: &mut Reader, part: &Map<String, Value>) {
        let told = |names: &[&str]| {
            let texts = |holder: &Map<String, Value>| {
                names.iter().find_map(|name| holder.get(*name)?.as_str().map(str::to_owned))
            };
            holders(part).into_iter().find_map(texts)
        };
        let address = told(&["image_url", "image", "url", "uri", "file_data", "file_id"]);
        let data_uri = address.as_ref().and_then(|address| address.strip_prefix("data:"));
        let inline = match data_uri.and_then(|data| data.split_once(";base64,")) {
            Some((mime, data)) => Some((Some(mime.to_owned()), data.to_owned())),
            None => told(&["content", "data"])
                .map(|data| (told(&["mime_type", "media_type", "mediaType"]), data)),
        };
        let bytes =
            inline.and_then(|(mime, data)| Some((mime, BASE64_STANDARD.decode(data).ok()?)));
        match (bytes, address) {
            (Some((mime, bytes)), _) => {
                let digest = Digest::of(&bytes);
                let mime = mime.unwrap_or_else(|| "application/octet-stream".to_owned());
                self.content.push(json!({
                    "type": "media", "mime": mime, "bytes": bytes.len(), "digest": digest,
                }));
                reader.blobs.insert(digest, bytes);
            }
            (None, Some(uri)) if !uri.starts_with("data:") => self.other("media", "uri", &uri),
            // Neither an address nor bytes that can be read: kept as it came.
            _ => self.content.push(Value::Object(part.clone())),
        }
    }
}

/// The part and what it wraps its medium in: OpenAI by the kind, Anthropic in a `source`,
/// OpenInference in two images.
fn holders(part: &Map<String, Value>) -> Vec<&Map<String, Value>> {
    let mut holders = vec![part];
    for name in ["image_url", "image", "input_audio", "file", "source"] {
        let inner = part.get(name).and_then(Value::as_object);
        holders.extend(inner);
        holders.extend(inner.and_then(|inner| inner.get("image")?.as_object()));
    }
    holders
}

fn tool_result(part: &Map<String, Value>) -> Message {
    let result =
        ["response", "result", "output", "content"].iter().find_map(|name| part.get(*name));
    // The Vercel SDK wraps results as {"type": "text", "value": …}.
    let result = result.map(|result| match (result.get("type"), result.get("value")) {
        (Some(_), Some(value)) => value,
        _ => result,
    });
    let id = ["id", "tool_use_id", "tool_call_id", "toolCallId"];
    let text = |names: &[&str]| {
        let found = names.iter().find_map(|name| part.get(*name).and_then(Value::as_str));
        found.map(str::to_owned)
    };
    let mut message = Message::new(Role::Tool, result.map(result_text).unwrap_or_default());
    message.tool_call_id = text(&id);
    message.name = text(&["name", "toolName"]);
    message
}
