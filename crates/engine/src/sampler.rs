//! Drawing a token from scores, in the order [`Sampling`] promises.
//!
//! bias → constraint and allowed tokens → bad words, minimum length → repetition, frequency and
//! presence penalties → temperature → min-p → top-k → top-p → one uniform number. What is drawn is
//! a function of the scores, the tokens so far, the seed and the place in the completion, so that
//! neither neighbours nor a second reading after an eviction change it.

mod bad_words;
mod edit;
mod pool;
mod score;

use std::cmp::Ordering;

use llguidance::toktrie::SimpleVob;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_inference::{InferenceError, LogProbsOf, Returns, Sampling};
use understudy_model::{likeliest, token_log_prob};

pub(crate) use bad_words::{BadWords, Spellings};
use edit::Edits;
use pool::Pool;
pub(crate) use score::Scored;
use score::Told;

/// Draws one request's tokens.
#[derive(Debug)]
pub(crate) struct Sampler {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    seed: u64,
    edits: Option<Edits>,
    returns: Returns,
    log_probs: LogProbsOf,
    /// Scores after edits; kept to be reused.
    edited: Vec<f32>,
}

/// A token and how likely it was.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Drawn {
    pub(crate) token: u32,
    /// log softmax(logits / T), T = 1 when decoding is greedy: what a token record holds.
    pub(crate) log_prob: f32,
    /// What the request asked to be told.
    pub(crate) scored: Scored,
}

/// What a sampler needs to know of the model.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) prompt: &'a [u32],
    /// Ids at which the completion may end.
    pub(crate) ends: Vec<u32>,
    pub(crate) bad_words: Option<BadWords>,
}

impl Sampler {
    pub(crate) fn new(
        sampling: &Sampling,
        seed: u64,
        returns: Returns,
        around: Surroundings<'_>,
    ) -> Self {
        Self {
            temperature: if sampling.is_greedy() { 0.0 } else { sampling.temperature },
            top_k: sampling.top_k as usize,
            top_p: sampling.top_p,
            min_p: sampling.min_p,
            seed,
            edits: Edits::of(sampling, around),
            log_probs: returns.log_probs.unwrap_or_default(),
            returns,
            edited: Vec::new(),
        }
    }

    /// The next token after the `so_far` of the completion, of those the mask allows.
    pub(crate) fn draw(
        &mut self,
        logits: &[f32],
        so_far: &[u32],
        mask: Option<&SimpleVob>,
    ) -> Result<Drawn, InferenceError> {
        let is_edited = self.edit(logits, so_far.len(), mask);
        let scores: &[f32] = if is_edited { &self.edited } else { logits };
        let best = likeliest(scores);
        if scores[best] == f32::NEG_INFINITY {
            return Err(nothing_left());
        }
        let pool = self.pool(scores, best);
        let token = match &pool {
            None => best,
            Some(pool) => pool.pick(self.point(so_far.len())),
        } as u32;
        let log_prob = self.record(logits, token)?;
        let scored = self.score(logits, token, Some(log_prob), scores, pool.as_ref());
        Ok(Drawn { token, log_prob, scored })
    }

    /// A token that could not have been another, with the scores it would have been drawn from.
    pub(crate) fn forced(&mut self, logits: &[f32], token: u32) -> Result<Drawn, InferenceError> {
        let log_prob = self.record(logits, token)?;
        let scored = match self.log_probs {
            LogProbsOf::Raw => self.score(logits, token, Some(log_prob), logits, None),
            LogProbsOf::Processed => Scored::certain(token, Told::of_completion(&self.returns)),
        };
        Ok(Drawn { token, log_prob, scored })
    }

    /// How likely a token of the prompt was. Nothing is edited or cut there.
    pub(crate) fn of_prompt(&self, logits: &[f32], token: u32) -> Scored {
        Scored::of(logits, token, Told::of_prompt(&self.returns))
    }

    /// Takes note of a token that now belongs to the completion, and of what it adds to the text.
    pub(crate) fn observe(&mut self, token: u32, bytes: &[u8]) {
        if let Some(edits) = &mut self.edits {
            edits.observe(token, bytes);
        }
    }

    /// Tells, token by token, whether edits let one come that a constraint says must. What there is
    /// of the completion stays as it is.
    pub(crate) fn permits(&self) -> impl FnMut(u32, &[u8]) -> bool + use<> {
        let mut ahead = self.edits.clone();
        move |token, bytes| match &mut ahead {
            None => true,
            Some(edits) if !edits.permits(token) => false,
            Some(edits) => {
                edits.observe(token, bytes);
                true
            }
        }
    }

    fn edit(&mut self, logits: &[f32], drawn: usize, mask: Option<&SimpleVob>) -> bool {
        if self.edits.is_none() && mask.is_none() {
            return false;
        }
        self.edited.clear();
        self.edited.extend_from_slice(logits);
        match &self.edits {
            Some(edits) => edits.apply(&mut self.edited, drawn, mask),
            None => edit::mask_out(&mut self.edited, mask),
        }
        true
    }

    fn pool<'a>(&self, scores: &'a [f32], best: usize) -> Option<Pool<'a>> {
        if self.temperature == 0.0 {
            return None;
        }
        let (top_k, top_p, min_p) = (self.top_k, self.top_p, self.min_p);
        let pool = Pool::new(scores, scores[best], self.temperature);
        Some(pool.cut(min_p, top_k, top_p))
    }

    /// A uniform number in [0, 1) that depends on the seed and the place alone.
    fn point(&self, place: usize) -> f64 {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(place as u64);
        random.random()
    }

    fn record(&self, logits: &[f32], token: u32) -> Result<f32, InferenceError> {
        let temperature = if self.temperature == 0.0 { 1.0 } else { self.temperature };
        let (log_prob, _) = token_log_prob(logits, token, temperature);
        // One score that is not a number spoils the sum over all of them.
        if log_prob.is_finite() {
            return Ok(log_prob);
        }
        let why = "the model's scores are not finite; its adapter may be damaged";
        Err(InferenceError::Failed(why.to_owned()))
    }

    fn score(
        &self,
        logits: &[f32],
        token: u32,
        recorded: Option<f32>,
        scores: &[f32],
        pool: Option<&Pool<'_>>,
    ) -> Scored {
        let told = Told::of_completion(&self.returns);
        match (self.log_probs, pool) {
            (LogProbsOf::Processed, Some(pool)) => pool.score(token, told),
            (LogProbsOf::Processed, None) => Scored::of(scores, token, told),
            (LogProbsOf::Raw, _) => match recorded {
                Some(log_prob) if told.is_nothing() && matches!(self.temperature, 0.0 | 1.0) => {
                    Scored { token, log_prob, rank: None, top: Vec::new() }
                }
                _ => Scored::of(logits, token, told),
            },
        }
    }
}

fn nothing_left() -> InferenceError {
    let why = "leaves no token to go on with, together with the request's other limits";
    InferenceError::invalid("sampling", why)
}

#[cfg(test)]
mod tests;
