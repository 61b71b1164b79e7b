//! What an operator declared: agents, tools with their arguments, kinds of task, approved words.
//!
//! It is the closed vocabulary of everything that is kept for every user. A tool, argument or value
//! that was merely *seen* is not in it, however often it was seen.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use understudy_ident::Digest;

use crate::MemoryError;

/// The vocabulary of one deployment; `memory.toml`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Catalogue {
    pub agents: Vec<String>,
    pub tools: Vec<ToolSchema>,
    /// Kinds of task; without any, kinds are found by how tools are used, and have no names.
    pub intents: Vec<Intent>,
    /// Words a person allowed although they are in no list of English: product names, jargon.
    pub approved_terms: BTreeSet<String>,
}

/// A tool an agent can call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolSchema {
    pub name: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub access: Access,
    /// The server, site or application it talks to, when that is more than the tool itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The argument that names it, where calls go to several: a browser's `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_argument: Option<String>,
    #[serde(default)]
    pub arguments: Vec<Argument>,
}

/// What calling a tool can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    Read,
    Write,
    /// Not known, and therefore treated as `write`.
    #[default]
    Unknown,
}

impl Access {
    pub fn may_write(self) -> bool {
        self != Self::Read
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Argument {
    pub name: String,
    #[serde(default)]
    pub required: bool,
    /// The only values it takes, where the schema lists them.
    #[serde(default)]
    pub values: Vec<String>,
}

/// A kind of task users come with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    pub name: String,
    /// In the operator's words; what a request is compared with.
    #[serde(default)]
    pub description: String,
    /// Invented requests, never a user's.
    #[serde(default)]
    pub examples: Vec<String>,
    /// Flagged as one-off, sensitive or creative: nothing is learnt from it.
    #[serde(default)]
    pub excluded: bool,
}

/// A tool's place in the catalogue. Names are looked up, never carried, by what must hold no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ToolIx(pub(crate) u16);

/// An argument's place in its tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyIx(pub(crate) u16);

impl Catalogue {
    /// Reads and checks `memory.toml`.
    pub fn parse(text: &str) -> Result<Self, MemoryError> {
        let wrong = |why: toml::de::Error| MemoryError::Catalogue { why: why.to_string() };
        let catalogue: Self = toml::from_str(text).map_err(wrong)?;
        catalogue.check()?;
        Ok(catalogue)
    }

    pub fn check(&self) -> Result<(), MemoryError> {
        let refuse = |why: String| Err(MemoryError::Catalogue { why });
        let mut names = BTreeSet::new();
        for tool in &self.tools {
            is_name("tool", &tool.name)?;
            if !names.insert(&tool.name) {
                return refuse(format!("tool `{}` is declared twice", tool.name));
            }
            if let Some(named) = &tool.target_argument {
                if !tool.arguments.iter().any(|argument| argument.name == *named) {
                    return refuse(format!(
                        "tool `{}` has its target in `{named}`, which is none of its arguments",
                        tool.name
                    ));
                }
                if tool.target.is_some() {
                    return refuse(format!(
                        "tool `{}` has a `target` and a `target_argument`; keep one",
                        tool.name
                    ));
                }
            }
            for argument in &tool.arguments {
                is_name("argument", &argument.name)?;
                argument.values.iter().try_for_each(|value| is_name("value", value))?;
            }
        }
        self.agents.iter().try_for_each(|agent| is_name("agent", agent))?;
        self.intents.iter().try_for_each(|intent| is_name("intent", &intent.name))?;
        if self.tools.len() > usize::from(u16::MAX) {
            return refuse("it has more than 65535 tools".to_owned());
        }
        Ok(())
    }

    /// Adds the tools of a request as OpenAI writes them, with unknown access: whoever wrote the
    /// request does not decide what may be written.
    pub fn add_openai_tools(&mut self, tools: &[Value]) {
        for function in tools.iter().filter_map(|tool| tool.get("function")) {
            let Some(name) = function.get("name").and_then(Value::as_str) else { continue };
            if self.tool(name).is_some() || is_name("tool", name).is_err() {
                continue;
            }
            let text = |key: &str| function.get(key).and_then(Value::as_str).unwrap_or_default();
            let parameters = function.get("parameters");
            self.tools.push(ToolSchema {
                name: name.to_owned(),
                description: text("description").to_owned(),
                access: Access::Unknown,
                target: None,
                target_argument: None,
                arguments: parameters.map(arguments).unwrap_or_default(),
            });
        }
    }

