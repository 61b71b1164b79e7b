//! One request on its way through the engine.

mod outlet;

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use understudy_inference::{
    Admission, Completion, Delta, Event, FinishReason, InferenceError, Returns, Sampling,
    ScoredToken, Served, Sink, StopReason, Timing, TokenRecord, Usage,
};
use understudy_model::{BaseModel, KvCache, TokenStream};

use crate::{
    grammar::Guide,
    prefix::Prefix,
    sampler::{Drawn, Sampler},
    schedule::{Place, Standing},
    stop::{Gated, StopGate},
    store::Generation,
};
pub(crate) use outlet::End;
use outlet::Outlet;

/// A request as it is queued: checked, tokenised, and holding its generation.
pub(crate) struct Job {
    pub(crate) served: Served,
    pub(crate) lease: Option<Arc<Generation>>,
    pub(crate) prompt: Vec<u32>,
    /// How many tokens may be generated; what the context leaves, if that is less than asked for.
    pub(crate) most: usize,
    /// With the seed that was drawn for it, where one is used and none was given.
    pub(crate) sampling: Sampling,
    pub(crate) returns: Returns,
    pub(crate) admission: Admission,
    pub(crate) sampler: Sampler,
    /// Through what the completion must be.
    pub(crate) guide: Option<Guide>,
    pub(crate) sink: Sink,
    pub(crate) submitted: Instant,
}

/// A request with everything it needs to go on, whether it runs or waits.
pub(crate) struct Sequence<'m> {
    model: &'m BaseModel,
    job: Job,
    place: Place,
    /// What its keys and values may be shared under.
    cache_key: Option<String>,
    /// Prompt, completion, and what must follow it.
    tokens: Vec<u32>,
    prompt_len: usize,
    /// One for each token of the completion so far; tokens beyond are not certain to be needed.
    log_probs: Vec<f32>,
    prompt_scores: Vec<Option<ScoredToken>>,
    /// Keys and values of the first tokens; `None` while waiting.
    cache: Option<KvCache>,
    /// Of the prompt, how many tokens were found cached when it first ran.
    cached_prompt: usize,
    pieces: TokenStream<'m>,
    text: StopGate,
    admitted: Option<Instant>,
    first_token: Option<Instant>,
    outlet: Outlet,
}

/// Why a completion is whole.
type Verdict = (FinishReason, Option<StopReason>);

impl<'m> Sequence<'m> {
    /// `arrival` tells it from those that came before and after.
    pub(crate) fn new(model: &'m BaseModel, mut job: Job, arrival: u64) -> Self {
        let tokens = mem::take(&mut job.prompt);
        let sink = mem::replace(&mut job.sink, outlet::closed());
        let pieces = if job.sampling.show_special {
            model.tokenizer.stream_with_markers()
        } else {
            model.tokenizer.stream()
        };
        Self {
            model,
            place: Place { priority: job.admission.priority, arrival },
            cache_key: cache_key(&job),
            prompt_len: tokens.len(),
            tokens,
            log_probs: Vec::new(),
            prompt_scores: Vec::new(),
            cache: None,
            cached_prompt: 0,
            pieces,
            text: StopGate::new(&job.sampling.stop, job.sampling.include_stop),
            admitted: None,
            first_token: None,
            outlet: Outlet::new(sink),
            job,
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        let cached = self.cache.as_ref().map_or(0, KvCache::len);
        Standing { cached, pending: self.tokens.len() - cached }
    }

    pub(crate) fn place(&self) -> Place {
        self.place
    }

    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    pub(crate) fn prompt_len(&self) -> usize {
        self.prompt_len
    }

    /// How many tokens of the completion there are.
    pub(crate) fn produced(&self) -> usize {
        self.log_probs.len()
    }

    /// Digest of the adapter generation, `None` for the base.
    pub(crate) fn generation(&self) -> Option<&str> {
        self.job.lease.as_deref().map(|lease| lease.digest.as_str())
    }

    pub(crate) fn lease(&self) -> Option<Arc<Generation>> {
        self.job.lease.clone()
    }

    /// Under which key its keys and values may be shared, and others' with it.
    pub(crate) fn cache_key(&self) -> Option<&str> {
        self.cache_key.as_deref()
    }

    /// Whether all of its prompt must run, cached or not.
    pub(crate) fn reads_all(&self) -> bool {
        self.job.returns.prompt_top.is_some()
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
        self.outlet.end()
    }

    /// When it gives up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.job.submitted.checked_add(self.job.admission.timeout?)
    }

    /// Joins the running ones, with a cache that may hold the beginning of its tokens already.
    pub(crate) fn begin(&mut self, cache: KvCache) {
        if self.is_fresh() {
            self.admitted = Some(Instant::now());
            self.cached_prompt = cache.len().min(self.prompt_len);
            self.outlet.emit(Event::Started(self.job.served.clone()));
            self.guarded(Self::look_ahead);
        }
        self.cache = Some(cache);
    }

