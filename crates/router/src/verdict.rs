//! The file that decides a canary's fate.
//!
//! The first line that holds, decides:
//!
//! | evidence | verdict |
//! | --- | --- |
//! | a guard that acts is proven beyond its limit, or worse than the baseline | roll back |
//! | units, or rewards, do not fall evenly on the arms | invalid: pause, never promote |
//! | proven worse by less than the margin, where the policy holds that and no person has let it go on | pause, a person decides |
//! | no reward has come for very many units | stalled: pause |
//! | outcomes and time suffice at this step, and steps are left | advance |
//! | both suffice at the last step, every acting guard is proven good enough, and no limit is exceeded | promote |
//! | the most units, or the most time, are spent | inconclusive: pause, a person decides |
//! | otherwise | hold |
//!
//! Rolling back takes one proof of harm, so the acting guards share `alpha_rollback` (Bonferroni);
//! safety, and every limit, has the much smaller `alpha_slo` for itself. Promoting takes a proof from every acting guard,
//! and from the reward in any case, so each may use all of `alpha_promote` (intersection–union).
//! No data is never success, and neither are too few rewards for any test to speak. A verdict may be asked for as often as one likes, but it is for the
//! caller to latch: once rolled back, better numbers later do not undo it.

use std::fmt;

use serde::{Deserialize, Serialize};

use understudy_manifest::Guard;

use crate::{
    Evidence, Finding, Policy, Side, Signal, Test,
    finding::{UNITS_FOR_BOUNDS, findings, limit_in_force, tell},
};

/// What should happen to the canary now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Verdict {
    /// Keep the share. The side with fewer lacks this many outcomes, and the step this much time;
    /// when both are 0, what lacks is proof.
    Hold { missing_outcomes: u64, missing_ms: u64 },
    /// Raise the share to that of a later step, counted from 0.
    Advance { to_step: usize },
    /// Make the canary the stable arm; `superior` when its reward is proven higher, not just equal.
    Promote { superior: bool },
    /// Take the canary off the stage at once.
    RollBack { guard: Guard },
    /// The comparison is broken: pause, and do not trust it.
    Invalid,
    /// Proven worse, but by less than the margin: pause, and let a person weigh it.
    WorseWithinMargin { guard: Guard },
    /// Rewards have stopped coming in: pause until their source speaks again.
    Stalled { silent_units: u64 },
    /// All units were spent without a decision: pause, and let a person decide.
    Inconclusive,
}

/// A verdict and every finding behind it, those that decided first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    pub verdict: Verdict,
    pub reasons: Vec<Finding>,
}

/// Judges all evidence of a release that stands at `step`, counted from 0.
pub fn judge(policy: &Policy, evidence: &Evidence, step: usize) -> Judgement {
    let mut reasons = findings(policy, evidence);
    let verdict = decide(policy, evidence, step, &reasons);
    for finding in &mut reasons {
        finding.text = tell(policy, evidence, finding);
    }
    reasons.sort_by_key(|finding| !supports(policy, verdict, finding));
    Judgement { verdict, reasons }
}

/// The verdict of [`judge`] alone, without a sentence about it.
pub fn verdict(policy: &Policy, evidence: &Evidence, step: usize) -> Verdict {
    decide(policy, evidence, step, &findings(policy, evidence))
}

fn decide(policy: &Policy, evidence: &Evidence, step: usize, findings: &[Finding]) -> Verdict {
    if let Some(guard) = proven(Signal::Harm, policy, findings) {
        return Verdict::RollBack { guard };
    }
    if findings.iter().any(|finding| finding.signal == Signal::Invalid) {
        return Verdict::Invalid;
    }
    let small_harm = proven(Signal::SmallHarm, policy, findings);
    if let Some(guard) = small_harm.filter(|_| !evidence.is_resumed()) {
        return Verdict::WorseWithinMargin { guard };
    }
    let silent_units = evidence.silent_units();
    if silent_units >= policy.max_silent_units {
        return Verdict::Stalled { silent_units };
    }
    let last_step = step >= policy.steps.last_comparison();
    let missing_outcomes = missing_outcomes(policy, evidence, step, last_step);
    let missing_ms = policy.min_step_ms.saturating_sub(evidence.step_age_ms());
    let enough = missing_outcomes == 0 && missing_ms == 0;
    if enough && !last_step {
        return Verdict::Advance { to_step: step + 1 };
    }
    if enough && proven_good_enough(policy, evidence, findings) {
        return Verdict::Promote { superior: reward_signal(findings) == Signal::Superior };
    }
    let spent = evidence.units_spent() >= policy.max_units;
    if spent || policy.max_age_ms.is_some_and(|most| evidence.age_ms() >= most) {
        return Verdict::Inconclusive;
    }
    Verdict::Hold { missing_outcomes, missing_ms }
}

/// The guard to blame; a broken limit is named before a lost comparison.
fn proven(signal: Signal, policy: &Policy, findings: &[Finding]) -> Option<Guard> {
    findings
        .iter()
        .filter(|finding| finding.signal == signal && policy.acts(finding.guard))
        .min_by_key(|finding| finding.test != Test::Limit)
        .and_then(|finding| finding.guard)
}

