//! The content of a message: one string, or a list of parts.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::{Value, json};

/// What a message holds. A single text part and a plain string are the same content.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Content {
    parts: Vec<Part>,
}

/// One part of a content list.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    Text(String),
    /// A part of a kind we do not interpret (an image, audio), kept exactly as it came.
    Other(Value),
}

impl Content {
    pub fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        if text.is_empty() { Self::default() } else { Self { parts: vec![Part::Text(text)] } }
    }

    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    pub fn is_text_only(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    pub fn to_text(&self) -> String {
        let texts = self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Other(_) => None,
        });
        texts.collect()
    }

    /// The same content with every text replaced, as redaction does.
    pub fn map_text(&self, mut replace: impl FnMut(&str) -> String) -> Self {
        let parts = self.parts.iter().map(|part| match part {
            Part::Text(text) => Part::Text(replace(text)),
            Part::Other(value) => Part::Other(value.clone()),
        });
        Self { parts: parts.collect() }
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.parts.as_slice() {
            [] => serializer.serialize_str(""),
            [Part::Text(text)] => serializer.serialize_str(text),
            parts => serializer.collect_seq(parts.iter().map(Part::to_value)),
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Null => Ok(Self::default()),
            Value::String(text) => Ok(Self::text(text)),
            Value::Array(parts) => {
                let parts: Option<Vec<Part>> = parts.into_iter().map(Part::from_value).collect();
                let parts = parts.ok_or_else(|| {
                    D::Error::custom("every content part must be an object with a `type`")
                })?;
                Ok(Self { parts })
            }
            Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
                Err(D::Error::custom("content must be a string, a list of parts or null"))
            }
        }
    }
}

impl Part {
    fn to_value(&self) -> Value {
        match self {
            Self::Text(text) => json!({"type": "text", "text": text}),
            Self::Other(value) => value.clone(),
        }
    }

    fn from_value(value: Value) -> Option<Self> {
        let kind = value.get("type")?.as_str()?;
        match value.get("text").and_then(Value::as_str) {
            Some(text) if kind == "text" => Some(Self::Text(text.to_owned())),
            _ => Some(Self::Other(value)),
        }
    }
}
