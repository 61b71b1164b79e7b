//! One request on its way through the engine.

use std::{
    mem,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use understudy_inference::{
    Completion, Delta, Event, FinishReason, InferenceError, Sampling, Served, Sink, Timing,
    TokenRecord, Usage,
};
use understudy_model::{BaseModel, KvCache, TokenStream};

use crate::{
    prefix::Prefix,
    sampler::{Drawn, Sampler},
    schedule::Standing,
    stop::StopGate,
    store::Generation,
};

/// A request as it is queued: checked, tokenised, and holding its generation.
pub(crate) struct Job {
    pub(crate) served: Served,
    pub(crate) lease: Option<Arc<Generation>>,
    pub(crate) prompt: Vec<u32>,
    /// How many tokens may be generated; what the context leaves, if that is less than asked for.
    pub(crate) most: usize,
    pub(crate) sampling: Sampling,
    /// Of this request's own random stream; asked for or drawn.
    pub(crate) seed: u64,
    pub(crate) sink: Sink,
    pub(crate) submitted: Instant,
}

/// A request with everything it needs to go on, whether it runs or waits.
pub(crate) struct Sequence<'m> {
    model: &'m BaseModel,
    job: Job,
    /// Prompt and completion.
    tokens: Vec<u32>,
    prompt_len: usize,
    log_probs: Vec<f32>,
    /// Keys and values of the first tokens; `None` while waiting.
    cache: Option<KvCache>,
    sampler: Sampler,
    pieces: TokenStream<'m>,
    text: StopGate,
    admitted: Option<Instant>,
    first_token: Option<Instant>,
    end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Finished,
    Failed,
    Cancelled,
}

