//! What is asked of a model.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use understudy_message::Message;

use crate::{CancelToken, Sampling};

/// One generation.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateRequest {
    pub prompt: Prompt,
    /// Which weights answer; `None` is the untouched base. An unknown alias or generation is an
    /// error, never the base.
    pub adapter: Option<AdapterChoice>,
    pub sampling: Sampling,
    pub returns: Returns,
    pub admission: Admission,
}

impl GenerateRequest {
    /// A request that asks for nothing but text.
    pub fn new(prompt: Prompt, sampling: Sampling) -> Self {
        let (returns, admission) = (Returns::default(), Admission::default());
        Self { prompt, adapter: None, sampling, returns, admission }
    }

    /// The same, answered by what `alias` points at when the request is admitted.
    #[must_use]
    pub fn with_adapter(self, alias: Option<String>) -> Self {
        Self { adapter: alias.map(AdapterChoice::Alias), ..self }
    }
}

/// How a request names an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdapterChoice {
    /// Resolved once, at admission.
    Alias(String),
    /// Exact content by digest, which must be resident.
    Generation(String),
}

/// What the completion continues.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// Rendered through the base model's chat template.
    Chat(Box<Chat>),
    /// Encoded as it is; markers such as `<|im_end|>` in it become their special ids.
    Text(String),
    /// Exact ids, as rollouts and replays need.
    Tokens(Vec<u32>),
}

impl Prompt {
    /// A conversation that the assistant is to go on with.
    pub fn messages(messages: Vec<Message>) -> Self {
        Self::Chat(Box::new(Chat::new(messages)))
    }
}

/// A conversation and how to write it down for the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Chat {
    pub messages: Vec<Message>,
    /// OpenAI tool definitions the model may call.
    pub tools: Vec<Value>,
    /// Ends where the assistant's next message begins.
    pub add_generation_prompt: bool,
    /// The last message is left open, and the completion goes on with it.
    pub continue_final_message: bool,
    /// Instead of the model's own template.
    pub template: Option<String>,
    /// Further variables the template may look at.
    pub template_variables: Map<String, Value>,
}

impl Chat {
    pub fn new(messages: Vec<Message>) -> Self {
        Self {
            messages,
            tools: Vec::new(),
            add_generation_prompt: true,
            continue_final_message: false,
            template: None,
            template_variables: Map::new(),
        }
    }
}

/// What comes back beside text and ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Returns {
    /// How many of the likeliest alternatives to each completion token; `None` asks for none and
    /// `Some(0)` for the token's own score and rank.
    pub top: Option<usize>,
    /// Tokens whose scores at each place of the completion are told beside the likeliest, however
    /// unlikely they are, in this order.
    pub named: Vec<u32>,
    /// The same as `top` for the prompt's tokens, which then are all run, cached or not.
    pub prompt_top: Option<usize>,
    /// `None` leaves it to whoever answers.
    pub log_probs: Option<LogProbsOf>,
}

/// Which distribution returned log-probabilities belong to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogProbsOf {
    /// log softmax of the model's own scores.
    #[default]
    #[serde(rename = "raw_logprobs")]
    Raw,
    /// After bias, constraint, penalties, temperature and truncation: what was drawn from.
    #[serde(rename = "processed_logprobs")]
    Processed,
}

/// When and next to whom a request runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    /// Lower runs first; equal ones in order of arrival.
    pub priority: i32,
    /// Gives up this long after it was submitted.
    pub timeout: Option<Duration>,
    /// Refused unless all of `max_tokens` fits in the context beside the prompt; otherwise the
    /// completion is as long as there is room.
    pub must_fit: bool,
    /// Cached keys and values are shared only with requests of the same salt.
    pub cache_salt: Option<String>,
    /// Whose budget pays, where somebody keeps one: a tenant's name.
    pub payer: Option<String>,
    /// By which whoever asked can take the request back, at any time.
    pub cancel: CancelToken,
}
