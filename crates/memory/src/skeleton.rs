//! What is left of a run when everything anybody said is taken away.
//!
//! A [`Skeleton`] holds places in the [`crate::Catalogue`], closed lists, keyed hashes and numbers:
//! there is no field in which a word of a user could stand, so whoever receives only skeletons
//! cannot repeat one.

use serde::{Deserialize, Serialize};

use crate::{ErrorSignature, KeyIx, Keyed, ToolIx};

/// One run: which tools, in which order, with which arguments, and how each call ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Skeleton {
    pub moves: Vec<Move>,
    /// Calls of tools that are not in the catalogue.
    pub undeclared: u32,
}

impl Skeleton {
    /// How many calls the run took, of declared tools and others.
    pub(crate) fn calls(&self) -> u32 {
        self.moves.len() as u32 + self.undeclared
    }
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    pub tool: ToolIx,
    /// Declared arguments only, in order of declaration.
    pub arguments: Vec<(KeyIx, Shape)>,
    pub undeclared_arguments: u32,
    pub failed: Option<ErrorSignature>,
    /// The site, server or application it went to, by keyed hash.
    pub target: Option<Keyed>,
    /// Calls of one batch were asked for at once.
    pub batch: u32,
    /// The same tool with the same arguments was called before.
    pub repeated: bool,
    pub latency_ms: u32,
    pub tokens: u32,
}

/// What kind of value an argument had; a value itself only where the schema lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "shape", content = "value")]
pub enum Shape {
    Text,
    Integer,
    Number,
    Boolean(bool),
    /// A place in the argument's declared values.
    Declared(u16),
    Date,
    Email,
    Url,
    List,
    Object,
    Null,
}

impl Shape {
    pub(crate) fn of(value: &serde_json::Value, declared: &[String]) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Boolean(*flag),
            Value::Number(number) if number.is_f64() => Self::Number,
            Value::Number(_) => Self::Integer,
            Value::Array(_) => Self::List,
            Value::Object(_) => Self::Object,
            Value::String(text) => match declared.iter().position(|value| value == text) {
                Some(at) => Self::Declared(at as u16),
                None if is_date(text) => Self::Date,
                None if text.contains("://") => Self::Url,
                None if text.contains('@') && !text.contains(' ') => Self::Email,
                None => Self::Text,
            },
        }
    }

    pub(crate) fn placeholder(self) -> &'static str {
        match self {
            Self::Text | Self::Declared(_) => "<text>",
            Self::Integer => "<integer>",
            Self::Number => "<number>",
            Self::Boolean(true) => "true",
            Self::Boolean(false) => "false",
            Self::Date => "<date>",
            Self::Email => "<email>",
            Self::Url => "<url>",
            Self::List => "<list>",
            Self::Object => "<object>",
            Self::Null => "<null>",
        }
    }
}

/// Whether a text begins as an ISO 8601 date.
pub(crate) fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| bytes[range].iter().all(u8::is_ascii_digit);
    bytes.len() >= 10
        && digits(0..4)
        && bytes[4] == b'-'
        && digits(5..7)
        && bytes[7] == b'-'
        && digits(8..10)
        && (bytes.len() == 10 || matches!(bytes[10], b'T' | b't' | b' '))
}
