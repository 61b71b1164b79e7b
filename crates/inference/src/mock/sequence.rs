//! One generation, token by token.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use super::{
    draw::{self, Context, Drawn},
    plan::Plan,
    text::{END, END_TEXT},
};
use crate::{
    Completion, Delta, Event, FinishReason, GenerateRequest, InferenceError, ScoredToken, Served,
    Sink, StopReason, Timing, TokenRecord, Usage, shelf::Lease,
};

pub(super) struct Sequence {
    pub(super) request: GenerateRequest,
    pub(super) prompt: Vec<u32>,
    pub(super) drawn: Vec<u32>,
    sink: Sink,
    pub(super) served: Served,
    /// Held to the last token, whatever the alias means by then.
    _lease: Option<Lease>,
    plan: Plan,
    seed: u64,
    most: usize,
    log_probs: Vec<f32>,
    bytes: Vec<u8>,
    /// Bytes of the text that have gone out.
    shown: usize,
    submitted: Instant,
    begun: Option<Instant>,
    first: Option<Instant>,
}

/// Where a sequence stands after a step.
pub(super) enum Progress {
    Going,
    Finished,
    Failed,
    Cancelled,
}

impl Sequence {
    #[expect(clippy::too_many_arguments, reason = "a constructor of parts that belong together")]
    pub(super) fn new(
        request: GenerateRequest,
        sink: Sink,
        submitted: Instant,
        served: Served,
        lease: Option<Lease>,
        prompt: Vec<u32>,
        plan: Plan,
        seed: u64,
        most: usize,
    ) -> Self {
        Self {
            request,
            prompt,
            drawn: Vec::new(),
            sink,
            served,
            _lease: lease,
            plan,
            seed,
            most,
            log_probs: Vec::new(),
            bytes: Vec::new(),
            shown: 0,
            submitted,
            begun: None,
            first: None,
        }
    }

    /// Whether its time is over, or nobody waits for it; who waits has been told.
    pub(super) fn expired(&mut self) -> Option<Progress> {
        if self.request.admission.cancel.is_cancelled() {
            return Some(Progress::Cancelled);
        }
        let limit = self.request.admission.timeout?;
        if self.submitted.elapsed() < limit {
            return None;
        }
        Some(if self.drawn.is_empty() {
            self.fail(InferenceError::TimedOut(limit.as_millis() as u64))
        } else {
            self.finish(FinishReason::Length, Some(StopReason::Deadline), self.bytes.len())
        })
    }

    pub(super) fn fail(&mut self, error: InferenceError) -> Progress {
        let _: ControlFlow<()> = (self.sink)(Event::Failed(error));
        Progress::Failed
    }

    /// Draws one token and says what it made certain.
    pub(super) fn step(&mut self) -> Progress {
        if self.begun.is_none() {
            self.begun = Some(Instant::now());
            if (self.sink)(Event::Started(self.served.clone())).is_break() {
                return Progress::Cancelled;
            }
        }
        let context =
            Context { plan: &self.plan, prompt: &self.prompt, drawn: &self.drawn, seed: self.seed };
        let drawn = match draw::draw(&context, &self.request.sampling) {
            Ok(drawn) => drawn,
            Err(error) => return self.fail(error),
        };
        self.first.get_or_insert_with(Instant::now);
        self.log_probs.push(drawn.sampling_log_prob);
        self.drawn.push(drawn.id);
        self.take(&drawn)
    }

    fn take(&mut self, drawn: &Drawn) -> Progress {
        let token = drawn.scored(&self.request.returns);
        let sampling = &self.request.sampling;
        let early = self.drawn.len() < sampling.min_tokens as usize;
        let stops_here = !early && sampling.stop_token_ids.contains(&drawn.id);
        let ends_turn = drawn.id == END;
        match u8::try_from(drawn.id) {
            Ok(byte) if !stops_here || sampling.include_stop => self.bytes.push(byte),
            Err(_) if sampling.show_special => self.bytes.extend(END_TEXT.as_bytes()),
            _ => {}
        }
        if let Some((stop, end)) = self.stop_text().filter(|_| !early) {
            let reason = Some(StopReason::Text(stop));
            return self.last(token, FinishReason::Stop, reason, end);
        }
        if stops_here || ends_turn {
            let reason = (!ends_turn).then_some(StopReason::Token(drawn.id));
            return self.last(token, FinishReason::Stop, reason, self.bytes.len());
        }
        if self.drawn.len() >= self.most {
            return self.last(token, FinishReason::Length, None, self.bytes.len());
        }
        let certain = self.certain();
        self.say(token, certain)
    }

