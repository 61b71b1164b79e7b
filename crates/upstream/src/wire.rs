//! The JSON both sides of an exchange send.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use understudy_inference::{
    Chat, Constraint, FinishReason, GenerateRequest, Prompt, Sampling, ScoredToken, TopToken, Usage,
};

use crate::{Dialect, TokenLimitField};

/// What is sent, and where to below the endpoint's address.
pub(crate) struct Body {
    pub(crate) path: &'static str,
    pub(crate) json: Value,
}

impl Body {
    /// Without a limit on tokens.
    pub(crate) fn unlimited(&mut self, limit: TokenLimitField) {
        if let Value::Object(json) = &mut self.json {
            json.shift_remove(limit.as_str());
        }
    }
}

/// `request` asks for nothing that is not sent; the dialect has seen to that. `model` is what the
/// endpoint calls the weights that are to answer.
pub(crate) fn body(
    request: &GenerateRequest,
    model: &str,
    dialect: Dialect,
    limit: TokenLimitField,
) -> Body {
    let mut json = Map::new();
    json.insert("model".to_owned(), json!(model));
    let path = match &request.prompt {
        Prompt::Chat(chat) => {
            conversation(&mut json, chat, dialect);
            "/chat/completions"
        }
        Prompt::Text(text) => {
            json.insert("prompt".to_owned(), json!(text));
            "/completions"
        }
        Prompt::Tokens(ids) => {
            json.insert("prompt".to_owned(), json!(ids));
            "/completions"
        }
    };
    json.insert("stream".to_owned(), json!(true));
    json.insert("stream_options".to_owned(), json!({"include_usage": true}));
    common(&mut json, &request.sampling, limit);
    if dialect == Dialect::Vllm {
        ours(&mut json, request);
    }
    Body { path, json: Value::Object(json) }
}

fn conversation(json: &mut Map<String, Value>, chat: &Chat, dialect: Dialect) {
    json.insert("messages".to_owned(), json!(chat.messages));
    if !chat.tools.is_empty() {
        json.insert("tools".to_owned(), json!(chat.tools));
    }
    if dialect == Dialect::OpenAi {
        json.extend(chat.template_variables.clone());
        return;
    }
    let mut variables = chat.template_variables.clone();
    for name in ["tool_choice", "parallel_tool_calls", "reasoning_effort"] {
        json.extend(variables.remove(name).map(|value| (name.to_owned(), value)));
    }
    if !variables.is_empty() {
        json.insert("chat_template_kwargs".to_owned(), Value::Object(variables));
    }
    if let Some(template) = &chat.template {
        json.insert("chat_template".to_owned(), json!(template));
    }
    if !chat.add_generation_prompt {
        json.insert("add_generation_prompt".to_owned(), json!(false));
    }
    if chat.continue_final_message {
        json.insert("continue_final_message".to_owned(), json!(true));
    }
}

/// What everybody knows; neutral values are left out, because some servers refuse the names, and
/// [`ours`] adds them where they are known.
fn common(json: &mut Map<String, Value>, sampling: &Sampling, limit: TokenLimitField) {
    let neutral = Sampling::default();
    let mut put = |name: &str, asked: bool, value: Value| {
        if asked {
            json.insert(name.to_owned(), value);
        }
    };
    put("temperature", true, number(sampling.temperature));
    put("top_p", sampling.top_p != neutral.top_p, number(sampling.top_p));
    put("top_k", sampling.top_k != 0, json!(sampling.top_k));
    put("seed", sampling.seed.is_some(), json!(sampling.seed));
    put(limit.as_str(), true, json!(sampling.max_tokens));
    put("stop", !sampling.stop.is_empty(), json!(sampling.stop));
    put("presence_penalty", sampling.presence_penalty != 0.0, number(sampling.presence_penalty));
    put("frequency_penalty", sampling.frequency_penalty != 0.0, number(sampling.frequency_penalty));
    put("logit_bias", !sampling.logit_bias.is_empty(), biases(sampling));
    let format = sampling.constraint.as_ref().and_then(response_format);
    put("response_format", format.is_some(), json!(format));
}

