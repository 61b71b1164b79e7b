//! Which format a text is in.

use crate::{IngestError, Row};

/// What [`crate::read`] understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// [`Format::Rows`] when a mapping is given, else told by the fields of the first row.
    Auto,
    /// OpenAI fine-tuning: `{"messages": […]}`, the last message being the reply.
    OpenAi,
    /// TRL: `{"prompt", "completion"}`, with a `label` or without, or `{"prompt", "chosen",
    /// "rejected"}`; each a string or a list of messages. A string prompt becomes a user message.
    Trl,
    /// Any objects, read through a [`crate::RowMapping`].
    Rows,
    /// Our own: `{"step": …}` or `{"outcome": …}`.
    Understudy,
    /// What a run of tau-bench writes: `{"task_id", "trial", "reward", "traj"}`.
    TauBench,
    /// The Agent Trajectory Interchange Format, versions 1.0 to 1.7, one trajectory an object.
    Atif,
    /// Runs exported from LangSmith, with their feedback inside them or not.
    Langsmith,
    /// OTLP requests as JSON, traces and logs, one an object: what file exporters write.
    Otlp,
}

/// Every format, in the order they are named to people.
const ALL: [Format; 9] = [
    Format::Auto,
    Format::OpenAi,
    Format::Trl,
    Format::Rows,
    Format::Understudy,
    Format::TauBench,
    Format::Atif,
    Format::Langsmith,
    Format::Otlp,
];

impl Format {
    pub fn parse(name: &str) -> Result<Self, IngestError> {
        ALL.into_iter()
            .find(|format| format.as_str() == name)
            .ok_or_else(|| IngestError::UnknownFormat(name.to_owned()))
    }

    /// The spelling [`Self::parse`] reads.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::OpenAi => "openai",
            Self::Trl => "trl",
            Self::Rows => "rows",
            Self::Understudy => "understudy",
            Self::TauBench => "tau-bench",
            Self::Atif => "atif",
            Self::Langsmith => "langsmith",
            Self::Otlp => "otlp",
        }
    }

    /// What a row with these fields most likely is.
    pub(crate) fn of_row(row: &Row) -> Self {
        let has = |field: &str| row.contains_key(field);
        if has("messages") {
            Self::OpenAi
        } else if (has("chosen") && has("rejected")) || (has("prompt") && has("completion")) {
            Self::Trl
        } else if row.len() == 1 && (has("step") || has("outcome")) {
            Self::Understudy
        } else if has("traj") && has("reward") {
            Self::TauBench
        } else if has("schema_version") && has("steps") {
            Self::Atif
        } else if has("resourceSpans") || has("resourceLogs") {
            Self::Otlp
        } else if has("run_type") {
            Self::Langsmith
        } else {
            Self::Rows
        }
    }
}
