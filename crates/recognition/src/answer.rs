//! What the model answers, held against the text it was asked about.

use serde::Deserialize;
use serde_json::{Value, json};
use understudy_redact::{Kind, Named};

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    names: Vec<Said>,
}

#[derive(Deserialize)]
struct Said {
    kind: String,
    text: String,
}

/// For endpoints that hold a model to it.
pub(crate) fn schema() -> Value {
    let name = json!({
        "type": "object",
        "properties": {
            "kind": {"type": "string", "enum": ["person", "location", "organization"]},
            "text": {"type": "string"},
        },
        "required": ["kind", "text"],
        "additionalProperties": false,
    });
    json!({
        "name": "names",
        "strict": true,
        "schema": {
            "type": "object",
            "properties": {"names": {"type": "array", "items": name}},
            "required": ["names"],
            "additionalProperties": false,
        },
    })
}

/// The names in a chat completion; why it cannot be used otherwise.
pub(crate) fn names(body: &str, text: &str) -> Result<Vec<Named>, String> {
    let completion: Completion =
        serde_json::from_str(body).map_err(|why| format!("it is no chat completion ({why})"))?;
    let [choice] = completion.choices.as_slice() else {
        return Err(format!("it has {} choices, not one", completion.choices.len()));
    };
    // A list that was cut off has an end that nobody knows.
    if choice.finish_reason.as_deref() == Some("length") {
        return Err("it was cut off; give the model a longer answer or context".to_owned());
    }
    let content = choice.message.content.as_deref().unwrap_or_default();
    let object = content.find('{').zip(content.rfind('}')).filter(|(open, close)| open < close);
    let answer = object.and_then(|(open, close)| serde_json::from_str(&content[open..=close]).ok());
    let Some(Answer { names }) = answer else {
        let said: String = content.chars().take(100).collect();
        return Err(format!("it is no JSON object with `names`: {said}"));
    };
    names.iter().map(|said| named(said, text)).collect()
}

fn named(said: &Said, text: &str) -> Result<Named, String> {
    let kind = match said.kind.as_str() {
        "person" => Kind::Person,
        "location" => Kind::Location,
        "organization" => Kind::Organization,
        // What it says is not repeated: it may be from the text.
        _ => return Err("it names a kind that it was not asked for".to_owned()),
    };
    let name = said.text.trim();
    if name.is_empty() || !text.contains(name) {
        return Err("it lists something that is not in the text".to_owned());
    }
    Ok(Named { kind, text: name.to_owned() })
}
