//! Losses over sampled replies with advantages.
//!
//! For every trained token, with `lp` the policy's log-probability, `old` that of the policy that
//! the ratio is to, `μ` the sampler's, `ref` the reference's and `A` the advantage:
//!
//! ```text
//! loss = Σ_t share · (ℓ_t · keep_t · w_t + β · kl_t)
//! ```
//!
//! - `ℓ`: the loss by name, below, with the ratio `ρ = exp(lp − old)`;
//! - `keep`: the off-policy sequence mask, 0 where `A < 0` and the mean of `μ − lp` is above δ;
//! - `w`: the correction from `old − μ`, a constant (`policy/correction.rs`);
//! - `kl`: the pull to the reference (`policy/kl.rs`), which neither `keep` nor `w` touches;
//! - `share`: what the aggregation divides by, the same for all tokens of a reply.
//!
//! | loss | ℓ |
//! | --- | --- |
//! | `ppo` | `−min(min(ρ, δ)·A, clip(ρ, 1−ε_lo, 1+ε_hi)·A)`, at most `−c·A` where `A < 0` |
//! | `gspo`, `luspo` | the same, with `ρ = exp(mean of lp − old)` of the reply |
//! | `cispo` | `−sg(min(ρ, cap))·A·lp` |
//! | `sapo` | `−A·(4/τ)·σ(τ(ρ − 1))` |
//! | `vespo` | `−sg(φ(W))·A·lp` with `φ(W) = e^λ·W^k·e^(−λW)`, `W` the product of ρ and of w |
//! | `dppo` | `−in·A·ρ + λ(lp − μ)²`, ρ to μ |
//! | `reinforce` | `−A·lp`, times the correction |
//! | `dro` | `−A·lp + (β/2)(lp − μ)²` |
//!
//! `sg` is held constant. `in` is 0 where the probability has already moved by more than the band
//! to where A pushes it, and 1 elsewhere. Sources: TRL's GRPO trainer for all but the last three
//! and dual clip; verl (dual clip, bypass), prime-rl (DPPO), Richemond et al. 2024 (DRO).
//!
//! **Three policies or two.** With `old` from the trainer and `sampler` as recorded, the correction
//! bridges the two (decoupled). To take the ratio to the sampler directly (bypass), pass the
//! sampler's log-probabilities as both: `w` is then exactly 1, and nothing is weighted twice.
//! With `old` absent it is `lp` itself: the ratio is 1 and nothing ever clips, which is right only
//! for replies of the very weights being trained.
//!
//! Every log-ratio is held to ±20 before its exponential, as verl does; beyond, its derivative is 0.

mod correction;
mod kl;
mod loss;
mod ratio;
mod tally;

use understudy_manifest::{Aggregation, PolicyLoss, PolicySettings};

use crate::{
    LogProb, ObjectiveError,
    side::{finite, same_length},
};

use ratio::Ratios;

pub use tally::{PolicyMetrics, PolicyTally};

/// One reply and what the loss needs to know of its tokens; all slices are of the same tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample<'a, F = f32> {
    pub log_probs: &'a [F],
    /// The policy the ratio is to; `log_probs` themselves, held constant, when absent.
    pub old: Option<&'a [F]>,
    /// What the sampler recorded; `old`, when absent and no correction is asked for.
    pub sampler: Option<&'a [F]>,
    pub reference: Option<&'a [F]>,
    /// Which tokens are trained; all, when absent. Values of other tokens are never read.
    pub mask: Option<&'a [bool]>,
    pub advantage: Advantage<'a>,
}

/// How good the reply was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Advantage<'a> {
    /// As a whole.
    Reply(f64),
    /// Token by token.
    Tokens(&'a [f64]),
}

/// What the sums of one optimiser step are divided by. Replies without advantage count as long as
/// the caller counts them: the denominator is the caller's to fix before, or after, filtering.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyCounts {
    /// Replies of the step.
    pub replies: usize,
    /// Trained tokens of the step.
    pub tokens: usize,
    /// `bnpo` alone: trained tokens of this reply's micro-batch.
    pub micro_batch_tokens: usize,
    /// `bnpo` alone: micro-batches of the step.
    pub micro_batches: usize,
}

/// What one reply adds to its step.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyGradient {
    /// Its share of the step's loss.
    pub loss: f64,
    /// `∂(loss of the step)/∂lp` of every token, 0 where the mask is.
    pub coefficients: Vec<f64>,
    pub tally: PolicyTally,
}

