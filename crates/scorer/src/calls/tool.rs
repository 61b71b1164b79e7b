//! What a tool says of its parameters.

use std::collections::BTreeMap;

use serde_json::Value;

/// A function that may be called.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tool {
    pub name: String,
    pub parameters: BTreeMap<String, Declared>,
    pub required: Vec<String>,
}

/// What a parameter or an element of it is declared to be.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Declared {
    /// None where the declaration is missing or in words we do not know, which then allows all.
    pub kind: Option<Kind>,
    pub items: Option<Box<Declared>>,
    pub properties: BTreeMap<String, Declared>,
}

/// The types of JSON, with Python's difference between integers and floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Boolean,
    Integer,
    Float,
    Text,
    List,
    Dict,
}

impl Tool {
    /// Reads `{"type": "function", "function": {…}}` or the function alone.
    pub(super) fn parse(definition: &Value) -> Result<Self, String> {
        let function = definition.get("function").unwrap_or(definition);
        let name = function.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| "a tool of the case has no `name`".to_owned())?.to_owned();
        let parameters = function.get("parameters").unwrap_or(&Value::Null);
        let required = parameters.get("required").and_then(Value::as_array);
        let required = required.into_iter().flatten().filter_map(Value::as_str);
        Ok(Self {
            name,
            parameters: properties(parameters),
            required: required.map(str::to_owned).collect(),
        })
    }
}

impl Declared {
    fn read(schema: &Value) -> Self {
        Self {
            kind: schema.get("type").and_then(Value::as_str).and_then(Kind::named),
            items: schema.get("items").map(|items| Box::new(Self::read(items))),
            properties: properties(schema),
        }
    }

    /// Of an element of this list.
    pub(super) fn item_kind(&self) -> Option<Kind> {
        self.items.as_ref().and_then(|items| items.kind)
    }
}

fn properties(schema: &Value) -> BTreeMap<String, Declared> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let read = |(name, schema): (&String, &Value)| (name.clone(), Declared::read(schema));
    properties.into_iter().flatten().map(read).collect()
}

impl Kind {
    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Boolean,
            Value::Number(number) if number.is_f64() => Self::Float,
            Value::Number(_) => Self::Integer,
            Value::String(_) => Self::Text,
            Value::Array(_) => Self::List,
            Value::Object(_) => Self::Dict,
        }
    }

    /// The leaderboard's words and those of JSON Schema.
    fn named(word: &str) -> Option<Self> {
        Some(match word {
            "string" | "any" => Self::Text,
            "integer" => Self::Integer,
            "float" | "number" => Self::Float,
            "boolean" => Self::Boolean,
            "array" | "tuple" => Self::List,
            "dict" | "object" => Self::Dict,
            _ => return None,
        })
    }
}
