//! One request on its way through the engine.

use std::{
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use understudy_inference::{
    Completion, Event, FinishReason, InferenceError, Sampling, Served, Sink, Timing, TokenRecord,
    Usage,
};
use understudy_model::{BaseModel, KvCache, TokenStream};

use crate::{
    sampler::{Drawn, Sampler},
    stop::StopScanner,
    store::Resident,
};

/// A request as it was queued, with its generation resolved.
pub(crate) struct Submission {
    pub(crate) prompt: Vec<u32>,
    pub(crate) adapter: Option<Arc<Resident>>,
    pub(crate) served: Served,
    pub(crate) sampling: Sampling,
    pub(crate) sink: Sink,
    pub(crate) queued_at: Instant,
}

impl Submission {
    /// Tokens its cache may come to hold.
    pub(crate) fn reserve(&self, max_positions: usize) -> usize {
        (self.prompt.len() + self.sampling.max_tokens as usize).min(max_positions)
    }

    pub(crate) fn fail(mut self, error: InferenceError) {
        send(&mut self.sink, Event::Failed(error)).is_break();
    }
}

/// A running sequence.
pub(crate) struct Sequence<'a> {
    base: &'a BaseModel,
    pub(crate) adapter: Option<Arc<Resident>>,
    pub(crate) cache: KvCache,
    /// Prompt, then what was drawn.
    tokens: Vec<u32>,
    prompt_len: usize,
    log_probs: Vec<f32>,
    served: Served,
    sampling: Sampling,
    sampler: Sampler,
    stream: Option<TokenStream<'a>>,
    scanner: StopScanner,
    text: String,
    sink: Sink,
    queued_at: Instant,
    admitted_at: Instant,
    first_token_at: Option<Instant>,
    pub(crate) reserved: usize,
}

/// Whether a sequence goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Running,
    Ended,
}

impl<'a> Sequence<'a> {
    /// Starts with a cache that may already hold the beginning of the prompt.
    pub(crate) fn begin(
        base: &'a BaseModel,
        submission: Submission,
        cache: KvCache,
        reserved: usize,
    ) -> Option<Self> {
        let Submission { prompt, adapter, served, sampling, mut sink, queued_at } = submission;
        if send(&mut sink, Event::Started(served.clone())).is_break() {
            return None;
        }
        Some(Self {
            base,
            adapter,
            cache,
            prompt_len: prompt.len(),
            tokens: prompt,
            log_probs: Vec::new(),
            served,
            sampler: Sampler::new(&sampling),
            stream: Some(base.tokenizer.stream()),
            scanner: StopScanner::new(&sampling.stop),
            sampling,
            text: String::new(),
            sink,
            queued_at,
            admitted_at: Instant::now(),
            first_token_at: None,
            reserved,
        })
    }

    /// What sequences are sorted by, so that rows of one adapter lie together.
    pub(crate) fn generation(&self) -> &str {
        self.adapter.as_ref().map_or("", |resident| resident.generation.as_str())
    }

    pub(crate) fn prompt(&self) -> &[u32] {
        &self.tokens[..self.prompt_len]
    }

    /// Tokens the cache does not hold yet: the rest of the prompt, or the one drawn last.
    pub(crate) fn pending(&self) -> &[u32] {
        &self.tokens[self.cache.len()..]
    }

    /// Whether the whole prompt has been computed but nothing drawn yet.
    pub(crate) fn prompt_is_done(&self) -> bool {
        self.tokens.len() == self.prompt_len && self.cache.len() == self.prompt_len
    }

