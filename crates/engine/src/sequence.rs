//! One request on its way through the engine.

mod completion;
mod outlet;

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use understudy_ident::Digest;
use understudy_inference::{
    Admission, Event, FinishReason, InferenceError, Returns, Sampling, ScoredToken, Served, Sink,
    StopReason, Use,
};
use understudy_model::{BLOCK, BaseModel, KvCache, TokenStream};

use crate::{
    grammar::Guide,
    prefix::{self, Scope},
    sampler::{Drawn, Sampler},
    schedule::{Place, Standing},
    stop::StopGate,
    store::Generation,
};
pub(crate) use outlet::End;
use outlet::Outlet;

/// A request as it is queued: checked, tokenised, and holding its generation.
pub(crate) struct Job {
    pub(crate) served: Served,
    pub(crate) lease: Option<Arc<Generation>>,
    /// Counts it among the requests of its alias until it is let go of.
    pub(crate) _used: Option<Use>,
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
    /// The names of its full blocks of keys and values, as of when it was last put in line.
    chain: Vec<Digest>,
    /// Prompt, completion, and what must follow it.
    tokens: Vec<u32>,
    prompt_len: usize,
    /// One for each token of the completion so far; tokens beyond are not certain to be needed.
    log_probs: Vec<f32>,
    /// Which tokens of the completion were not drawn, because they had to follow.
    forced: Vec<u32>,
    prompt_scores: Vec<Option<ScoredToken>>,
    /// Keys and values of the first tokens; `None` while waiting.
    cache: Option<KvCache>,
    /// Of the prompt, how many tokens were found cached when it first ran.
    cached_prompt: usize,
    /// What was drawn and has not been taken yet.
    drawn: Option<Result<Drawn, InferenceError>>,
    pieces: TokenStream<'m>,
    text: StopGate,
    admitted: Option<Instant>,
    first_token: Option<Instant>,
    outlet: Outlet,
}

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
            chain: Vec::new(),
            prompt_len: tokens.len(),
            tokens,
            log_probs: Vec::new(),
            forced: Vec::new(),
            prompt_scores: Vec::new(),
            cache: None,
            cached_prompt: 0,
            drawn: None,
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

    /// Names its full blocks, anew if there are more by now.
    pub(crate) fn chain(&mut self) -> &[Digest] {
        if self.chain.len() < self.tokens.len().saturating_sub(1) / BLOCK {
            self.chain = prefix::chain(&self.scope(), &self.tokens);
        }
        &self.chain
    }

    /// The same, as far as they were named before.
    pub(crate) fn named(&self) -> &[Digest] {
        &self.chain
    }

    /// Who may share its keys and values.
    fn scope(&self) -> Scope {
        let salt = self.job.admission.cache_salt.clone();
        Scope { generation: self.generation().map(str::to_owned), salt }
    }

    /// Whether its prompt is still being read, for the first time or again.
    pub(crate) fn is_reading(&self) -> bool {
        self.standing().pending > 1
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

    /// Who answers.
    pub(crate) fn served(&self) -> &Served {
        &self.job.served
    }

    /// When it gives up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.job.submitted.checked_add(self.job.admission.timeout?)
    }

    /// Whether nobody waits for it any more.
    pub(crate) fn is_unwanted(&self) -> bool {
        self.job.admission.cancel.is_cancelled()
    }

    /// Ends it without a word: whoever asked has gone.
    pub(crate) fn cancel(&mut self) {
        self.outlet.close(End::Cancelled);
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

    /// Draws what follows the token at `place`, unless that is known already; [`Self::hear`] takes it.
    /// Tells nobody anything, so that it never waits for whoever listens.
    pub(crate) fn draw_ahead(&mut self, place: usize, logits: &[f32]) {
        if self.end().is_some() || place + 1 < self.tokens.len() {
            return;
        }
        let drawn = catch_unwind(AssertUnwindSafe(|| self.draw(logits)));
        let panicked = || Err(InferenceError::Failed("decoding panicked".to_owned()));
        self.drawn = Some(drawn.unwrap_or_else(|_| panicked()));
    }

    fn draw(&mut self, logits: &[f32]) -> Result<Drawn, InferenceError> {
        let mask = self.job.guide.as_mut().map(Guide::mask).transpose()?;
        self.job.sampler.draw(logits, &self.tokens[self.prompt_len..], mask.as_ref())
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

    /// Its cache, unless what is in it is not to be trusted.
    pub(crate) fn cache(&self) -> Option<&KvCache> {
        self.cache.as_ref().filter(|_| self.end() != Some(End::Failed))
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
            self.forced.push(self.produced() as u32);
            return self.take(drawn);
        }
        let drawn = match self.drawn.take() {
            Some(drawn) => drawn?,
            None => self.draw(logits)?,
        };
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
}
