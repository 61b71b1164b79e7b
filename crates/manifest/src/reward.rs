//! How a recipe names what it rewards: `"json_valid"`, or a table
//! `{ verify = "regex", pattern = "^ok", weight = 0.5 }`.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Map, Value};

/// One reward of a recipe: what verifies a completion and how much its opinion counts.
#[derive(Debug, Clone, PartialEq)]
pub struct RewardSpec {
    /// Under which its component is reported; the verifier's own name unless given.
    pub name: Option<String>,
    /// What its opinion is multiplied with before rewards are added; negative makes it a penalty.
    pub weight: f64,
    pub verify: Verifier,
}

/// What looks at a completion. Each gives an opinion from 0 to 1, or none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verify", rename_all = "snake_case", deny_unknown_fields)]
pub enum Verifier {
    /// The expected text, apart from whitespace around it.
    Exact {
        /// Whether each run of whitespace counts as one space.
        #[serde(default, skip_serializing_if = "is_default")]
        normalise_whitespace: bool,
    },
    /// The last number of the text is the last number of the expected one.
    Number {
        /// The largest absolute difference that still counts as equal.
        #[serde(default = "default_tolerance", skip_serializing_if = "is_default_tolerance")]
        tolerance: f64,
    },
    /// Parses as JSON.
    JsonValid {},
    /// The expected JSON value, key order free.
    JsonEqual {},
    /// Parses as JSON that satisfies a JSON Schema.
    JsonSchema { schema: Value },
    /// F1 over the (path, value) pairs of the expected JSON.
    FieldF1 {},
    /// The pattern occurs in the text; anchor it to demand more.
    Regex { pattern: String },
    /// The expected tools are called with the expected arguments, and no others.
    ToolCall {},
    /// A program accepts the completion: exit status 0, or a last line `reward: 0.5`.
    Command(CommandSpec),
    /// Another model gives a score.
    Judge(JudgeSpec),
}

/// A program that verifies, and what it may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandSpec {
    /// The program and its arguments; no shell reads them.
    pub program: Vec<String>,
    /// Seconds on the clock, and also of processor time.
    #[serde(default = "default_command_timeout")]
    pub timeout_s: f64,
    /// Address space of each of its processes, in MiB.
    #[serde(default = "default_memory")]
    pub memory_mb: u64,
    /// The largest file it may write, in MiB.
    #[serde(default = "default_file")]
    pub file_mb: u64,
    /// How many processes and threads it may have at once.
    #[serde(default = "default_processes")]
    pub processes: u64,
    /// Whether it must not run where the network can't be taken away from it.
    #[serde(default = "default_true")]
    pub isolate: bool,
}

/// A model that judges, behind an OpenAI-compatible chat endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeSpec {
    /// Up to and without `/chat/completions`: `https://host/v1`.
    pub url: String,
    pub model: String,
    /// What a good answer is, in words; a general rubric unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rubric: Option<String>,
    /// The environment variable that holds the API key. The key itself is never in a recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_env: Option<String>,
    /// Seconds one judgement may take.
    #[serde(default = "default_judge_timeout")]
    pub timeout_s: f64,
}

impl Verifier {
    /// The word a recipe uses for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Exact { .. } => "exact",
            Self::Number { .. } => "number",
            Self::JsonValid {} => "json_valid",
            Self::JsonEqual {} => "json_equal",
            Self::JsonSchema { .. } => "json_schema",
            Self::FieldF1 {} => "field_f1",
            Self::Regex { .. } => "regex",
            Self::ToolCall {} => "tool_call",
            Self::Command(_) => "command",
            Self::Judge(_) => "judge",
        }
    }

    /// Whether it has no opinion where no answer is known to be right.
    pub fn compares(&self) -> bool {
        match self {
            Self::Exact { .. }
            | Self::Number { .. }
            | Self::JsonEqual {}
            | Self::FieldF1 {}
            | Self::ToolCall {} => true,
            Self::JsonValid {}
            | Self::JsonSchema { .. }
            | Self::Regex { .. }
            | Self::Command(_)
            | Self::Judge(_) => false,
        }
    }
}

impl RewardSpec {
    /// With weight 1 and the verifier's own name.
    pub fn new(verify: Verifier) -> Self {
        Self { name: None, weight: 1.0, verify }
    }

