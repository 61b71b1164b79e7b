//! What a kind of row is made of, as columns.

use serde_json::Value;
use understudy_dataset::RowKind;

use crate::Arguments;

/// The type of a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    Text,
    /// Any JSON, which Parquet keeps as text that says it is JSON.
    Json,
    Integer,
    Number,
    Truth,
    List(Box<Shape>),
    Record(Vec<Member>),
}

/// A named part of a record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    /// `Some` for what a record may lack, and whether any row has had it.
    seen: Option<bool>,
}

impl Member {
    pub(crate) fn is_optional(&self) -> bool {
        self.seen.is_some()
    }
}

impl Shape {
    pub(crate) fn of(kind: RowKind, arguments: Arguments) -> Self {
        let messages = || list(message(arguments));
        let own = match kind {
            RowKind::Sft => vec![has("prompt", messages()), has("completion", messages())],
            RowKind::Pairs => vec![
                has("prompt", messages()),
                has("chosen", messages()),
                has("rejected", messages()),
                may_have("margin", Shape::Number),
            ],
            RowKind::Labels => vec![
                has("prompt", messages()),
                has("completion", messages()),
                has("label", Self::Truth),
                has("reward", Self::Number),
                has("weight", Self::Number),
            ],
            RowKind::Groups => {
                vec![has("prompt_ids", list(Self::Integer)), has("attempts", list(attempt()))]
            }
            RowKind::Prompts => vec![has("prompt", messages())],
        };
        let definitions = match arguments {
            Arguments::Json => Self::Json,
            Arguments::Text => Self::Text,
        };
        let tools = match kind {
            RowKind::Sft | RowKind::Pairs | RowKind::Labels | RowKind::Prompts => {
                vec![may_have("tools", definitions)]
            }
            // They are in the prompt's ids.
            RowKind::Groups => Vec::new(),
        };
        Self::Record([own, tools, vec![has("origin", origin())]].concat())
    }

    /// Notes which optional members there are.
    pub(crate) fn observe(&mut self, value: &Value) {
        match self {
            Self::List(each) => {
                value.as_array().into_iter().flatten().for_each(|item| each.observe(item));
            }
            Self::Record(members) => {
                for member in members {
                    let Some(value) = value.get(member.name) else { continue };
                    if let Some(seen) = &mut member.seen {
                        *seen = true;
                    }
                    member.shape.observe(value);
                }
            }
            Self::Text | Self::Json | Self::Integer | Self::Number | Self::Truth => {}
        }
    }

    /// Without the optional members that no row has, as a reader of JSON would not know them.
    pub(crate) fn pruned(self) -> Self {
        match self {
            Self::List(each) => list(each.pruned()),
            Self::Record(members) => Self::Record(
                members
                    .into_iter()
                    .filter(|member| member.seen != Some(false))
                    .map(|member| Member { shape: member.shape.pruned(), ..member })
                    .collect(),
            ),
            leaf => leaf,
        }
    }

    /// The schema in Parquet's own notation, of this as a message called `row`.
    pub(crate) fn schema(&self) -> String {
        match self {
            Self::Record(members) => format!("message row {{{}}}", declarations(members)),
            other => format!("message row {{{}}}", other.declaration("required", "value")),
        }
    }

    fn declaration(&self, presence: &str, name: &str) -> String {
        match self {
            Self::Text => format!("{presence} binary {name} (STRING);"),
            Self::Json => format!("{presence} binary {name} (JSON);"),
            Self::Integer => format!("{presence} int64 {name};"),
            Self::Number => format!("{presence} double {name};"),
            Self::Truth => format!("{presence} boolean {name};"),
            Self::List(each) => {
                let each = each.declaration("required", "element");
                format!("{presence} group {name} (LIST) {{repeated group list {{{each}}}}}")
            }
            Self::Record(members) => {
                format!("{presence} group {name} {{{}}}", declarations(members))
            }
        }
    }
}

fn declarations(members: &[Member]) -> String {
    let declaration = |member: &Member| {
        let presence = if member.is_optional() { "optional" } else { "required" };
        member.shape.declaration(presence, member.name)
    };
    members.iter().map(declaration).collect()
}

fn message(arguments: Arguments) -> Shape {
    let arguments = match arguments {
        Arguments::Json => Shape::Json,
        Arguments::Text => Shape::Text,
    };
    let function = Shape::Record(vec![has("name", Shape::Text), has("arguments", arguments)]);
    let call = vec![has("id", Shape::Text), has("type", Shape::Text), has("function", function)];
    Shape::Record(vec![
        has("role", Shape::Text),
        has("content", Shape::Text),
        may_have("name", Shape::Text),
        may_have("tool_calls", list(Shape::Record(call))),
        may_have("tool_call_id", Shape::Text),
    ])
}

fn attempt() -> Shape {
    Shape::Record(vec![
        has("completion_ids", list(Shape::Integer)),
        has("sampling_logprobs", list(Shape::Number)),
        has("truncated", Shape::Truth),
        // `null` is no opinion, and every row says one or the other.
        may_have("reward", Shape::Number),
    ])
}

fn origin() -> Shape {
    let texts = || list(Shape::Text);
    Shape::Record(vec![
        has("trajectory", Shape::Text),
        has("steps", texts()),
        has("because", texts()),
    ])
}

fn list(each: Shape) -> Shape {
    Shape::List(Box::new(each))
}

fn has(name: &'static str, shape: Shape) -> Member {
    Member { name, shape, seen: None }
}

fn may_have(name: &'static str, shape: Shape) -> Member {
    Member { name, shape, seen: Some(false) }
}