    /// Gives its cache up; everything known so far is read again when it rejoins.
    pub(crate) fn yield_cache(&mut self) {
        self.cache = None;
    }

    /// The tokens among the next `rows` whose scores are needed, by their place: the last one known,
    /// those before a token that must follow, and those of a prompt that is to be scored.
    pub(crate) fn asks(&self, rows: usize) -> Vec<usize> {
        let cached = self.standing().cached;
        let unscored_prompt = match self.job.returns.prompt_top {
            None => self.prompt_len..self.prompt_len,
            Some(_) => self.prompt_scores.len().max(1)..self.prompt_len,
        };
        let completion = self.prompt_len + self.produced();
        let is_asked = |row: &usize| {
            let next = row + 1;
            unscored_prompt.contains(&next) || next >= completion
        };
        (cached..cached + rows).filter(is_asked).collect()
    }

    /// Takes the scores of what follows the token at `place`: a token of the prompt, one that must
    /// come, or one to be drawn. Passes on what became certain with it.
    pub(crate) fn hear(&mut self, place: usize, logits: &[f32]) {
        if self.end().is_none() {
            self.guarded(|sequence| sequence.listen(place + 1, logits));
        }
    }

    /// Ends it for want of time: what there is of the completion is the answer.
    pub(crate) fn time_out(&mut self) {
        if self.produced() > 0 {
            let verdict = (FinishReason::Length, Some(StopReason::Deadline));
            self.guarded(|sequence| sequence.finish(None, verdict));
        } else {
            let timeout = self.job.admission.timeout.unwrap_or_default();
            self.fail(InferenceError::TimedOut(timeout.as_millis() as u64));
        }
    }

    pub(crate) fn fail(&mut self, error: InferenceError) {
        self.outlet.emit(Event::Failed(error));
        self.outlet.close(End::Failed);
    }

    /// What an ended sequence leaves for those that begin alike.
    pub(crate) fn into_prefix(self) -> Option<Prefix> {
        let Self { cache, cache_key, mut tokens, outlet, .. } = self;
        let mut cache = cache?;
        cache.truncate(cache.len().min(tokens.len()));
        tokens.truncate(cache.len());
        let generation = cache_key;
        (outlet.end() != Some(End::Failed)).then_some(Prefix { generation, tokens, cache })
    }

    /// Runs a step of its own that may fail, which then fails nobody else.
    fn guarded(&mut self, step: impl FnOnce(&mut Self) -> Result<(), InferenceError>) {
        match catch_unwind(AssertUnwindSafe(|| step(self))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.fail(error),
            Err(_) => self.fail(InferenceError::Failed("decoding panicked".to_owned())),
        }
    }

    fn listen(&mut self, next: usize, logits: &[f32]) -> Result<(), InferenceError> {
        if next < self.prompt_len {
            let scored = self.job.sampler.of_prompt(logits, self.tokens[next]);
            self.prompt_scores.resize(next, None);
            self.prompt_scores.push(Some(scored.into_token(&self.model.tokenizer)));
            return Ok(());
        }
        if next < self.tokens.len() {
            let drawn = self.job.sampler.forced(logits, self.tokens[next])?;
            return self.take(drawn);
        }
        let mask = self.job.guide.as_mut().map(Guide::mask).transpose()?;
        let drawn =
            self.job.sampler.draw(logits, &self.tokens[self.prompt_len..], mask.as_ref())?;
        self.tokens.push(drawn.token);
        if let Some(guide) = &mut self.job.guide {
            guide.take(drawn.token)?;
        }
        self.take(drawn)?;
        if self.end().is_some() { Ok(()) } else { self.look_ahead() }
    }

    /// Appends what must follow, which then runs as one, and begins to find out what may follow.
    fn look_ahead(&mut self) -> Result<(), InferenceError> {
        let left = self.left();
        let Job { guide: Some(guide), sampler, .. } = &mut self.job else { return Ok(()) };
        let mut permits = sampler.permits();
        let bytes = |token| self.model.tokenizer.token_bytes(token).unwrap_or_default();
        self.tokens.extend(guide.force(left, |token| permits(token, bytes(token)))?);
        guide.look_ahead();
        Ok(())
    }