impl<'m> Sequence<'m> {
    pub(crate) fn new(model: &'m BaseModel, mut job: Job) -> Self {
        let tokens = mem::take(&mut job.prompt);
        Self {
            model,
            prompt_len: tokens.len(),
            tokens,
            log_probs: Vec::new(),
            cache: None,
            sampler: Sampler::new(&job.sampling, job.seed),
            pieces: model.tokenizer.stream(),
            text: StopGate::new(&job.sampling.stop),
            admitted: None,
            first_token: None,
            end: None,
            job,
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        let cached = self.cache.as_ref().map_or(0, KvCache::len);
        Standing { cached, pending: self.tokens.len() - cached }
    }

    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Digest of the adapter generation, `None` for the base.
    pub(crate) fn generation(&self) -> Option<&str> {
        self.job.lease.as_deref().map(|lease| lease.digest.as_str())
    }

    pub(crate) fn lease(&self) -> Option<Arc<Generation>> {
        self.job.lease.clone()
    }

    pub(crate) fn cache_mut(&mut self) -> Option<&mut KvCache> {
        self.cache.as_mut()
    }

    /// How many more tokens may come.
    pub(crate) fn left(&self) -> usize {
        (self.job.most + self.prompt_len).saturating_sub(self.tokens.len())
    }

    /// Whether it has never run.
    pub(crate) fn is_fresh(&self) -> bool {
        self.admitted.is_none()
    }

    pub(crate) fn end(&self) -> Option<End> {
        self.end
    }

    /// Joins the running ones, with a cache that may hold the beginning of its tokens already.
    pub(crate) fn begin(&mut self, cache: KvCache) {
        self.cache = Some(cache);
        if self.admitted.is_none() {
            self.admitted = Some(Instant::now());
            self.emit(Event::Started(self.job.served.clone()));
        }
    }

    /// Gives its cache up; everything known so far is read again when it rejoins.
    pub(crate) fn yield_cache(&mut self) {
        self.cache = None;
    }

    /// Draws the next token from its scores and passes on what became certain with it.
    pub(crate) fn advance(&mut self, logits: &[f32]) {
        let advanced = catch_unwind(AssertUnwindSafe(|| {
            let drawn = self.sampler.draw(logits)?;
            self.take(drawn)
        }));
        match advanced {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.fail(error),
            Err(_) => self.fail(InferenceError::Failed("decoding panicked".to_owned())),
        }
    }

    pub(crate) fn fail(&mut self, error: InferenceError) {
        self.emit(Event::Failed(error));
        self.end.get_or_insert(End::Failed);
    }

    /// What an ended sequence leaves for those that begin alike.
    pub(crate) fn into_prefix(self) -> Option<Prefix> {
        let generation = self.generation().map(str::to_owned);
        let cache = self.cache?;
        let mut tokens = self.tokens;
        tokens.truncate(cache.len());
        (self.end != Some(End::Failed)).then_some(Prefix { generation, tokens, cache })
    }

    fn take(&mut self, Drawn { token, log_prob }: Drawn) -> Result<(), InferenceError> {
        self.first_token.get_or_insert_with(Instant::now);
        self.tokens.push(token);
        self.log_probs.push(log_prob);
        if self.model.tokenizer.is_eos(token) {
            return self.finish(FinishReason::Stop);
        }
        let piece = self.pieces.push(token).map_err(undecodable)?;
        let (text, stopped) = self.text.push(&piece);
        self.show(text);
        if stopped {
            self.complete(FinishReason::Stop);
        } else if self.left() == 0 {
            return self.finish(FinishReason::Length);
        }
        Ok(())
    }

    /// Releases what was held back, then completes.
    fn finish(&mut self, reason: FinishReason) -> Result<(), InferenceError> {
        let pieces = mem::replace(&mut self.pieces, self.model.tokenizer.stream());
        let rest = pieces.finish().map_err(undecodable)?;
        // The bytes of a character that never became whole are no text; their ids are recorded.
        let (text, stopped) = self.text.push(rest.trim_end_matches('\u{FFFD}'));
        let held = self.text.finish();
        self.show(text + &held);
        self.complete(if stopped { FinishReason::Stop } else { reason });
        Ok(())
    }

    fn show(&mut self, text: String) {
        if !text.is_empty() {
            self.emit(Event::Delta(Delta { text, tokens: Vec::new() }));
        }
    }

    fn complete(&mut self, finish_reason: FinishReason) {
        if self.end.is_some() {
            return;
        }
        let (prompt_ids, completion_ids) = self.tokens.split_at(self.prompt_len);
        let usage = Usage {
            prompt_tokens: prompt_ids.len() as u32,
            completion_tokens: completion_ids.len() as u32,
            cached_tokens: 0,
        };
        let mut sampling = self.job.sampling.clone();
        if sampling.temperature > 0.0 {
            sampling.seed = Some(self.job.seed);
        }
        let digests = &self.model.digests;
        let tokens = TokenRecord {
            prompt_ids: prompt_ids.to_vec(),
            completion_ids: completion_ids.to_vec(),
            sampling_logprobs: mem::take(&mut self.log_probs),
            logprobs_exact: sampling.is_exact(),
            sampling,
            base_digest: digests.base.clone(),
            tokenizer_digest: digests.tokenizer.clone(),
            template_digest: digests.template.clone(),
        };
        let text = mem::replace(&mut self.text, StopGate::new(&[])).into_text();
        let served = self.job.served.clone();
        let whole = Completion::of_text(served, text, finish_reason, usage, self.timing());
        let completion = Completion { tokens: Some(tokens), ..whole };
        self.emit(Event::Finished(Box::new(completion)));
        self.end.get_or_insert(End::Finished);
    }

    fn timing(&self) -> Timing {
        let since = |at: Instant| (at - self.job.submitted).as_secs_f64() * 1e3;
        let total_ms = since(Instant::now());
        Timing {
            queued_ms: self.admitted.map_or(total_ms, since),
            first_token_ms: self.first_token.map_or(total_ms, since),
            total_ms,
        }
    }

    /// Hands one event over. A sink that has had enough, or panics, is not called again.
    fn emit(&mut self, event: Event) {
        if self.end.is_some() {
            return;
        }
        let is_last = matches!(event, Event::Finished(_) | Event::Failed(_));
        let taken = catch_unwind(AssertUnwindSafe(|| (self.job.sink)(event)));
        self.end = match taken {
            _ if is_last => None,
            Ok(ControlFlow::Continue(())) => None,
            Ok(ControlFlow::Break(())) => Some(End::Cancelled),
            Err(_) => Some(End::Failed),
        };
    }
}

fn undecodable(error: understudy_model::ModelError) -> InferenceError {
    InferenceError::Failed(error.to_string())
}