/// What vLLM's servers and ours know beside that. How to draw is always said, neutral or not: where
/// it is not, they read their model's `generation_config.json`, and what is on record here would not
/// be what was drawn from.
fn ours(json: &mut Map<String, Value>, request: &GenerateRequest) {
    let sampling = &request.sampling;
    let is_chat = matches!(request.prompt, Prompt::Chat(_));
    let mut put = |name: &str, asked: bool, value: Value| {
        if asked {
            json.insert(name.to_owned(), value);
        }
    };
    put("top_p", true, number(sampling.top_p));
    // -1 is off for every version of vLLM; 0 is not.
    put("top_k", true, if sampling.top_k == 0 { json!(-1) } else { json!(sampling.top_k) });
    put("min_p", true, number(sampling.min_p));
    put("repetition_penalty", true, number(sampling.repetition_penalty));
    put(
        "allowed_token_ids",
        sampling.allowed_token_ids.is_some(),
        json!(sampling.allowed_token_ids),
    );
    put("bad_words", !sampling.bad_words.is_empty(), json!(sampling.bad_words));
    put("min_tokens", sampling.min_tokens > 0, json!(sampling.min_tokens));
    put("stop_token_ids", !sampling.stop_token_ids.is_empty(), json!(sampling.stop_token_ids));
    put("ignore_eos", sampling.ignore_eos, json!(true));
    put("include_stop_str_in_output", sampling.include_stop, json!(true));
    put("skip_special_tokens", sampling.show_special, json!(false));
    // With tools, a constraint is our own grammar for calling them, and the server has its own.
    let calls = matches!(&request.prompt, Prompt::Chat(chat) if !chat.tools.is_empty());
    let constraint = sampling.constraint.as_ref().filter(|_| !calls);
    let structured = constraint.and_then(structured_outputs);
    put("structured_outputs", structured.is_some(), json!(structured));
    let admission = &request.admission;
    put("priority", admission.priority != 0, json!(admission.priority));
    put("cache_salt", admission.cache_salt.is_some(), json!(admission.cache_salt));
    // Ids and probabilities cost the server nothing, and nothing can restore them later.
    put("return_token_ids", true, json!(true));
    let top = request.returns.top.unwrap_or(0);
    put("logprobs", true, if is_chat { json!(true) } else { json!(top) });
    put("top_logprobs", is_chat && top > 0, json!(top));
}

/// As it was written: widened to 64 bits, 0.9 would be sent as 0.8999999761581421.
fn number(value: f32) -> Value {
    serde_json::from_str(&format!("{value:?}")).unwrap_or(Value::Null)
}

fn biases(sampling: &Sampling) -> Value {
    let biases = sampling.logit_bias.iter().map(|(id, bias)| (id.to_string(), number(*bias)));
    Value::Object(biases.collect())
}

fn response_format(constraint: &Constraint) -> Option<Value> {
    match constraint {
        Constraint::JsonObject => Some(json!({"type": "json_object"})),
        Constraint::JsonSchema(schema) => {
            let named = json!({"name": "reply", "schema": schema, "strict": true});
            Some(json!({"type": "json_schema", "json_schema": named}))
        }
        Constraint::Regex(_) | Constraint::Choice(_) | Constraint::Grammar(_) => None,
    }
}

fn structured_outputs(constraint: &Constraint) -> Option<Value> {
    match constraint {
        Constraint::JsonObject | Constraint::JsonSchema(_) => None,
        Constraint::Regex(regex) => Some(json!({"regex": regex})),
        Constraint::Choice(choices) => Some(json!({"choice": choices})),
        Constraint::Grammar(grammar) => Some(json!({"grammar": grammar})),
    }
}

/// One event of a streamed answer.
#[derive(Debug, Deserialize)]
pub(crate) struct Chunk {
    #[serde(default)]
    pub(crate) choices: Vec<Choice>,
    pub(crate) usage: Option<TokenCounts>,
    pub(crate) model: Option<String>,
    /// Of the prompt, in the first chunk of those that tell.
    pub(crate) prompt_token_ids: Option<Vec<u32>>,
    pub(crate) error: Option<Value>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Choice {
    #[serde(default)]
    pub(crate) index: u32,
    #[serde(default)]
    pub(crate) delta: Delta,
    /// Of a completion that is no conversation.
    pub(crate) text: Option<String>,
    pub(crate) finish_reason: Option<String>,
    pub(crate) logprobs: Option<LogProbs>,
    pub(crate) token_ids: Option<Vec<u32>>,
    pub(crate) prompt_token_ids: Option<Vec<u32>>,
}

/// A chat's `content`, or a completion's columns.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LogProbs {
    content: Option<Vec<LogProb>>,
    tokens: Vec<String>,
    token_logprobs: Vec<Option<f32>>,
}

