//! From made-up scores to a token, through everything a request may ask of sampling.

use super::{
    plan::{Place, Plan},
    text::{END, VOCABULARY},
};
use crate::{InferenceError, LogProbsOf, Returns, Sampling, ScoredToken, TopToken};

/// Far above everything else: at temperature 1 another token comes once in ten million times.
const WANTED: f32 = 20.0;
const NEVER: f32 = f32::NEG_INFINITY;

/// A drawn token's scores.
pub(super) struct Drawn {
    pub(super) id: u32,
    /// log softmax(scores / T), T = 1 when greedy: what a [`crate::TokenRecord`] keeps.
    pub(super) sampling_log_prob: f32,
    raw: Vec<f32>,
    processed: Vec<f32>,
}

impl Drawn {
    pub(super) fn scored(&self, returns: &Returns) -> ScoredToken {
        let log_probs = match returns.log_probs.unwrap_or_default() {
            LogProbsOf::Raw => &self.raw,
            LogProbsOf::Processed => &self.processed,
        };
        scored(self.id, log_probs, returns.top, &returns.named)
    }
}

/// What has been said so far, as far as sampling cares.
pub(super) struct Context<'a> {
    pub(super) plan: &'a Plan,
    pub(super) prompt: &'a [u32],
    pub(super) drawn: &'a [u32],
    pub(super) seed: u64,
}

pub(super) fn draw(context: &Context<'_>, sampling: &Sampling) -> Result<Drawn, InferenceError> {
    let mut scores = model(context);
    let raw = log_softmax(&scores, 1.0);
    edit(&mut scores, context, sampling);
    let greedy = sampling.is_greedy();
    let temperature = if greedy { 1.0 } else { sampling.temperature };
    let edited = log_softmax(&scores, temperature);
    let best = likeliest(&edited);
    if edited[best] == NEVER {
        let why = "nothing may come next: the request's limits exclude every token";
        return Err(InferenceError::Failed(why.to_owned()));
    }
    let (id, processed) = if greedy {
        let only = (0..VOCABULARY).map(|id| if id == best { 0.0 } else { NEVER });
        (best, only.collect())
    } else {
        let cut = truncate(&edited, sampling);
        (pick(&cut, uniform(context.seed, context.drawn.len() as u64)), cut)
    };
    // Recorded as a policy gradient needs it: before anything was cut off or edited.
    let plain =
        if sampling.edits_scores() { edited } else { log_softmax(&model(context), temperature) };
    Ok(Drawn { id: id as u32, sampling_log_prob: plain[id], raw, processed })
}

/// Scores of a prompt's tokens: each is likely, and how likely depends on where it stands.
pub(super) fn prompt_scores(prompt: &[u32], top: usize) -> Vec<Option<ScoredToken>> {
    let score = |(at, id): (usize, &u32)| {
        if at == 0 {
            return None;
        }
        let mut scores: Vec<f32> = (0..VOCABULARY).map(|id| noise(at, id)).collect();
        scores[*id as usize] += 6.0;
        Some(scored(*id, &log_softmax(&scores, 1.0), Some(top), &[]))
    };
    prompt.iter().enumerate().map(score).collect()
}

/// The made-up model's own scores of the next token.
fn model(context: &Context<'_>) -> Vec<f32> {
    let at = context.drawn.len();
    let mut scores: Vec<f32> = (0..VOCABULARY).map(|id| noise(at, id)).collect();
    match context.plan.places.get(at) {
        Some(Place::Byte(byte)) => scores[usize::from(*byte)] = WANTED,
        Some(Place::AnyLetter) => (b'a'..=b'z').for_each(|c| scores[usize::from(c)] = WANTED),
        None => scores[END as usize] = WANTED,
    }
    scores
}

/// Letters are likelier than other bytes, so that what is not planned can still be read.
fn noise(at: usize, id: usize) -> f32 {
    let chance = uniform(at as u64, id as u64) as f32;
    if (usize::from(b'a')..=usize::from(b'z')).contains(&id) { 3.0 * chance } else { chance - 10.0 }
}

