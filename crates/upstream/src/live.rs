//! An answer as it grows.

use understudy_inference::{
    Completion, Delta, FinishReason, GenerateRequest, InferenceError, Prompt, Sampling,
    ScoredToken, Served, Stopwatch, TokenRecord, Usage,
};
use understudy_message::{FunctionCall, ToolCall};

use crate::wire;

/// What has come of an answer so far.
#[derive(Debug)]
pub(crate) struct Reply {
    text: String,
    calls: Vec<ToolCall>,
    finish: Option<FinishReason>,
    usage: Usage,
    prompt_ids: Vec<u32>,
    tokens: Vec<ScoredToken>,
    /// Some delta had text and no tokens, so the tokens are not all.
    tokens_missing: bool,
    /// Which weights answered, by their own account.
    pub(crate) model: Option<String>,
    pub(crate) watch: Stopwatch,
}

impl Reply {
    pub(crate) fn new(watch: Stopwatch) -> Self {
        Self {
            text: String::new(),
            calls: Vec::new(),
            finish: None,
            usage: Usage::default(),
            prompt_ids: Vec::new(),
            tokens: Vec::new(),
            tokens_missing: false,
            model: None,
            watch,
        }
    }

    /// Whether anything was said, called or ended: the time to the first token ends here.
    pub(crate) fn has_begun(&self) -> bool {
        !self.text.is_empty()
            || !self.calls.is_empty()
            || !self.tokens.is_empty()
            || self.finish.is_some()
    }

    /// Ends the answer at so many tokens; whether it is there.
    pub(crate) fn stop_at(&mut self, most: usize) -> bool {
        let reached = self.tokens.len() >= most && self.finish.is_none();
        if reached {
            self.finish = Some(FinishReason::Length);
            let (prompt, said) = (self.prompt_ids.len(), self.tokens.len());
            self.usage.prompt_tokens = prompt as u32;
            self.usage.completion_tokens = said as u32;
        }
        reached
    }

    /// What a chunk adds to be passed on, if it does.
    pub(crate) fn take(&mut self, chunk: wire::Chunk) -> Option<Delta> {
        if let Some(counts) = chunk.usage {
            self.usage = counts.into();
        }
        if self.model.is_none() {
            self.model = chunk.model;
        }
        if let Some(ids) = chunk.prompt_token_ids {
            self.prompt_ids = ids;
        }
        let mut choice = chunk.choices.into_iter().find(|choice| choice.index == 0)?;
        if let Some(ids) = choice.prompt_token_ids.take() {
            self.prompt_ids = ids;
        }
        if let Some(word) = &choice.finish_reason {
            self.finish = Some(wire::finish_reason(word));
        }
        let tokens = choice.tokens();
        let calls = choice.delta.tool_calls.take();
        for call in calls.into_iter().flatten() {
            self.watch.text();
            self.extend_call(call);
        }
        let text = choice.delta.content.or(choice.text).unwrap_or_default();
        if text.is_empty() && tokens.as_ref().is_none_or(Vec::is_empty) {
            return None;
        }
        self.watch.text();
        self.text.push_str(&text);
        self.tokens_missing |= tokens.is_none();
        let tokens = tokens.unwrap_or_default();
        self.tokens.extend(tokens.iter().cloned());
        Some(Delta { text, tokens })
    }

    fn extend_call(&mut self, part: wire::CallDelta) {
        let known = self.calls.len();
        // An endpoint that counts wrongly must not make us reserve memory for it.
        if part.index > known {
            return;
        }
        if part.index == known {
            let function = FunctionCall { name: String::new(), arguments: String::new() };
            self.calls.push(ToolCall { id: String::new(), kind: "function".to_owned(), function });
        }
        let call = &mut self.calls[part.index];
        call.id.push_str(&part.id.unwrap_or_default());
        call.function.name.push_str(&part.function.name.unwrap_or_default());
        call.function.arguments.push_str(&part.function.arguments.unwrap_or_default());
    }

    pub(crate) fn completion(
        self,
        role: &str,
        served: Served,
        request: &GenerateRequest,
    ) -> Result<Completion, InferenceError> {
        let finish_reason = self.finish.ok_or_else(|| {
            let model = &served.base;
            InferenceError::Failed(format!(
                "{role} `{model}` ended its answer without a finish reason; it may be cut off"
            ))
        })?;
        let tokens = self.record(&served, request);
        let Self { text, calls, usage, watch, .. } = self;
        let said = Completion::of_text(served, text, finish_reason, usage, watch.timing());
        Ok(Completion { tool_calls: calls, tokens, ..said })
    }

    /// The exact tokens, where the server told all of them.
    fn record(&self, served: &Served, request: &GenerateRequest) -> Option<TokenRecord> {
        let prompt_ids = match &request.prompt {
            Prompt::Tokens(ids) => ids.clone(),
            _ => self.prompt_ids.clone(),
        };
        if self.tokens_missing || self.tokens.is_empty() || prompt_ids.is_empty() {
            return None;
        }
        let sampling = request.sampling.clone();
        let unnamed = || format!("told by `{}`, digest unknown", served.base);
        Some(TokenRecord {
            prompt_ids,
            completion_ids: self.tokens.iter().map(|token| token.id).collect(),
            sampling_logprobs: self.tokens.iter().map(|token| token.log_prob).collect(),
            forced: Vec::new(),
            logprobs_exact: is_raw(&sampling),
            sampling,
            base_digest: unnamed(),
            tokenizer_digest: unnamed(),
            template_digest: unnamed(),
        })
    }
}

/// Whether what was drawn from is the model's own distribution, which is what servers tell.
fn is_raw(sampling: &Sampling) -> bool {
    let Sampling { seed, max_tokens, min_tokens, stop, stop_token_ids, .. } = sampling.clone();
    let plain = Sampling {
        temperature: 1.0,
        seed,
        max_tokens,
        min_tokens,
        stop,
        stop_token_ids,
        include_stop: sampling.include_stop,
        show_special: sampling.show_special,
        ..Sampling::default()
    };
    *sampling == plain && sampling.min_tokens == 0
}
