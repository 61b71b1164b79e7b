//! How a completion grows, and how it ends.

use std::{mem, time::Instant};

use understudy_inference::{
    Completion, Delta, Event, FinishReason, InferenceError, Sampling, StopReason, Timing,
    TokenRecord, Usage,
};

use super::{End, Sequence};
use crate::{
    grammar::Guide,
    sampler::Drawn,
    stop::{Gated, StopGate},
};

/// Why a completion is whole.
pub(super) type Verdict = (FinishReason, Option<StopReason>);

impl Sequence<'_> {
    /// Adds a token to the completion, and ends it where it ends.
    pub(super) fn take(&mut self, drawn: Drawn) -> Result<(), InferenceError> {
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
    pub(super) fn finish(
        &mut self,
        last: Option<Delta>,
        verdict: Verdict,
    ) -> Result<(), InferenceError> {
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
            forced: self.forced.clone(),
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

fn undecodable(error: understudy_model::ModelError) -> InferenceError {
    InferenceError::Failed(error.to_string())
}
