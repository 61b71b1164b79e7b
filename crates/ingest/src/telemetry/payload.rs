//! What a request's body is, and the name it is stored under.

use super::Encoding;

/// What a request's body is, as its path and content type tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    OtlpTraces(Encoding),
    OtlpLogs(Encoding),
    /// LangSmith's `POST /runs/multipart`, with the boundary of its content type.
    LangsmithMultipart {
        boundary: String,
    },
    /// LangSmith's `POST /runs/batch`, and an export of runs: one JSON run a line, or an array.
    LangsmithRuns,
    /// LangSmith's `POST /feedback`.
    LangsmithFeedback,
    /// Langfuse's `POST /api/public/scores`: one or an array of them.
    LangfuseScores,
    /// What the trace exporter of the OpenAI Agents SDK posts.
    OpenaiAgents,
    /// Our own feedback about what only telemetry knows: a [`super::Feedback`] or an array of them.
    UnderstudyFeedback,
    /// What is left of another body where not all of it is kept: an array of [`super::Item`].
    UnderstudyItems,
}

impl Payload {
    /// The names that [`Self::named`] knows.
    pub const NAMES: [&'static str; 9] = [
        "otlp-traces",
        "otlp-logs",
        "langsmith-multipart",
        "langsmith-runs",
        "langsmith-feedback",
        "langfuse-scores",
        "openai-agents",
        "understudy-feedback",
        "understudy-items",
    ];

    /// The payload of this name and content type; `None` if they do not go together.
    pub fn named(name: &str, content_type: &str) -> Option<Self> {
        Some(match name {
            "otlp-traces" => Self::OtlpTraces(Encoding::of(content_type)?),
            "otlp-logs" => Self::OtlpLogs(Encoding::of(content_type)?),
            "langsmith-multipart" => Self::LangsmithMultipart { boundary: boundary(content_type)? },
            "langsmith-runs" => Self::LangsmithRuns,
            "langsmith-feedback" => Self::LangsmithFeedback,
            "langfuse-scores" => Self::LangfuseScores,
            "openai-agents" => Self::OpenaiAgents,
            "understudy-feedback" => Self::UnderstudyFeedback,
            "understudy-items" => Self::UnderstudyItems,
            _ => return None,
        })
    }
}

impl Encoding {
    /// The encoding that a content type names.
    pub fn of(content_type: &str) -> Option<Self> {
        match content_type.split(';').next()?.trim().to_ascii_lowercase().as_str() {
            "application/x-protobuf" | "application/protobuf" => Some(Self::Protobuf),
            "application/json" => Some(Self::Json),
            _ => None,
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }
}

fn boundary(content_type: &str) -> Option<String> {
    let mut parts = content_type.split(';').map(str::trim);
    parts.next().filter(|kind| kind.eq_ignore_ascii_case("multipart/form-data"))?;
    let named = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.eq_ignore_ascii_case("boundary").then_some(value)
    })?;
    Some(named.trim_matches('"').to_owned()).filter(|boundary| !boundary.is_empty())
}
