//! How likely a token was, and what would have been likelier.

use understudy_inference::{Returns, ScoredToken, TopToken};
use understudy_model::{Tokenizer, token_log_prob};

/// A token's log-probability, its rank where that was asked for, and the likeliest beside it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scored {
    pub(crate) token: u32,
    pub(crate) log_prob: f32,
    pub(crate) rank: Option<u32>,
    pub(crate) top: Vec<(u32, f32)>,
}

/// Which scores are told beside a token's own.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told<'a> {
    /// How many of the likeliest; `None` leaves out the token's rank as well.
    top: Option<usize>,
    /// Whose else.
    named: &'a [u32],
}

impl<'a> Told<'a> {
    pub(super) fn of_completion(returns: &'a Returns) -> Self {
        let named = &returns.named;
        Self { top: returns.top.or((!named.is_empty()).then_some(0)), named }
    }

    pub(super) fn of_prompt(returns: &Returns) -> Self {
        Self { top: returns.prompt_top, named: &[] }
    }

    pub(super) fn is_nothing(self) -> bool {
        self.top.is_none()
    }

    /// `top` and those named that are not in it.
    fn with_named(self, top: Vec<u32>) -> Vec<u32> {
        let mut all = top;
        for id in self.named {
            if !all.contains(id) {
                all.push(*id);
            }
        }
        all
    }
}

impl Scored {
    /// log softmax(scores); of the likeliest, those that could have come at all.
    pub(super) fn of(scores: &[f32], token: u32, told: Told<'_>) -> Self {
        let (log_prob, _) = token_log_prob(scores, token, 1.0);
        let Some(top) = told.top else {
            return Self { token, log_prob, rank: None, top: Vec::new() };
        };
        let own = scores[token as usize];
        let rank = 1 + scores.iter().filter(|score| **score > own).count() as u32;
        // From the token's own, without a second sum.
        let scored = |id: u32| (id, log_prob + (scores[id as usize] - own));
        let top = told.with_named(best(scores, top)).into_iter().map(scored).collect();
        Self { token, log_prob, rank: Some(rank), top }
    }

    /// The only token that could have come.
    pub(super) fn certain(token: u32, told: Told<'_>) -> Self {
        let likeliest = told.top.filter(|top| *top > 0).map(|_| token);
        let scored = |id: u32| (id, if id == token { 0.0 } else { f32::NEG_INFINITY });
        let top = told.with_named(likeliest.into_iter().collect()).into_iter().map(scored);
        Self { token, log_prob: 0.0, rank: told.top.map(|_| 1), top: top.collect() }
    }

    pub(crate) fn into_token(self, tokenizer: &Tokenizer) -> ScoredToken {
        let bytes = |id: u32| tokenizer.token_bytes(id).unwrap_or_default().to_vec();
        let top = |(id, log_prob): (u32, f32)| TopToken { id, bytes: bytes(id), log_prob };
        ScoredToken {
            id: self.token,
            bytes: bytes(self.token),
            log_prob: self.log_prob,
            rank: self.rank,
            top: self.top.into_iter().map(top).collect(),
        }
    }
}

/// The highest `count` finite scores' ids, best first; of equals, the lower id.
fn best(scores: &[f32], count: usize) -> Vec<u32> {
    let better =
        |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
    let finite = |id: &u32| scores[*id as usize].is_finite();
    let mut ids: Vec<u32> = (0..scores.len() as u32).filter(finite).collect();
    let count = count.min(ids.len());
    if count < ids.len() {
        ids.select_nth_unstable_by(count, better);
    }
    ids.truncate(count);
    ids.sort_unstable_by(better);
    ids
}