    /// Takes the logits of the last token and draws the next.
    pub(crate) fn advance(&mut self, logits: &[f32]) -> Fate {
        let Drawn { id, log_prob } = self.sampler.draw(logits);
        self.first_token_at.get_or_insert_with(Instant::now);
        self.tokens.push(id);
        self.log_probs.push(log_prob);
        if self.base.tokenizer.is_eos(id) {
            return self.end(FinishReason::Stop);
        }
        match self.emit(id) {
            Ok(Some(Fate::Running)) => {}
            Ok(_) => return self.end(FinishReason::Stop),
            Err(fate) => return fate,
        }
        let drawn = self.tokens.len() - self.prompt_len;
        if drawn >= self.sampling.max_tokens as usize || self.tokens.len() >= self.limit() {
            return self.end(FinishReason::Length);
        }
        Fate::Running
    }

    pub(crate) fn fail(&mut self, error: InferenceError) {
        send(&mut self.sink, Event::Failed(error)).is_break();
    }

    fn limit(&self) -> usize {
        self.base.decoder.config().max_positions
    }

    /// Sends the text an id made certain. `Ok(None)`: a stop string ended it; `Err`: it is over.
    fn emit(&mut self, id: u32) -> Result<Option<Fate>, Fate> {
        let Some(stream) = self.stream.as_mut() else { return Err(Fate::Ended) };
        let piece = match stream.push(id) {
            Ok(piece) => piece,
            Err(why) => {
                self.fail(InferenceError::Failed(why.to_string()));
                return Err(Fate::Ended);
            }
        };
        let released = self.scanner.push(&piece);
        self.say(released.text)?;
        Ok((!released.stopped).then_some(Fate::Running))
    }

    fn say(&mut self, text: String) -> Result<(), Fate> {
        if text.is_empty() {
            return Ok(());
        }
        self.text.push_str(&text);
        match send(&mut self.sink, Event::Delta(text)) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Fate::Ended),
        }
    }

    fn end(&mut self, finish_reason: FinishReason) -> Fate {
        // A stop string already settled the text; otherwise what was held back belongs to it.
        let rest = self.stream.take().and_then(|stream| stream.finish().ok()).unwrap_or_default();
        let held = if self.stopped_by_text(finish_reason) {
            String::new()
        } else {
            let released = self.scanner.push(&rest);
            released.text + &self.scanner.finish()
        };
        if self.say(held).is_err() {
            return Fate::Ended;
        }
        let completion = self.completion(finish_reason);
        send(&mut self.sink, Event::Finished(Box::new(completion))).is_break();
        Fate::Ended
    }

    fn stopped_by_text(&self, reason: FinishReason) -> bool {
        let last_is_eos = self.tokens.last().is_some_and(|id| self.base.tokenizer.is_eos(*id));
        reason == FinishReason::Stop && !last_is_eos
    }

    fn completion(&mut self, finish_reason: FinishReason) -> Completion {
        let now = Instant::now();
        let since = |instant: Instant| instant.duration_since(self.queued_at).as_secs_f64() * 1e3;
        let (prompt_ids, completion_ids) = self.tokens.split_at(self.prompt_len);
        let digests = &self.base.digests;
        Completion {
            served: self.served.clone(),
            finish_reason,
            usage: Usage {
                prompt_tokens: prompt_ids.len() as u32,
                completion_tokens: completion_ids.len() as u32,
            },
            timing: Timing {
                queued_ms: since(self.admitted_at),
                first_token_ms: since(self.first_token_at.unwrap_or(now)),
                total_ms: since(now),
            },
            tokens: Some(TokenRecord {
                prompt_ids: prompt_ids.to_vec(),
                completion_ids: completion_ids.to_vec(),
                sampling_logprobs: std::mem::take(&mut self.log_probs),
                logprobs_exact: self.sampling.is_exact(),
                sampling: self.sampling.clone(),
                base_digest: digests.base.clone(),
                tokenizer_digest: digests.tokenizer.clone(),
                template_digest: digests.template.clone(),
            }),
            text: std::mem::take(&mut self.text),
        }
    }
}

/// A sink is somebody else's code: its panic ends its own request and nothing more.
fn send(sink: &mut Sink, event: Event) -> ControlFlow<()> {
    catch_unwind(AssertUnwindSafe(|| sink(event))).unwrap_or(ControlFlow::Break(()))
}
