//! One span, with the log events that belong to it, into what it means.
//!
//! The dialect's own rules read first; then the GenAI rules fill what is still open, for every
//! dialect, since instrumentations mix the two. Rules take attributes away: what nobody took is kept
//! as `extra`.

mod agents;
mod bag;
mod events;
mod genai;
mod langfuse;
mod langsmith;
mod openinference;
mod openllmetry;
mod vercel;

use std::collections::BTreeMap;

use serde_json::Value;
use understudy_message::Message;
use understudy_trajectory::{Fidelity, Finish, FrameRole, ModelCall, Retrieval, ToolRun};

pub(crate) use bag::Bag;

use super::{Dialect, LogRecord, SpanRecord, langsmith::nanoseconds, messages::Reader};

/// A span, understood on its own.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) record: SpanRecord,
    pub(crate) dialect: Dialect,
    pub(crate) session: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) agent: Option<String>,
    pub(crate) workflow: Option<String>,
    pub(crate) body: Body,
    pub(crate) extra: BTreeMap<String, Value>,
}

#[derive(Debug)]
pub(crate) enum Body {
    Model(Box<Said>),
    Tool(ToolRun),
    Retrieval(Retrieval),
    Frame(FrameRole),
}

/// A model call with its messages still in place.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) call: ModelCall,
    pub(crate) input: Vec<Message>,
    pub(crate) output: Vec<Message>,
}

/// What a span is, before its body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Model,
    Tool,
    Retrieval,
    Frame(FrameRole),
}

/// What the rules fill in.
#[derive(Debug)]
pub(crate) struct Sheet {
    pub(crate) bag: Bag,
    pub(crate) reader: Reader,
    pub(crate) kind: Option<Kind>,
    pub(crate) name: String,
    pub(crate) session: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) agent: Option<String>,
    pub(crate) workflow: Option<String>,
    pub(crate) said: Said,
    pub(crate) tool: ToolRun,
    pub(crate) retrieval: Retrieval,
}

/// Reads a span. Media that were inline go to `reader`.
pub(crate) fn map(mut record: SpanRecord, logs: &[LogRecord], reader: &mut Reader) -> Draft {
    let dialect = Dialect::of(&record);
    let mut bag = Bag::new(std::mem::take(&mut record.attributes));
    let legacy = events::split(&record, logs, &mut bag);
    // What was dropped may be any of the words, so nothing can be said to be whole.
    if record.dropped_attributes > 0 || events::lost(&record, logs) {
        bag.truncated += 1;
    }
    reader.hidden = 0;
    let mut sheet = Sheet {
        bag,
        reader: std::mem::take(reader),
        kind: None,
        name: record.name.clone(),
        session: None,
        subject: None,
        agent: None,
        workflow: None,
        said: Said::default(),
        tool: ToolRun { observed: true, ..ToolRun::default() },
        retrieval: Retrieval::default(),
    };
    match dialect {
        Dialect::OpenInference => openinference::fill(&mut sheet),
        Dialect::OpenLlmetry | Dialect::Traceloop => openllmetry::fill(&mut sheet),
        Dialect::Langfuse => langfuse::fill(&mut sheet),
        Dialect::LangsmithOtel => langsmith::fill_otel(&mut sheet),
        Dialect::Langsmith => langsmith::fill_run(&mut sheet),
        Dialect::OpenaiAgents => agents::fill(&mut sheet),
        Dialect::VercelAi => vercel::fill(&mut sheet),
        Dialect::GenAi | Dialect::GenAiEvents | Dialect::PydanticAi | Dialect::Generic => {}
    }
    genai::fill(&mut sheet);
    events::fill(&mut sheet, &legacy);
    first_token(&mut sheet, &record);
    finish(sheet, record, dialect, reader)
}

fn finish(mut sheet: Sheet, record: SpanRecord, dialect: Dialect, reader: &mut Reader) -> Draft {
    let told = !sheet.said.input.is_empty() || !sheet.said.output.is_empty();
    let has_references = sheet.bag.has("gen_ai.input.messages_ref");
    sheet.said.call.content = match told {
        _ if sheet.bag.truncated > 0 => Fidelity::Truncated,
        true if sheet.reader.hidden > 0 => Fidelity::Hidden,
        true => Fidelity::Full,
        false if has_references => Fidelity::References,
        false => Fidelity::Absent,
    };
    let body = match sheet.kind {
        Some(Kind::Model) => Body::Model(Box::new(sheet.said)),
        Some(Kind::Tool) => {
            if sheet.tool.name.is_empty() {
                sheet.tool.name.clone_from(&record.name);
            }
            Body::Tool(sheet.tool)
        }
        Some(Kind::Retrieval) => Body::Retrieval(sheet.retrieval),
        Some(Kind::Frame(role)) => Body::Frame(role),
        None => Body::Frame(FrameRole::Other),
    };
    *reader = sheet.reader;
    Draft {
        record,
        dialect,
        session: sheet.session,
        subject: sheet.subject,
        agent: sheet.agent,
        workflow: sheet.workflow,
        body,
        extra: sheet.bag.into_rest(),
    }
}