/// The loss of one sampled reply, as a share of its step, and the derivative by each token.
pub fn sample<F: LogProb>(
    settings: &PolicySettings,
    sample: Sample<'_, F>,
    counts: PolicyCounts,
) -> Result<PolicyGradient, ObjectiveError> {
    let tokens = read(settings, &sample)?;
    let share = share(settings, tokens.len(), counts);
    let ratios = Ratios::of(settings.loss, &tokens);
    let weights = correction::weights(settings, &tokens);
    let kept = kept(settings, &tokens);
    let pushes = loss::pushes(settings, &tokens, &ratios, &weights);
    let pulls: Vec<kl::Pull> =
        (0..tokens.len()).map(|t| kl::pull(&settings.kl, &tokens[t], ratios.at(t))).collect();

    let beta = settings.kl.beta;
    let mut by_log_ratio = Vec::with_capacity(tokens.len());
    let mut by_log_prob = Vec::with_capacity(tokens.len());
    let mut loss = 0.0;
    for (t, (push, pull)) in pushes.iter().zip(&pulls).enumerate() {
        let weight = if kept[t] { weights.factor(t) } else { 0.0 };
        loss += share * (weight * push.loss + beta * pull.value);
        by_log_ratio.push(share * (weight * push.by_log_ratio + beta * pull.by_log_ratio));
        by_log_prob.push(share * (weight * push.by_log_prob + beta * pull.by_log_prob));
    }
    let mut coefficients = vec![0.0; sample.log_probs.len()];
    for (token, coefficient) in tokens.iter().zip(ratios.spread(&by_log_ratio, &by_log_prob)) {
        coefficients[token.position] = coefficient;
    }
    let mut tally = PolicyTally::of(settings, &tokens, &ratios, &kept);
    if sample.reference.is_some() {
        tally.count_divergence(&pulls);
    }
    if sample.sampler.is_some() {
        tally.count_sampler(&tokens, weights.values());
    }
    Ok(PolicyGradient { loss, coefficients, tally })
}

/// What is known of one trained token. What was not given equals what it stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Token {
    position: usize,
    lp: f64,
    old: f64,
    /// μ
    sampler: f64,
    reference: f64,
    advantage: f64,
}

/// The trained tokens. A token the mask leaves out isn't looked at: tools have no log-probability.
fn read<F: LogProb>(
    settings: &PolicySettings,
    sample: &Sample<'_, F>,
) -> Result<Vec<Token>, ObjectiveError> {
    check_shape(sample)?;
    check_needs(settings, sample)?;
    let value = |what, values: Option<&[F]>, position: usize, otherwise: f64| match values {
        Some(values) => finite(what, position, values[position]),
        None => Ok(otherwise),
    };
    let trained = (0..sample.log_probs.len()).filter(|at| sample.mask.is_none_or(|mask| mask[*at]));
    trained
        .map(|position| {
            let lp = finite("log-probability", position, sample.log_probs[position])?;
            let old = value("old log-probability", sample.old, position, lp)?;
            let advantage = match sample.advantage {
                Advantage::Reply(advantage) => advantage,
                Advantage::Tokens(advantages) => advantages[position],
            };
            Ok(Token {
                position,
                lp,
                old,
                sampler: value("sampler log-probability", sample.sampler, position, old)?,
                reference: value("reference log-probability", sample.reference, position, lp)?,
                advantage: finite("advantage", position, advantage)?,
            })
        })
        .collect()
}

fn check_shape<F>(sample: &Sample<'_, F>) -> Result<(), ObjectiveError> {
    let expected = sample.log_probs.len();
    let advantages = match sample.advantage {
        Advantage::Reply(_) => None,
        Advantage::Tokens(advantages) => Some(advantages.len()),
    };
    let lengths = [
        ("old log-probabilities", sample.old.map(<[F]>::len)),
        ("sampler's log-probabilities", sample.sampler.map(<[F]>::len)),
        ("reference's log-probabilities", sample.reference.map(<[F]>::len)),
        ("mask", sample.mask.map(<[bool]>::len)),
        ("advantages", advantages),
    ];
    for (what, length) in lengths {
        same_length(what, expected, length.unwrap_or(expected))?;
    }
    Ok(())
}

fn check_needs<F>(settings: &PolicySettings, sample: &Sample<'_, F>) -> Result<(), ObjectiveError> {
    if settings.kl.beta > 0.0 && sample.reference.is_none() {
        return Err(ObjectiveError::NoReference { what: "divergence" });
    }
    if correction::is_on(settings) && sample.sampler.is_none() {
        return Err(ObjectiveError::NoSampler { what: "importance correction" });
    }
    if matches!(settings.loss, PolicyLoss::Dppo | PolicyLoss::Dro) && sample.sampler.is_none() {
        return Err(ObjectiveError::NoSampler { what: settings.loss.as_str() });
    }
    Ok(())
}

/// What one token's loss is multiplied by: see [`Aggregation`]. Nothing is divided by 0.
fn share(settings: &PolicySettings, tokens: usize, counts: PolicyCounts) -> f64 {
    let least_one = |count: usize| count.max(1) as f64;
    let replies = least_one(counts.replies);
    1.0 / match settings.aggregation {
        Aggregation::Grpo => least_one(tokens) * replies,
        Aggregation::Bnpo => least_one(counts.micro_batch_tokens) * least_one(counts.micro_batches),
        Aggregation::DrGrpo => replies * least_one(settings.max_completion_tokens),
        Aggregation::Dapo => least_one(counts.tokens),
        Aggregation::Luspo => replies,
    }
}

/// The off-policy sequence mask (DeepSeek-V3.2): a reply that was bad, and that the policy has
/// moved away from already, is not pushed further.
fn kept(settings: &PolicySettings, tokens: &[Token]) -> Vec<bool> {
    let gap: f64 = tokens.iter().map(|token| token.sampler - token.lp).sum();
    let is_far =
        settings.opsm_delta > 0.0 && gap / (tokens.len().max(1) as f64) > settings.opsm_delta;
    tokens.iter().map(|token| !(is_far && token.advantage < 0.0)).collect()
}