/// Bias, constraint and allowed tokens, minimum length, penalties: in this order.
fn edit(scores: &mut [f32], context: &Context<'_>, sampling: &Sampling) {
    let Context { plan, prompt, drawn, .. } = context;
    for (id, bias) in &sampling.logit_bias {
        if let Some(score) = scores.get_mut(*id as usize) {
            *score += bias;
        }
    }
    let mut only = |allowed: &dyn Fn(usize) -> bool| {
        for (id, score) in scores.iter_mut().enumerate() {
            if !allowed(id) {
                *score = NEVER;
            }
        }
    };
    if plan.is_constrained {
        let next = match plan.places.get(drawn.len()) {
            Some(Place::Byte(byte)) => usize::from(*byte),
            Some(Place::AnyLetter) | None => END as usize,
        };
        only(&|id| id == next);
    }
    if let Some(ids) = &sampling.allowed_token_ids {
        only(&|id| ids.contains(&(id as u32)));
    }
    let too_early = drawn.len() < sampling.min_tokens as usize;
    let stops = |id: usize| {
        id == END as usize || (too_early && sampling.stop_token_ids.contains(&(id as u32)))
    };
    if too_early || sampling.ignore_eos {
        only(&|id| !stops(id));
    }
    for word in &sampling.bad_words {
        let bytes: Vec<u32> = word.bytes().map(u32::from).collect();
        if let Some((last, before)) = bytes.split_last()
            && drawn.ends_with(before)
        {
            only(&|id| id != *last as usize);
        }
    }
    let counted = |ids: &[u32]| {
        let mut counts = [0_usize; VOCABULARY];
        for id in ids {
            counts[*id as usize] += 1;
        }
        counts
    };
    let (in_prompt, in_reply) = (counted(prompt), counted(drawn));
    for (id, score) in scores.iter_mut().enumerate() {
        let count = in_reply[id];
        let seen = count + in_prompt[id] > 0;
        if seen && *score > 0.0 {
            *score /= sampling.repetition_penalty;
        } else if seen {
            *score *= sampling.repetition_penalty;
        }
        if count > 0 {
            *score -= sampling.presence_penalty + count as f32 * sampling.frequency_penalty;
        }
    }
}

/// Min-p, top-k, top-p, and what is left shared out again.
fn truncate(log_probs: &[f32], sampling: &Sampling) -> Vec<f32> {
    let mut order: Vec<usize> = (0..log_probs.len()).collect();
    order.sort_by(|a, b| log_probs[*b].total_cmp(&log_probs[*a]).then(a.cmp(b)));
    let least = log_probs[order[0]] + sampling.min_p.ln();
    order.retain(|id| log_probs[*id] >= least);
    if sampling.top_k > 0 {
        order.truncate(sampling.top_k as usize);
    }
    let total: f32 = order.iter().map(|id| log_probs[*id].exp()).sum();
    let mut sum = 0.0;
    let inside = order.iter().position(|id| {
        sum += log_probs[*id].exp() / total;
        sum >= sampling.top_p
    });
    order.truncate(inside.map_or(order.len(), |last| last + 1));
    let mut left = vec![NEVER; log_probs.len()];
    for id in order {
        left[id] = log_probs[id];
    }
    log_softmax(&left, 1.0)
}

fn pick(log_probs: &[f32], point: f64) -> usize {
    let mut left = point;
    let mut last = likeliest(log_probs);
    for (id, log_prob) in log_probs.iter().enumerate().filter(|(_, log_prob)| **log_prob > NEVER) {
        last = id;
        left -= f64::from(log_prob.exp());
        if left < 0.0 {
            break;
        }
    }
    last
}

fn likeliest(scores: &[f32]) -> usize {
    let better = |best: usize, id: usize| if scores[id] > scores[best] { id } else { best };
    (0..scores.len()).fold(0, better)
}

fn log_softmax(scores: &[f32], temperature: f32) -> Vec<f32> {
    let most = scores.iter().copied().fold(NEVER, f32::max);
    if most == NEVER {
        return scores.to_vec();
    }
    let sum: f32 = scores.iter().map(|score| ((score - most) / temperature).exp()).sum();
    scores.iter().map(|score| (score - most) / temperature - sum.ln()).collect()
}

fn scored(id: u32, log_probs: &[f32], top: Option<usize>, named: &[u32]) -> ScoredToken {
    let bytes = |id: u32| super::text::token_bytes(id).unwrap_or_default();
    let own = log_probs[id as usize];
    let mut order: Vec<u32> = (0..log_probs.len() as u32).collect();
    let of = |id: u32| log_probs[id as usize];
    order.sort_by(|a, b| of(*b).total_cmp(&of(*a)).then(a.cmp(b)));
    let rank = order.iter().position(|other| *other == id).map(|at| at as u32 + 1);
    let mut told = order;
    told.truncate(top.unwrap_or(0));
    for id in named {
        if !told.contains(id) {
            told.push(*id);
        }
    }
    let asked = top.is_some() || !named.is_empty();
    let one = |id: u32| TopToken { id, bytes: bytes(id), log_prob: of(id) };
    ScoredToken {
        id,
        bytes: bytes(id),
        log_prob: own,
        rank: rank.filter(|_| asked),
        top: told.into_iter().map(one).collect(),
    }
}

/// A number from 0 to 1 that two others decide (the finaliser of SplitMix64).
fn uniform(seed: u64, at: u64) -> f64 {
    let mut z = seed.wrapping_add(at.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}
