//! `POST /v1/chat/completions`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use understudy_inference::{Chat, Prompt};
use understudy_message::Message;

use crate::{
    ask::Ask,
    constraint::constraint,
    error::RequestError,
    fields::Fields,
    refused,
    tools::{ToolReading, Tools},
};

/// A request that names no limit gets as much as fits, and never more than this.
const DEFAULT_MAX_TOKENS: u32 = 4096;

/// What `metadata` may hold.
const MOST_PAIRS: usize = 16;
const MOST_KEY: usize = 64;
const MOST_VALUE: usize = 512;

/// Fields of a message that say something the model would not be told, and what to do instead.
const UNHEARD: [(&str, &str); 2] = [
    ("audio", "send what was said as text"),
    ("function_call", "use `tool_calls` and messages of the role tool"),
];

/// A chat request with every field checked.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    pub ask: Ask,
    /// The conversation and how to write it down; tools that may be called included.
    pub chat: Chat,
    /// How calls are found in the reply.
    pub reading: ToolReading,
    /// What the client wants on record beside it.
    pub metadata: BTreeMap<String, String>,
}

impl ChatRequest {
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        let fields = Fields::parse(body)?;
        refused::in_chat(&fields)?;
        let newer = fields.count("max_completion_tokens")?;
        let limit = fields.count("max_tokens")?;
        let limit = newer.or(limit);
        let mut ask = Ask::read(&fields, limit, DEFAULT_MAX_TOKENS, alternatives(&fields)?)?;
        if ask.model.is_none() {
            return Err(fields.missing("model"));
        }
        ask.check_named(&fields)?;
        let tools = Tools::read(&fields)?;
        ask.sampling.constraint = match (constraint(&fields)?, tools.constraint) {
            (Some(_), _) if tools.reading != ToolReading::Off => {
                let why = "cannot be combined with `tools`; set `tool_choice` to none";
                return Err(fields.wrong("response_format", why));
            }
            (asked, by_tools) => asked.or(by_tools),
        };
        ask.sampling.validate()?;
        let chat = chat(&fields, tools.shown)?;
        Ok(Self { ask, chat, reading: tools.reading, metadata: metadata(&fields)? })
    }

    /// The same for a model that has its own way to call tools: it is told of them in fields, not
    /// by a grammar, and its text holds no calls.
    #[must_use]
    pub fn for_remote(mut self) -> Self {
        if self.reading == ToolReading::Live {
            self.ask.sampling.constraint = None;
        }
        self.reading = ToolReading::Off;
        self
    }

    pub fn prompt(&self) -> Prompt {
        Prompt::Chat(Box::new(self.chat.clone()))
    }
}

/// Within OpenAI's limits.
fn metadata(fields: &Fields) -> Result<BTreeMap<String, String>, RequestError> {
    let Some(object) = fields.object("metadata")? else { return Ok(BTreeMap::new()) };
    let fits = |text: &str, most: usize| text.chars().count() <= most;
    let pair = |(key, value): (&String, &Value)| {
        let value =
            value.as_str().filter(|value| fits(key, MOST_KEY) && fits(value, MOST_VALUE))?;
        Some((key.clone(), value.to_owned()))
    };
    let pairs: Option<BTreeMap<_, _>> = object.iter().map(pair).collect();
    pairs.filter(|pairs| pairs.len() <= MOST_PAIRS).ok_or_else(|| {
        let why = format!(
            "must be at most {MOST_PAIRS} texts of {MOST_VALUE} characters, under names of \
             {MOST_KEY}"
        );
        fields.wrong("metadata", why)
    })
}

/// How many alternatives beside each token; `None` when no log-probabilities are wanted.
fn alternatives(fields: &Fields) -> Result<Option<u32>, RequestError> {
    let wanted = fields.flag("logprobs")?;
    match fields.count("top_logprobs")? {
        Some(count) if !wanted && count > 0 => {
            Err(fields.wrong("top_logprobs", "only applies with `logprobs: true`"))
        }
        count => Ok(wanted.then(|| count.unwrap_or(0))),
    }
}

/// The conversation, for replies and for `/tokenize`.
pub(crate) fn chat(fields: &Fields, tools: Vec<Value>) -> Result<Chat, RequestError> {
    let messages = messages(fields)?;
    let add_generation_prompt = fields.flag_or_none("add_generation_prompt")?;
    let continue_final_message = fields.flag("continue_final_message")?;
    if continue_final_message && add_generation_prompt == Some(true) {
        let why = "cannot be combined with `add_generation_prompt`";
        return Err(fields.wrong("continue_final_message", why));
    }
    let mut template_variables: Map<String, Value> =
        fields.object("chat_template_kwargs")?.cloned().unwrap_or_default();
    if let Some(effort) = fields.text("reasoning_effort")? {
        template_variables.insert("reasoning_effort".to_owned(), effort.into());
    }
    // Some templates look at these too.
    for name in ["tool_choice", "parallel_tool_calls"] {
        if let Some(value) = fields.get(name).filter(|_| !tools.is_empty()) {
            template_variables.insert(name.to_owned(), value.clone());
        }
    }
    Ok(Chat {
        messages,
        tools,
        add_generation_prompt: add_generation_prompt.unwrap_or(!continue_final_message),
        continue_final_message,
        template: fields.text("chat_template")?,
        template_variables,
    })
}

fn messages(fields: &Fields) -> Result<Vec<Message>, RequestError> {
    let wrong = |why: String| fields.wrong("messages", why);
    let list = fields.list("messages")?.ok_or_else(|| fields.missing("messages"))?;
    let messages = list
        .iter()
        .enumerate()
        .map(|(n, message)| {
            if let Some((name, instead)) =
                UNHEARD.iter().find(|(name, _)| !message[*name].is_null())
            {
                return Err(wrong(format!("[{n}]: `{name}` is not supported; {instead}")));
            }
            serde_json::from_value::<Message>(message.clone())
                .map_err(|why| wrong(format!("[{n}]: {why}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if messages.is_empty() {
        return Err(wrong("must hold at least one message".to_owned()));
    }
    if let Some(n) = messages.iter().position(|message| !message.content.is_text_only()) {
        return Err(wrong(format!("[{n}] holds a part that is not text")));
    }
    Ok(messages)
}
