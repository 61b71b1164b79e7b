//! What a tool says of its parameters.

use std::collections::BTreeMap;

use serde_json::Value;
use understudy_reward::calls::Call;

use super::source::{Language, SourceType};

/// A function that may be called.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tool {
    pub name: String,
    /// In whose syntax its arguments are written; none where they are JSON.
    pub language: Option<Language>,
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
    /// What the argument is in its own language, where it is written as source text.
    pub source: Option<SourceType>,
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
        let language = match function.get("x-language").and_then(Value::as_str) {
            Some(word) => Some(Language::named(word).ok_or_else(|| {
                format!("`{name}` is written in {word}: only java and javascript are read")
            })?),
            None => None,
        };
        let required = parameters.get("required").and_then(Value::as_array);
        let required = required.into_iter().flatten().filter_map(Value::as_str);
        let mut properties = properties(parameters);
        if let Some(language) = language {
            for declared in properties.values_mut() {
                declared.speak(language);
            }
        }
        Ok(Self {
            name,
            language,
            parameters: properties,
            required: required.map(str::to_owned).collect(),
        })
    }

    /// The call with the values that its source texts mean. What is not declared stays as it is,
    /// and is refused later.
    pub(super) fn values(&self, call: &Call) -> Result<Call, String> {
        let Some(language) = self.language else { return Ok(call.clone()) };
        let read = |(parameter, value): (&String, &Value)| {
            let declared = self.parameters.get(parameter);
            let wanted = declared.and_then(|declared| declared.source.as_ref());
            let value =
                wanted.map_or_else(|| Ok(value.clone()), |wanted| language.read(value, wanted));
            value
                .map(|value| (parameter.clone(), value))
                .map_err(|why| format!("`{parameter}` of `{}`: {why}", self.name))
        };
        let arguments = call.arguments.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Call { name: call.name.clone(), arguments })
    }
}

impl Declared {
    fn read(schema: &Value) -> Self {
        Self {
            kind: schema.get("type").and_then(Value::as_str).and_then(Kind::named),
            items: schema.get("items").map(|items| Box::new(Self::read(items))),
            properties: properties(schema),
            source: SourceType::of(schema),
        }
    }

    /// Takes the types from the language's own words instead of JSON Schema's, which say `string` of
    /// everything that is written as source text.
    fn speak(&mut self, language: Language) {
        let Some(source) = &self.source else { return };
        self.kind = language.kind(&source.word);
        let items = source.items.as_deref().and_then(|word| language.kind(word));
        self.items = items.map(|kind| Box::new(Self { kind: Some(kind), ..Self::default() }));
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