#[derive(Debug, Deserialize)]
struct LogProb {
    token: String,
    logprob: f32,
    bytes: Option<Vec<u8>>,
    #[serde(default)]
    top_logprobs: Vec<LogProb>,
}

impl Choice {
    /// Ids with their scores, where both are told and there are as many of one as of the other.
    pub(crate) fn tokens(&mut self) -> Option<Vec<ScoredToken>> {
        let ids = self.token_ids.take()?;
        let scores = self.logprobs.take()?.rows();
        let token = |(id, score): (u32, LogProb)| ScoredToken { id, ..score.into_token() };
        (scores.len() == ids.len()).then(|| ids.into_iter().zip(scores).map(token).collect())
    }
}

impl LogProbs {
    fn rows(self) -> Vec<LogProb> {
        let columns = self.tokens.into_iter().zip(self.token_logprobs);
        let row = |(token, logprob): (String, Option<f32>)| LogProb {
            token,
            logprob: logprob.unwrap_or(0.0),
            bytes: None,
            top_logprobs: Vec::new(),
        };
        self.content.unwrap_or_else(|| columns.map(row).collect())
    }
}

impl LogProb {
    /// A token whose id is told elsewhere. An alternative's id is told nowhere, and none of those
    /// who read it needs one.
    fn into_token(self) -> ScoredToken {
        let top = |alternative: Self| TopToken {
            id: u32::MAX,
            bytes: alternative.bytes.unwrap_or(alternative.token.into_bytes()),
            log_prob: alternative.logprob,
        };
        ScoredToken {
            id: u32::MAX,
            bytes: self.bytes.unwrap_or(self.token.into_bytes()),
            log_prob: self.logprob,
            rank: None,
            top: self.top_logprobs.into_iter().map(top).collect(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct Delta {
    pub(crate) content: Option<String>,
    #[serde(default)]
    pub(crate) tool_calls: Option<Vec<CallDelta>>,
}

/// A part of a call; the first of each carries its id and name.
#[derive(Debug, Deserialize)]
pub(crate) struct CallDelta {
    #[serde(default)]
    pub(crate) index: usize,
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) function: FunctionDelta,
}

#[derive(Debug, Default, Deserialize)]
pub(crate) struct FunctionDelta {
    pub(crate) name: Option<String>,
    pub(crate) arguments: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TokenCounts {
    #[serde(default)]
    prompt_tokens: u32,
    #[serde(default)]
    completion_tokens: u32,
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Debug, Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u32>,
}

impl From<TokenCounts> for Usage {
    fn from(counts: TokenCounts) -> Self {
        let TokenCounts { prompt_tokens, completion_tokens, prompt_tokens_details } = counts;
        let cached = prompt_tokens_details.and_then(|details| details.cached_tokens);
        Self { prompt_tokens, completion_tokens, cached_tokens: cached.unwrap_or(0) }
    }
}

pub(crate) fn finish_reason(word: &str) -> FinishReason {
    match word {
        "length" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        // The provider broke it off: what there is must not pass for a whole answer.
        "content_filter" => FinishReason::Aborted,
        _ => FinishReason::Stop,
    }
}

/// What an error body says: OpenAI's `{"error": {"message": …}}`, its cousins, or the text itself.
pub(crate) fn error_text(body: &str) -> String {
    let parsed: Option<Value> = serde_json::from_str(body).ok();
    let said = parsed.as_ref().map(|body| body.get("error").unwrap_or(body));
    let text = said.and_then(message_of).unwrap_or(body);
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

pub(crate) fn message_of(error: &Value) -> Option<&str> {
    match error {
        Value::String(text) => Some(text),
        other => ["message", "detail"].iter().find_map(|key| other.get(key)?.as_str()),
    }
}
