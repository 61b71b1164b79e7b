//! Whose spelling a span is in.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::SpanRecord;

/// Counts up whenever a rule of mapping or assembly changes what comes out. Raw bodies are the
/// source of truth, so conversations of an older version can be made again.
pub const MAPPER_VERSION: u32 = 2;

/// The instrumentations whose attributes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// OpenTelemetry's GenAI conventions, content in attributes or in one event.
    GenAi,
    /// The same before 1.37, content in one event a message.
    GenAiEvents,
    OpenInference,
    /// OpenLLMetry before it took up the GenAI conventions: `gen_ai.prompt.0.role`.
    OpenLlmetry,
    Traceloop,
    Langfuse,
    /// LangSmith's client when it sends OTLP.
    LangsmithOtel,
    /// LangSmith's own runs.
    Langsmith,
    /// The OpenAI Agents SDK's own export.
    OpenaiAgents,
    PydanticAi,
    /// The Vercel AI SDK.
    VercelAi,
    /// None of these by name; whatever attributes are known are read all the same.
    Generic,
}

impl Dialect {
    /// By the instrumenting library first, which cannot be mistaken, then by an attribute that only
    /// one dialect has.
    pub fn of(span: &SpanRecord) -> Self {
        let scope = span.scope.name.as_str();
        let has = |name: &str| span.attributes.contains_key(name);
        let has_prefix = |prefix: &str| {
            let after = span.attributes.range(prefix.to_owned()..).next();
            after.is_some_and(|(name, _)| name.starts_with(prefix))
        };
        match scope {
            "langsmith-runs" => return Self::Langsmith,
            "openai-agents-export" => return Self::OpenaiAgents,
            "langsmith" => return Self::LangsmithOtel,
            "pydantic-ai" => return Self::PydanticAi,
            "ai" => return Self::VercelAi,
            "opentelemetry.instrumentation.openai_v2" => return Self::GenAiEvents,
            _ => {}
        }
        if scope.starts_with("langfuse-sdk") {
            Self::Langfuse
        } else if scope.contains("openinference") || has("openinference.span.kind") {
            Self::OpenInference
        } else if scope.starts_with("opentelemetry.instrumentation.genai") {
            Self::GenAi
        } else if has_prefix("langfuse.observation.") {
            Self::Langfuse
        } else if has("langsmith.span.kind") {
            Self::LangsmithOtel
        } else if has_prefix("gen_ai.prompt.0.") || has_prefix("gen_ai.completion.0.") {
            Self::OpenLlmetry
        } else if has_prefix("traceloop.") || scope.starts_with("traceloop") {
            Self::Traceloop
        } else if has_prefix("ai.operationId") || has_prefix("ai.prompt") {
            Self::VercelAi
        } else if has("gen_ai.system") && !has("gen_ai.provider.name") {
            Self::GenAiEvents
        } else if has_prefix("gen_ai.") {
            Self::GenAi
        } else {
            Self::Generic
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::GenAi => "gen-ai",
            Self::GenAiEvents => "gen-ai-events",
            Self::OpenInference => "open-inference",
            Self::OpenLlmetry => "open-llmetry",
            Self::Traceloop => "traceloop",
            Self::Langfuse => "langfuse",
            Self::LangsmithOtel => "langsmith-otel",
            Self::Langsmith => "langsmith",
            Self::OpenaiAgents => "openai-agents",
            Self::PydanticAi => "pydantic-ai",
            Self::VercelAi => "vercel-ai",
            Self::Generic => "generic",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