    /// Its tools as OpenAI defines them, for a model that is to call them.
    pub fn openai_tools(&self) -> Vec<Value> {
        self.tools.iter().map(openai_tool).collect()
    }

    pub fn tool(&self, name: &str) -> Option<ToolIx> {
        self.tools.iter().position(|tool| tool.name == name).map(|at| ToolIx(at as u16))
    }

    pub fn schema(&self, tool: ToolIx) -> &ToolSchema {
        &self.tools[usize::from(tool.0)]
    }

    pub(crate) fn key(&self, tool: ToolIx, name: &str) -> Option<KeyIx> {
        let arguments = &self.schema(tool).arguments;
        arguments.iter().position(|argument| argument.name == name).map(|at| KeyIx(at as u16))
    }

    pub(crate) fn argument(&self, tool: ToolIx, key: KeyIx) -> &Argument {
        &self.schema(tool).arguments[usize::from(key.0)]
    }

    pub(crate) fn agent(&self, name: &str) -> Option<usize> {
        self.agents.iter().position(|agent| agent == name)
    }

    pub fn intent(&self, name: &str) -> Option<&Intent> {
        self.intents.iter().find(|intent| intent.name == name)
    }

    /// What the schemas of these tools are now; a lesson about tools that have changed since is
    /// suspended.
    pub fn fingerprint<'a>(&self, tools: impl IntoIterator<Item = &'a str>) -> Digest {
        let named: BTreeMap<&str, Option<&ToolSchema>> = tools
            .into_iter()
            .map(|name| (name, self.tool(name).map(|at| self.schema(at))))
            .collect();
        Digest::of(serde_json::to_string(&named).unwrap_or_default().as_bytes())
    }

    /// Names that may stand in a text for every user: between backticks, or bare.
    pub(crate) fn vocabulary(&self) -> BTreeSet<&str> {
        let mut words: BTreeSet<&str> = BTreeSet::new();
        for tool in &self.tools {
            words.insert(&tool.name);
            for argument in &tool.arguments {
                words.insert(&argument.name);
                words.extend(argument.values.iter().map(String::as_str));
            }
        }
        words.extend(self.agents.iter().map(String::as_str));
        words.extend(self.intents.iter().map(|intent| intent.name.as_str()));
        words
    }

    /// Text the operator wrote, in which a source's words may occur without having leaked.
    pub(crate) fn own_text(&self) -> impl Iterator<Item = &str> {
        let tools = self.tools.iter().flat_map(|tool| [tool.name.as_str(), &tool.description]);
        let intents =
            self.intents.iter().flat_map(|intent| [intent.name.as_str(), &intent.description]);
        tools.chain(intents)
    }
}

fn openai_tool(tool: &ToolSchema) -> Value {
    let property = |argument: &Argument| {
        let schema = match argument.values.as_slice() {
            [] => json!({}),
            values => json!({"type": "string", "enum": values}),
        };
        (argument.name.clone(), schema)
    };
    let properties: serde_json::Map<String, Value> = tool.arguments.iter().map(property).collect();
    let required = tool.arguments.iter().filter(|argument| argument.required);
    let required: Vec<&str> = required.map(|argument| argument.name.as_str()).collect();
    json!({"type": "function", "function": {
        "name": tool.name,
        "description": tool.description,
        "parameters": {"type": "object", "properties": properties, "required": required},
    }})
}

fn arguments(parameters: &Value) -> Vec<Argument> {
    let required: Vec<&str> = parameters
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let Some(properties) = parameters.get("properties").and_then(Value::as_object) else {
        return Vec::new();
    };
    let argument = |(name, schema): (&String, &Value)| {
        is_name("argument", name).ok()?;
        let values = schema.get("enum").and_then(Value::as_array);
        let values = values.into_iter().flatten().filter_map(Value::as_str);
        Some(Argument {
            name: name.clone(),
            required: required.contains(&name.as_str()),
            values: values.filter(|v| is_name("value", v).is_ok()).map(str::to_owned).collect(),
        })
    };
    properties.iter().filter_map(argument).collect()
}

/// Names are single words, so that no sentence can be declared as one.
fn is_name(what: &str, text: &str) -> Result<(), MemoryError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/');
    if (1..=64).contains(&text.len()) && text.chars().all(allowed) {
        return Ok(());
    }
    let why = format!("{what} {text:?} must be 1 to 64 of letters, digits and `_-.:/`");
    Err(MemoryError::Catalogue { why })
}
