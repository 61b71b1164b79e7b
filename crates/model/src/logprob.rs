//! Log-probabilities of chosen tokens, and their gradient, without ever holding all logits.
//!
//! One path serves training and serving: the engine's sampled log-probabilities come from
//! [`token_log_prob`], the trainer's from chunks of rows through the same reading of a row.

use candle_core::Tensor;
use understudy_team as team;

use crate::{
    error::{Result, refuse},
    host::{give, scratch},
    kernels::softmax::{STRETCH, first_of_largest, negative_softmax, row_stats, weigh},
    linear::Head,
    ops::Ops,
};

/// Rows whose logits exist at one time: 128 × 49 152 × 4 bytes is 25 MB.
const CHUNK_ROWS: usize = 128;

/// One log-probability to compute: of token `target`, predicted from hidden row `row`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    pub row: usize,
    pub target: u32,
}

/// One value per term, in the order of the terms.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogProbs {
    /// log softmax(logits / temperature)[target].
    pub log_probs: Vec<f32>,
    /// Entropy of the distribution the term was read from, in nats.
    pub entropy: Vec<f32>,
    /// Whether the target is the likeliest token.
    pub is_greedy: Vec<bool>,
}

/// Log-probability of `target` and entropy under softmax(logits / temperature).
pub fn token_log_prob(logits: &[f32], target: u32, temperature: f32) -> (f32, f32) {
    let stats = Row::of(logits, temperature);
    (stats.log_prob(logits[target as usize]), stats.entropy)
}

/// The first of the likeliest tokens.
pub fn likeliest(logits: &[f32]) -> usize {
    first_of_largest(logits)
}

/// How much every token weighs beside the likeliest: exp((z − max) / T).
#[derive(Debug)]
pub struct Weights {
    /// One a token; 0 for what can never be drawn.
    pub weights: Vec<f32>,
    /// Sums of [`Weights::STRETCH`] of them at a time.
    pub sums: Vec<f64>,
}

impl Weights {
    pub const STRETCH: usize = STRETCH;

    /// Of scores of which `max` is the largest.
    pub fn of(scores: &[f32], max: f32, temperature: f32) -> Self {
        let (weights, sums) = weigh(scores, max, temperature.recip());
        Self { weights, sums }
    }
}

/// What one row of logits says about every token, under a temperature.
#[derive(Debug, Clone, Copy)]
struct Row {
    max: f32,
    inverse_temperature: f32,
    /// log Σ exp((z − max) / T).
    log_sum: f32,
    entropy: f32,
}

impl Row {
    fn of(logits: &[f32], temperature: f32) -> Self {
        let inverse_temperature = temperature.recip();
        let stats = row_stats(logits, inverse_temperature);
        let log_sum = stats.sum.ln();
        let entropy = (log_sum - stats.weighted / stats.sum) as f32;
        Self { max: stats.max, inverse_temperature, log_sum: log_sum as f32, entropy }
    }

    fn log_prob(&self, logit: f32) -> f32 {
        (logit - self.max) * self.inverse_temperature - self.log_sum
    }
}

/// Terms sorted by the row they read, and the distinct rows.
struct Plan {
    /// Distinct rows, ascending.
    rows: Vec<u32>,
    /// For each distinct row, where its terms begin in `order`; one more entry ends the last.
    starts: Vec<usize>,
    /// Term indices, grouped by row.
    order: Vec<usize>,
}

impl Plan {
    fn new(terms: &[Term], rows: usize, vocab: usize) -> Result<Self> {
        if let Some(bad) =
            terms.iter().find(|term| term.row >= rows || term.target as usize >= vocab)
        {
            let (row, target) = (bad.row, bad.target);
            return Err(refuse!(
                Batch,
                "term (row {row}, token {target}) is outside {rows} rows or {vocab} tokens"
            ));
        }
        let mut order: Vec<usize> = (0..terms.len()).collect();
        order.sort_by_key(|index| terms[*index].row);
        let (mut distinct, mut starts) = (Vec::new(), Vec::new());
        for (place, index) in order.iter().enumerate() {
            let row = terms[*index].row as u32;
            if distinct.last() != Some(&row) {
                distinct.push(row);
                starts.push(place);
            }
        }
        starts.push(order.len());
        Ok(Self { rows: distinct, starts, order })
    }

    fn terms_of(&self, place: usize) -> &[usize] {
        &self.order[self.starts[place]..self.starts[place + 1]]
    }
}