    fn say(&mut self, token: ScoredToken, until: usize) -> Progress {
        let text = String::from_utf8_lossy(&self.bytes[self.shown..until]).into_owned();
        self.shown = until;
        match (self.sink)(Event::Delta(Delta { text, tokens: vec![token] })) {
            ControlFlow::Continue(()) => Progress::Going,
            ControlFlow::Break(()) => Progress::Cancelled,
        }
    }

    fn last(
        &mut self,
        token: ScoredToken,
        reason: FinishReason,
        stop: Option<StopReason>,
        end: usize,
    ) -> Progress {
        match self.say(token, end.max(self.shown)) {
            Progress::Going => self.finish(reason, stop, end),
            other => other,
        }
    }

    /// The stop string that is complete, and where the text then ends.
    fn stop_text(&self) -> Option<(String, usize)> {
        let sampling = &self.request.sampling;
        let held = &self.bytes[self.shown..];
        let found = sampling.stop.iter().filter_map(|stop| {
            let bytes = stop.as_bytes();
            let start = held.windows(bytes.len()).position(|window| window == bytes)?;
            Some((start + bytes.len(), start, stop))
        });
        let (end, start, stop) = found.min()?;
        let kept = if sampling.include_stop { end } else { start };
        Some((stop.clone(), self.shown + kept))
    }

    /// How far the text is certain: up to a half character or the beginning of a stop string.
    fn certain(&self) -> usize {
        let held = &self.bytes[self.shown..];
        let whole = without_half_character(held);
        let overlap = |stop: &String| {
            let stop = stop.as_bytes();
            (1..stop.len().min(whole + 1)).rev().find(|n| held[..whole].ends_with(&stop[..*n]))
        };
        let longest = self.request.sampling.stop.iter().filter_map(overlap).max().unwrap_or(0);
        self.shown + whole - longest
    }

    fn finish(&mut self, reason: FinishReason, stop: Option<StopReason>, end: usize) -> Progress {
        let sampling = &self.request.sampling;
        let since = |at: Option<Instant>| {
            at.map_or(Duration::ZERO, |at| at - self.submitted).as_secs_f64() * 1e3
        };
        let timing = Timing {
            queued_ms: since(self.begun),
            first_token_ms: since(self.first),
            total_ms: self.submitted.elapsed().as_secs_f64() * 1e3,
        };
        let usage = Usage {
            prompt_tokens: self.prompt.len() as u32,
            completion_tokens: self.drawn.len() as u32,
            cached_tokens: 0,
        };
        let text = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
        let tokens = TokenRecord {
            prompt_ids: self.prompt.clone(),
            completion_ids: self.drawn.clone(),
            sampling_logprobs: self.log_probs.clone(),
            forced: Vec::new(),
            sampling: sampling.clone(),
            logprobs_exact: sampling.is_exact(),
            base_digest: "mock".to_owned(),
            tokenizer_digest: "bytes".to_owned(),
            template_digest: "mock".to_owned(),
        };
        let top = self.request.returns.prompt_top;
        let completion = Completion {
            stop_reason: stop,
            tokens: Some(tokens),
            prompt_scores: top.map(|top| draw::prompt_scores(&self.prompt, top)),
            ..Completion::of_text(self.served.clone(), text, reason, usage, timing)
        };
        let _: ControlFlow<()> = (self.sink)(Event::Finished(Box::new(completion)));
        Progress::Finished
    }
}

/// How many bytes come before a last character of which more may follow. Bytes that can no longer
/// become a character are as certain as any.
fn without_half_character(bytes: &[u8]) -> usize {
    let mut read = 0;
    loop {
        match std::str::from_utf8(&bytes[read..]) {
            Ok(_) => return bytes.len(),
            Err(error) => match error.error_len() {
                Some(broken) => read += error.valid_up_to() + broken,
                None => return read + error.valid_up_to(),
            },
        }
    }
}
