//! How likely a token was, and what would have been likelier.

use understudy_inference::{ScoredToken, TopToken};
use understudy_model::{Tokenizer, token_log_prob};

/// A token's log-probability, its rank where that was asked for, and the likeliest beside it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scored {
    pub(crate) token: u32,
    pub(crate) log_prob: f32,
    pub(crate) rank: Option<u32>,
    pub(crate) top: Vec<(u32, f32)>,
}

impl Scored {
    /// log softmax(scores); of the likeliest `top`, those that could have come at all.
    pub(super) fn of(scores: &[f32], token: u32, top: Option<usize>) -> Self {
        let (log_prob, _) = token_log_prob(scores, token, 1.0);
        let Some(top) = top else { return Self { token, log_prob, rank: None, top: Vec::new() } };
        let own = scores[token as usize];
        let rank = 1 + scores.iter().filter(|score| **score > own).count() as u32;
        // From the token's own, without a second sum.
        let scored = |id: u32| (id, log_prob + (scores[id as usize] - own));
        let top = best(scores, top).into_iter().map(scored).collect();
        Self { token, log_prob, rank: Some(rank), top }
    }

    /// The only token that could have come.
    pub(super) fn certain(token: u32, top: Option<usize>) -> Self {
        let beside = if top.is_some_and(|top| top > 0) { vec![(token, 0.0)] } else { Vec::new() };
        Self { token, log_prob: 0.0, rank: top.map(|_| 1), top: beside }
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