/// Each acting guard is within its margin, errors and unsafe outputs are within their limits, and
/// nothing speaks against the comparison itself at the level of a promotion.
///
/// A margin is wide beside what is rare: a promotion could be proven before a broken limit is. So a
/// canary over a limit waits, even if it is there by chance. A limit on latency may be the
/// baseline's own p95, which half of all harmless canaries exceed; there the margin must do. And where
/// the baseline is over a limit, the canary need only be no further.
fn proven_good_enough(policy: &Policy, evidence: &Evidence, findings: &[Finding]) -> bool {
    let over_limit = |finding: &Finding| {
        let absolute = matches!(
            finding.guard,
            Some(Guard::Errors | Guard::Safety | Guard::Tools | Guard::Fallback)
        );
        let in_force = |guard| Some(limit_in_force(evidence, guard, policy.limit(guard)?));
        let limit = finding.guard.and_then(in_force).unwrap_or(1.0);
        finding.test == Test::Limit
            && absolute
            && policy.acts(finding.guard)
            && finding.estimate.is_some_and(|share| share > limit)
    };
    let doubtful = |finding: &Finding| {
        let e = finding.e_value.unwrap_or(0.0);
        finding.guard.is_none() && e >= 1.0 / policy.alpha_promote
    };
    if findings.iter().any(|finding| over_limit(finding) || doubtful(finding)) {
        return false;
    }
    let needed = |finding: &&Finding| {
        let compared = finding.test == Test::Difference;
        compared && (policy.acts(finding.guard) || finding.guard == Some(Guard::Reward))
    };
    findings.iter().filter(needed).all(|finding| finding.signal >= Signal::NonInferior)
}

/// How many more outcomes the side with fewer needs: those of the step, and enough for the reward to
/// have been tested at all. Rewards of 0 and 1 are, pair by pair, from the first one on; a reward in
/// between that is low on one side and high on the other can succeed on both, so that only the bounds
/// see it, which mean something from fifty units on. So do those of a promotion.
fn missing_outcomes(policy: &Policy, evidence: &Evidence, step: usize, last_step: bool) -> u64 {
    let missing = |side| {
        let at_step = evidence.outcomes_at(step, side);
        let floor = if last_step || is_fractional(evidence) { UNITS_FOR_BOUNDS } else { 0 };
        policy
            .min_outcomes_per_step
            .saturating_sub(at_step)
            .max(floor.saturating_sub(evidence.summary(side).rewarded))
    };
    missing(Side::Canary).max(missing(Side::Baseline))
}

fn is_fractional(evidence: &Evidence) -> bool {
    [Side::Canary, Side::Baseline].iter().any(|side| evidence.summary(*side).is_fractional())
}

fn reward_signal(findings: &[Finding]) -> Signal {
    findings
        .iter()
        .find(|finding| finding.guard == Some(Guard::Reward) && finding.test == Test::Difference)
        .map_or(Signal::Quiet, |finding| finding.signal)
}

/// Whether a finding is part of why this verdict was given.
fn supports(policy: &Policy, verdict: Verdict, finding: &Finding) -> bool {
    let compared = finding.test == Test::Difference;
    match verdict {
        Verdict::RollBack { guard } => {
            finding.signal == Signal::Harm && finding.guard == Some(guard)
        }
        Verdict::WorseWithinMargin { guard } => {
            finding.signal == Signal::SmallHarm && finding.guard == Some(guard)
        }
        Verdict::Stalled { .. } => finding.test == Test::RewardRatio,
        Verdict::Invalid => finding.signal == Signal::Invalid,
        Verdict::Promote { .. } => compared && finding.signal >= Signal::NonInferior,
        Verdict::Hold { .. } | Verdict::Inconclusive => {
            compared && policy.acts(finding.guard) && finding.signal <= Signal::Quiet
        }
        Verdict::Advance { .. } => compared,
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hold { missing_outcomes: 0, missing_ms: 0 } => {
                f.write_str("hold until the evidence is clear")
            }
            Self::Hold { missing_outcomes: 0, missing_ms } => {
                let seconds = missing_ms.div_ceil(1000);
                write!(f, "hold until the step has lasted {seconds} s longer")
            }
            Self::Hold { missing_outcomes, .. } => {
                write!(f, "hold until {missing_outcomes} more outcomes per arm are in")
            }
            Self::Advance { to_step } => write!(f, "advance to step {to_step}"),
            Self::Promote { superior: true } => f.write_str("promote: better"),
            Self::Promote { superior: false } => f.write_str("promote: not worse than the margin"),
            Self::RollBack { guard } => write!(f, "roll back because of {guard}"),
            Self::WorseWithinMargin { guard } => {
                write!(f, "pause: {guard} is worse, though by less than the margin")
            }
            Self::Stalled { silent_units } => {
                write!(f, "pause: {silent_units} units went by without any reward coming in")
            }
            Self::Invalid => f.write_str("pause: the comparison is not valid"),
            Self::Inconclusive => f.write_str("pause: inconclusive"),
        }
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.verdict)?;
        self.reasons.first().map_or(Ok(()), |reason| write!(f, ": {}", reason.text))
    }
}

#[cfg(test)]
mod tests;