    pub fn weighted(self, weight: f64) -> Self {
        Self { weight, ..self }
    }

    /// Under which its component is reported.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.verify.word())
    }

    fn from_table(mut table: Map<String, Value>) -> Result<Self, serde_json::Error> {
        let weight = table.remove("weight").map_or(Ok(1.0), serde_json::from_value)?;
        let name: Option<String> = table.remove("name").map(serde_json::from_value).transpose()?;
        let wrong = |why: &str| Err(serde_json::Error::custom(why));
        if !f64::is_finite(weight) || weight == 0.0 {
            return wrong("`weight` of a reward must be a number other than 0");
        }
        if name.as_ref().is_some_and(|name| name.trim().is_empty()) {
            return wrong("`name` of a reward must not be empty");
        }
        let spec = Self { name, weight, verify: serde_json::from_value(Value::Object(table))? };
        match spec.verify.complaint() {
            Some(why) => wrong(why),
            None => Ok(spec),
        }
    }
}

impl Verifier {
    fn complaint(&self) -> Option<&'static str> {
        match self {
            Self::Number { tolerance } if !(tolerance.is_finite() && *tolerance >= 0.0) => {
                Some("`tolerance` of a number reward must be 0 or more")
            }
            Self::Command(command) => command.complaint(),
            Self::Judge(judge) if !is_timeout(judge.timeout_s) => {
                Some("`timeout_s` of a judge must lie above 0 and within 3600")
            }
            _ => None,
        }
    }
}

impl CommandSpec {
    /// A program with every limit at its default.
    pub fn new(program: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            program: program.into_iter().map(Into::into).collect(),
            timeout_s: default_command_timeout(),
            memory_mb: default_memory(),
            file_mb: default_file(),
            processes: default_processes(),
            isolate: default_true(),
        }
    }

    fn complaint(&self) -> Option<&'static str> {
        if self.program.first().is_none_or(String::is_empty) {
            return Some("`program` of a command reward must name a program");
        }
        if !is_timeout(self.timeout_s) {
            return Some("`timeout_s` of a command reward must lie above 0 and within 3600");
        }
        let most = 1 << 20;
        let within = |value: u64| (1..=most).contains(&value);
        if !within(self.memory_mb) || !within(self.file_mb) || !within(self.processes) {
            return Some(
                "`memory_mb`, `file_mb` and `processes` of a command reward must lie between 1 \
                 and 1048576",
            );
        }
        None
    }
}

impl<'de> Deserialize<'de> for RewardSpec {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct WordOrTable;

        impl<'de> Visitor<'de> for WordOrTable {
            type Value = Map<String, Value>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a verifier's name, or a table with `verify`")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Self::Value, E> {
                Ok(Map::from_iter([("verify".to_owned(), word.into())]))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Map::deserialize(MapAccessDeserializer::new(map))
            }
        }

        let table = from.deserialize_any(WordOrTable)?;
        Self::from_table(table).map_err(D::Error::custom)
    }
}

impl Serialize for RewardSpec {
    /// The shortest spelling: a word where nothing but the verifier was said.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Ok(Value::Object(mut table)) = serde_json::to_value(&self.verify) else {
            return Err(serde::ser::Error::custom("a verifier is written as a table"));
        };
        if let Some(name) = &self.name {
            table.insert("name".to_owned(), name.as_str().into());
        }
        if self.weight != 1.0 {
            table.insert("weight".to_owned(), self.weight.into());
        }
        if table.len() == 1 { to.serialize_str(self.verify.word()) } else { table.serialize(to) }
    }
}

fn is_timeout(seconds: f64) -> bool {
    seconds > 0.0 && seconds <= 3600.0
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn default_tolerance() -> f64 {
    1e-6
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_default_tolerance(value: &f64) -> bool {
    *value == default_tolerance()
}

fn default_command_timeout() -> f64 {
    10.0
}

fn default_memory() -> u64 {
    1024
}

fn default_file() -> u64 {
    16
}

fn default_processes() -> u64 {
    64
}

fn default_true() -> bool {
    true
}

fn default_judge_timeout() -> f64 {
    60.0
}

#[cfg(test)]
mod tests;