/// The time to the first token, where it is told as an event or as an instant.
fn first_token(sheet: &mut Sheet, record: &SpanRecord) {
    const NAMES: [&str; 4] = [
        "First Token Stream Event",
        "gen_ai.content.completion.chunk",
        "llm.content.completion.chunk",
        "ai.stream.firstChunk",
    ];
    let chunks = record.events.iter().filter(|event| NAMES.contains(&event.name.as_str()));
    let first = chunks.map(|event| event.at_ns).min();
    // LangSmith's runs have events of their own, Langfuse writes the instant as quoted text.
    let events = sheet.bag.peek("events").and_then(Value::as_array);
    let is_token = |event: &&Value| event.get("name").and_then(Value::as_str) == Some("new_token");
    let token = events.and_then(|events| events.iter().find(is_token));
    let token = token.and_then(|event| event.get("time")?.as_str()).map(nanoseconds);
    let started = sheet.bag.text("langfuse.observation.completion_start_time");
    let started = started.map(|text| nanoseconds(text.trim_matches('"')));
    let at = first.or(token).or(started);
    let since = at.and_then(|at| at.checked_sub(record.started_ns));
    sheet.said.call.first_token_ns = sheet.said.call.first_token_ns.or(since);
}

/// The reason a model stopped, under any of its names.
pub(crate) fn finish_named(name: &str) -> Option<Finish> {
    Some(match name.to_ascii_lowercase().replace('-', "_").as_str() {
        "" => return None,
        "stop" | "end_turn" | "stop_sequence" | "completed" | "eos" => Finish::Stop,
        "length" | "max_tokens" | "max_output_tokens" | "incomplete" => Finish::Length,
        "tool_call" | "tool_calls" | "tool_use" | "function_call" => Finish::ToolCall,
        "content_filter" | "safety" | "refusal" => Finish::ContentFilter,
        "error" => Finish::Error,
        other => Finish::Other(other.to_owned()),
    })
}

impl Sheet {
    /// Token counts from an object of any of the providers' shapes.
    pub(crate) fn usage(&mut self, usage: &Value) {
        let count = |pointers: &[&str]| {
            pointers.iter().find_map(|pointer| usage.pointer(pointer).and_then(Value::as_u64))
        };
        let known = &mut self.said.call.usage;
        let fill =
            |slot: &mut Option<u64>, pointers: &[&str]| *slot = slot.or_else(|| count(pointers));
        fill(&mut known.input, &["/prompt_tokens", "/input_tokens", "/input"]);
        fill(&mut known.output, &["/completion_tokens", "/output_tokens", "/output"]);
        fill(
            &mut known.cache_read,
            &[
                "/prompt_tokens_details/cached_tokens",
                "/input_tokens_details/cached_tokens",
                "/input_token_details/cache_read",
                "/cache_read_input_tokens",
            ],
        );
        fill(
            &mut known.cache_write,
            &[
                "/prompt_tokens_details/cache_write_tokens",
                "/input_tokens_details/cache_write_tokens",
                "/input_token_details/cache_creation",
                "/cache_creation_input_tokens",
            ],
        );
        fill(
            &mut known.reasoning,
            &[
                "/completion_tokens_details/reasoning_tokens",
                "/output_tokens_details/reasoning_tokens",
                "/output_token_details/reasoning",
            ],
        );
    }

    /// Sampling settings from an object of request parameters, under their OpenAI names.
    pub(crate) fn params(&mut self, params: &Value) {
        let Some(params) = params.as_object() else { return };
        if let Some(Value::String(model)) = params.get("model").or_else(|| params.get("model_name"))
        {
            self.said.call.requested.get_or_insert_with(|| model.clone());
        }
        if let Some(Value::Array(tools)) = params.get("tools") {
            self.tools(tools.iter().cloned());
        }
        for name in PARAMS {
            if let Some(value) = params.get(*name).filter(|value| !value.is_null()) {
                self.said.call.params.entry((*name).to_owned()).or_insert_with(|| value.clone());
            }
        }
    }

    /// Tool definitions, in the OpenAI form; the first place that has any is believed.
    pub(crate) fn tools(&mut self, tools: impl Iterator<Item = Value>) {
        if self.said.call.tools.is_empty() {
            self.said.call.tools = tools.map(tool_definition).collect();
        }
    }

    /// Reads the answer of a model that is kept as one value.
    pub(crate) fn output(&mut self, value: &Value) {
        let output = super::messages::read_output(&mut self.reader, value);
        if self.said.output.is_empty() {
            self.said.output = output.messages;
        }
        let call = &mut self.said.call;
        call.response_id = call.response_id.take().or(output.response_id);
        call.responded = call.responded.take().or(output.model);
        call.finish = call.finish.take().or_else(|| finish_named(&output.finish?));
        if let Some(usage) = output.usage {
            self.usage(&usage);
        }
    }
}

const PARAMS: &[&str] = &[
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "n",
    "stream",
    "response_format",
    "reasoning_effort",
    "tool_choice",
    "parallel_tool_calls",
];

/// `{"type": "function", "function": {…}}`, from that or from its flat form.
pub(crate) fn tool_definition(value: Value) -> Value {
    let Value::Object(mut fields) = value else { return value };
    let is_flat = fields.contains_key("name") && !fields.contains_key("function");
    if !is_flat {
        return Value::Object(fields);
    }
    fields.remove("type");
    serde_json::json!({"type": "function", "function": fields})
}