pub(crate) fn log_probs(
    ops: Ops,
    head: &Head,
    hidden: &Tensor,
    terms: &[Term],
    temperature: f32,
) -> Result<LogProbs> {
    Ok(walk(ops, head, hidden, terms, temperature, None)?.0)
}

pub(crate) fn log_probs_grad(
    ops: Ops,
    head: &Head,
    hidden: &Tensor,
    terms: &[Term],
    temperature: f32,
    coefficient: &(dyn Fn(usize, f32) -> f32 + Sync),
) -> Result<(LogProbs, Tensor)> {
    let (log_probs, parts, plan) = walk(ops, head, hidden, terms, temperature, Some(coefficient))?;
    let (rows, width) = hidden.dims2()?;
    let zeros = Tensor::zeros((rows, width), hidden.dtype(), hidden.device())?;
    if parts.is_empty() {
        return Ok((log_probs, zeros));
    }
    let index = Tensor::from_slice(&plan.rows, plan.rows.len(), hidden.device())?;
    Ok((log_probs, zeros.index_add(&index, &Tensor::cat(&parts, 0)?, 0)?))
}

type Coefficient<'a> = &'a (dyn Fn(usize, f32) -> f32 + Sync);

/// One term's result: its index, log-probability, entropy and whether it is the likeliest.
type TermResult = (usize, f32, f32, bool);

fn walk(
    ops: Ops,
    head: &Head,
    hidden: &Tensor,
    terms: &[Term],
    temperature: f32,
    coefficient: Option<Coefficient<'_>>,
) -> Result<(LogProbs, Vec<Tensor>, Plan)> {
    if !(temperature.is_finite() && temperature > 0.0) {
        return Err(refuse!(Batch, "temperature {temperature} is not a positive number"));
    }
    let (vocab, device) = (head.vocab, hidden.device());
    let plan = Plan::new(terms, hidden.dim(0)?, vocab)?;
    let mut out = LogProbs {
        log_probs: vec![0.0; terms.len()],
        entropy: vec![0.0; terms.len()],
        is_greedy: vec![false; terms.len()],
    };
    let mut parts = Vec::new();
    let mut logits = scratch(CHUNK_ROWS.min(plan.rows.len()) * vocab);
    for start in (0..plan.rows.len()).step_by(CHUNK_ROWS) {
        let end = (start + CHUNK_ROWS).min(plan.rows.len());
        let index = Tensor::from_slice(&plan.rows[start..end], end - start, device)?;
        ops.logits(&hidden.index_select(&index, 0)?, head, &mut logits)?;
        let rows = logits.chunks_mut(vocab).enumerate().collect();
        let results: Vec<Vec<TermResult>> = team::map_items(rows, |(row, logits)| {
            score_row(logits, plan.terms_of(start + row), terms, temperature, coefficient)
        });
        for (index, log_prob, entropy, is_greedy) in results.into_iter().flatten() {
            out.log_probs[index] = log_prob;
            out.entropy[index] = entropy;
            out.is_greedy[index] = is_greedy;
        }
        if coefficient.is_some() {
            parts.push(ops.logits_backward(&logits, head)?);
        }
    }
    give(logits);
    Ok((out, parts, plan))
}

/// Scores the terms of one row; with coefficients, replaces its logits by their gradient
/// Σ c (onehot(target) − p) / T.
fn score_row(
    logits: &mut [f32],
    indices: &[usize],
    terms: &[Term],
    temperature: f32,
    coefficient: Option<Coefficient<'_>>,
) -> Vec<TermResult> {
    let stats = Row::of(logits, temperature);
    let results: Vec<TermResult> = indices
        .iter()
        .map(|index| {
            let logit = logits[terms[*index].target as usize];
            (*index, stats.log_prob(logit), stats.entropy, logit >= stats.max)
        })
        .collect();
    if let Some(coefficient) = coefficient {
        let scaled: Vec<f32> = results
            .iter()
            .map(|(index, log_prob, ..)| coefficient(*index, *log_prob) * stats.inverse_temperature)
            .collect();
        let total: f32 = scaled.iter().sum();
        let Row { max, inverse_temperature, log_sum, .. } = stats;
        negative_softmax(logits, max, inverse_temperature, log_sum, total);
        for (index, scaled) in indices.iter().zip(scaled) {
            logits[terms[*index].target as usize] += scaled;
        }
    }
    results
}

#[cfg(test)]
mod tests;