    /// Adds a token to the completion, and ends it where it ends.
    fn take(&mut self, drawn: Drawn) -> Result<(), InferenceError> {
        let Drawn { token, log_prob, scored } = drawn;
        self.first_token.get_or_insert_with(Instant::now);
        self.log_probs.push(log_prob);
        let tokenizer = &self.model.tokenizer;
        let scored = scored.into_token(tokenizer);
        self.job.sampler.observe(token, &scored.bytes);
        let Sampling { ignore_eos, include_stop, min_tokens, stop_token_ids, .. } =
            &self.job.sampling;
        let ended = if tokenizer.is_eos(token) && !ignore_eos {
            Some((FinishReason::Stop, None))
        } else if stop_token_ids.contains(&token) {
            Some((FinishReason::Stop, Some(StopReason::Token(token))))
        } else {
            None
        };
        let mut gated = Gated::default();
        if ended.is_none() || *include_stop {
            let piece = self.pieces.push(token).map_err(undecodable)?;
            let early = self.log_probs.len() < *min_tokens as usize;
            gated = if early { self.text.pass(&piece) } else { self.text.push(&piece) };
        }
        let stopped = gated.stop.map(|stop| (FinishReason::Stop, Some(StopReason::Text(stop))));
        let verdict = stopped.clone().or(ended).or_else(|| self.spent());
        let delta = Delta { text: gated.text, tokens: vec![scored] };
        match verdict {
            None => self.outlet.emit(Event::Delta(delta)),
            Some(verdict) if stopped.is_some() => {
                self.outlet.emit(Event::Delta(delta));
                self.complete(verdict);
            }
            Some(verdict) => self.finish(Some(delta), verdict)?,
        }
        Ok(())
    }

    /// Whether nothing may follow the completion's last token.
    fn spent(&self) -> Option<Verdict> {
        let is_last = self.prompt_len + self.produced() == self.tokens.len();
        if is_last && self.job.guide.as_ref().is_some_and(Guide::is_over) {
            return Some((FinishReason::Stop, None));
        }
        (self.produced() >= self.job.most).then_some((FinishReason::Length, None))
    }

    /// Releases what was held back, then completes.
    fn finish(&mut self, last: Option<Delta>, verdict: Verdict) -> Result<(), InferenceError> {
        let pieces = mem::replace(&mut self.pieces, self.model.tokenizer.stream());
        let rest = pieces.finish().map_err(undecodable)?;
        // The bytes of a character that never became whole are no text; their ids are recorded.
        let Gated { text, stop } = self.text.push(rest.trim_end_matches('\u{FFFD}'));
        let mut delta = last.unwrap_or_default();
        delta.text += &text;
        delta.text += &self.text.finish();
        if delta != Delta::default() {
            self.outlet.emit(Event::Delta(delta));
        }
        let stopped = stop.map(|stop| (FinishReason::Stop, Some(StopReason::Text(stop))));
        self.complete(stopped.unwrap_or(verdict));
        Ok(())
    }

    fn complete(&mut self, (finish_reason, stop_reason): Verdict) {
        if self.end().is_some() {
            return;
        }
        // What was to follow and no longer does.
        self.tokens.truncate(self.prompt_len + self.produced());
        let (prompt_ids, completion_ids) = self.tokens.split_at(self.prompt_len);
        let usage = Usage {
            prompt_tokens: prompt_ids.len() as u32,
            completion_tokens: completion_ids.len() as u32,
            cached_tokens: self.cached_prompt as u32,
        };
        let digests = &self.model.digests;
        let tokens = TokenRecord {
            prompt_ids: prompt_ids.to_vec(),
            completion_ids: completion_ids.to_vec(),
            sampling_logprobs: self.log_probs.clone(),
            logprobs_exact: self.job.sampling.is_exact(),
            sampling: self.job.sampling.clone(),
            base_digest: digests.base.clone(),
            tokenizer_digest: digests.tokenizer.clone(),
            template_digest: digests.template.clone(),
        };
        let text = mem::replace(&mut self.text, StopGate::new(&[], false)).into_text();
        let served = self.job.served.clone();
        let whole = Completion::of_text(served, text, finish_reason, usage, self.timing());
        let prompt_scores = self.job.returns.prompt_top.map(|_| {
            let mut scores = mem::take(&mut self.prompt_scores);
            scores.resize(self.prompt_len, None);
            scores
        });
        let tokens = Some(tokens);
        let completion = Completion { tokens, stop_reason, prompt_scores, ..whole };
        self.outlet.emit(Event::Finished(Box::new(completion)));
        self.outlet.close(End::Finished);
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
}

/// Weights and, where one was given, the salt; together they say whose cache may be shared.
fn cache_key(job: &Job) -> Option<String> {
    let generation = job.lease.as_deref().map(|lease| lease.digest.as_str());
    match &job.admission.cache_salt {
        None => generation.map(str::to_owned),
        Some(salt) => Some(format!("{} salted {salt}", generation.unwrap_or("base"))),
    }
}

fn undecodable(error: understudy_model::ModelError) -> InferenceError {
    InferenceError::Failed(error.to_string())
}
