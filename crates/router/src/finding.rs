//! What each test found, with its numbers and one sentence for people.

mod told;

use serde::{Deserialize, Serialize};

use understudy_manifest::Guard;
use understudy_statistics::{
    Difference, Interval, Moments, ln_e_above_limit, ln_e_sample_ratio, reaches,
};

use crate::{ArmSummary, Evidence, Margin, Policy, Side};

pub(crate) use told::tell;

/// Below this many units per side only exact tests decide: the confidence sequence is asymptotic.
pub(crate) const UNITS_FOR_BOUNDS: u64 = 50;

/// A hash cannot put a unit on both sides. Renamed units and clock skew around a restart can, rarely.
const TOLERABLE_CROSSING: f64 = 0.001;

/// The result of one test on all evidence so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// None when the finding is about the comparison itself.
    pub guard: Option<Guard>,
    pub test: Test,
    pub signal: Signal,
    /// Canary minus baseline for a difference or pairs; the canary's share for a limit or a ratio.
    pub estimate: Option<f64>,
    /// The one-sided bounds that decide: towards harm at the guard's part of `alpha_rollback`,
    /// towards promotion at `alpha_promote`.
    pub bounds: Option<Interval>,
    /// The two-sided confidence sequence at level `1 − alpha_rollback`, for display.
    pub interval: Option<Interval>,
    /// Evidence for the alarm this test can raise.
    pub e_value: Option<f64>,
    pub units: UnitCounts,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// Exact 2×2 test on successes, paired in order of arrival.
    Pairs,
    /// Confidence sequence of the difference between the arms.
    Difference,
    /// Exact test of the canary alone against an absolute limit.
    Limit,
    /// Whether both sides get equally many units.
    UnitRatio,
    /// Whether both sides get equally many units with a reward.
    RewardRatio,
    /// Whether equal shares of the matured units of both sides got a reward.
    Missing,
    /// Whether units stay on their side.
    Crossing,
}

/// What a finding says, in rising order of good news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// The canary is proven worse, or beyond a limit.
    Harm,
    /// Proven worse, but by less than the margin, and the policy leaves that to a person.
    SmallHarm,
    /// The comparison itself is broken.
    Invalid,
    /// Neither alarm nor proof.
    Quiet,
    /// Proven to be worse by less than the margin.
    NonInferior,
    /// Proven better.
    Superior,
}

/// How many units a finding rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitCounts {
    pub canary: u64,
    pub baseline: u64,
}

/// Every test, whether its guard acts or is only watched; without their sentences.
pub(crate) fn findings(policy: &Policy, evidence: &Evidence) -> Vec<Finding> {
    let mut findings = vec![pairs(policy, evidence)];
    for guard in Guard::ALL.into_iter().filter(|guard| is_heard(policy, evidence, *guard)) {
        findings.extend(policy.limit(guard).map(|slo| limit(policy, evidence, guard, slo)));
        if guard != Guard::Cost || policy.cost_cap.is_some() {
            findings.push(difference(policy, evidence, guard));
        }
    }
    findings.push(ratio(policy, Test::UnitRatio, units(evidence, |arm| arm.units)));
    findings.push(ratio(policy, Test::RewardRatio, units(evidence, |arm| arm.rewarded)));
    if policy.maturation_ms > 0 {
        findings.push(missing(policy, evidence));
    }
    findings.push(crossing(policy, evidence));
    findings
}

/// A guard of behaviour that only watches has nothing to say of what nobody did.
fn is_heard(policy: &Policy, evidence: &Evidence, guard: Guard) -> bool {
    let marked = |side| evidence.summary(side).marked(guard) > 0;
    let silent = guard.is_behaviour() && !policy.acts(Some(guard));
    !silent || marked(Side::Canary) || marked(Side::Baseline)
}

fn pairs(policy: &Policy, evidence: &Evidence) -> Finding {
    let tally = evidence.pairs();
    let (canary, baseline) = (tally.treatment_successes as f64, tally.control_successes as f64);
    let units = UnitCounts { canary: tally.blocks, baseline: tally.blocks };
    let mut finding = Finding::quiet(Some(Guard::Reward), Test::Pairs, units);
    let change = (tally.blocks > 0).then(|| (canary - baseline) / tally.blocks as f64);
    finding.estimate = change;
    let baseline = baseline / tally.blocks.max(1) as f64;
    let alarm = harm(policy, Guard::Reward, -change.unwrap_or(0.0), baseline);
    finding.weigh(tally.ln_e_max, policy.alpha_harm(Guard::Reward), alarm);
    finding
}

fn limit(policy: &Policy, evidence: &Evidence, guard: Guard, slo: f64) -> Finding {
    let units = units(evidence, |summary| summary.units);
    let (bad, all) = (evidence.summary(Side::Canary).against_limit(guard), units.canary);
    let mut finding = Finding::quiet(Some(guard), Test::Limit, units);
    finding.estimate = (all > 0).then(|| bad as f64 / all as f64);
    let limit = limit_in_force(evidence, guard, slo);
    finding.weigh(ln_e_above_limit(bad, all, limit), policy.alpha_slo, Signal::Harm);
    finding
}

/// A limit that the baseline does not keep either says nothing against the canary: then it is the
/// baseline's own share, as if one more of its units had been at the limit.
pub(crate) fn limit_in_force(evidence: &Evidence, guard: Guard, slo: f64) -> f64 {
    let baseline = evidence.summary(Side::Baseline);
    let share = (baseline.against_limit(guard) as f64 + slo) / (baseline.units as f64 + 1.0);
    share.max(slo)
}

fn ratio(policy: &Policy, test: Test, units: UnitCounts) -> Finding {
    let (canary, baseline) = (units.canary, units.baseline);
    let total = canary + baseline;
    let mut finding = Finding::quiet(None, test, units);
    finding.estimate = (total > 0).then(|| canary as f64 / total as f64);
    let ln_e = ln_e_sample_ratio([canary, baseline], [0.5, 0.5]);
    finding.weigh(ln_e, policy.alpha_ratio, Signal::Invalid);
    finding
}

/// Rewards that go missing on one side are no accident of the split: they hide what they belong to.
fn missing(policy: &Policy, evidence: &Evidence) -> Finding {
    let units = units(evidence, |summary| summary.matured);
    let mut finding = Finding::quiet(None, Test::Missing, units);
    if units.fewest() < UNITS_FOR_BOUNDS {
        return finding;
    }
    let joined = |side| evidence.summary(side).joined();
    let change = Difference::of(joined(Side::Canary), joined(Side::Baseline));
    finding.estimate = Some(change.delta);
    finding.interval = Some(change.interval(policy.alpha_ratio, policy.n_star));
    let ln_e = change.ln_e(0.0, policy.alpha_ratio, policy.n_star);
    finding.weigh(ln_e, policy.alpha_ratio, Signal::Invalid);
    finding
}

fn crossing(policy: &Policy, evidence: &Evidence) -> Finding {
    let units = units(evidence, |summary| summary.units);
    let crossed = [Side::Canary, Side::Baseline].map(|side| evidence.summary(side).crossed);
    let (bad, all) = (crossed.iter().sum::<u64>(), units.canary + units.baseline);
    let mut finding = Finding::quiet(None, Test::Crossing, units);
    finding.estimate = (all > 0).then(|| bad as f64 / all as f64);
    let ln_e = ln_e_above_limit(bad, all, TOLERABLE_CROSSING);
    finding.weigh(ln_e, policy.alpha_ratio, Signal::Invalid);
    finding
}

fn difference(policy: &Policy, evidence: &Evidence, guard: Guard) -> Finding {
    let moments = |side| evidence.summary(side).moments(guard);
    let (canary, baseline) = (moments(Side::Canary), moments(Side::Baseline));
    let change = Difference::of(canary, baseline);
    let units = units(evidence, |summary| summary.counted(guard));
    let mut finding = Finding::quiet(Some(guard), Test::Difference, units);
    finding.estimate = (units.fewest() > 0).then_some(change.delta);
    if units.fewest() < UNITS_FOR_BOUNDS {
        return finding;
    }
    let gain = gain(guard, canary, baseline);
    let best = gain.upper(policy.alpha_harm(guard), policy.n_star);
    let worst = gain.lower(policy.alpha_promote, policy.n_star);
    finding.signal = if best < 0.0 {
        harm(policy, guard, -gain.delta, baseline.mean)
    } else if worst > 0.0 {
        Signal::Superior
    } else if within_tolerance(policy, guard, canary, baseline) {
        Signal::NonInferior
    } else {
        Signal::Quiet
    };
    let (lower, upper) = if good_when_large(guard) { (worst, best) } else { (-best, -worst) };
    finding.bounds = Some(Interval { lower, upper });
    finding.interval = Some(change.interval(policy.alpha_rollback, policy.n_star));
    let loss = Difference { delta: -gain.delta, ..gain };
    finding.e_value = Some(finite(loss.ln_e_above(0.0, policy.alpha_harm(guard), policy.n_star)));
    finding
}

/// What the canary gains: better the larger, whether rewards should rise or bad marks should fall.
fn gain(guard: Guard, canary: Moments, baseline: Moments) -> Difference {
    if good_when_large(guard) {
        Difference::of(canary, baseline)
    } else {
        Difference::of(baseline, canary)
    }
}

/// Non-inferiority. A relative margin scales the baseline, which keeps its variance in the bound.
fn within_tolerance(policy: &Policy, guard: Guard, canary: Moments, baseline: Moments) -> bool {
    let (scale, absolute) = match policy.tolerance(guard) {
        Margin::Absolute(margin) => (1.0, margin),
        Margin::Relative { relative } if good_when_large(guard) => (1.0 - relative, 0.0),
        Margin::Relative { relative } => (1.0 + relative, 0.0),
    };
    let gain = gain(guard, canary, baseline.scaled(scale));
    gain.lower(policy.alpha_promote, policy.n_star) > -absolute
}

/// How proven harm counts, by the size it seems to have.
fn harm(policy: &Policy, guard: Guard, loss: f64, baseline: f64) -> Signal {
    let small = loss < policy.tolerance(guard).at(baseline);
    if small && policy.holds_small_harm(guard) { Signal::SmallHarm } else { Signal::Harm }
}

pub(crate) fn good_when_large(guard: Guard) -> bool {
    guard == Guard::Reward
}

fn units(evidence: &Evidence, count: impl Fn(&ArmSummary) -> u64) -> UnitCounts {
    let of = |side| count(evidence.summary(side));
    UnitCounts { canary: of(Side::Canary), baseline: of(Side::Baseline) }
}

impl Finding {
    fn quiet(guard: Option<Guard>, test: Test, units: UnitCounts) -> Self {
        Self {
            guard,
            test,
            signal: Signal::Quiet,
            estimate: None,
            bounds: None,
            interval: None,
            e_value: None,
            units,
            text: String::new(),
        }
    }

    /// Raises an alarm where the e-value reaches `1/α`.
    fn weigh(&mut self, ln_e: f64, alpha: f64, alarm: Signal) {
        if reaches(ln_e, alpha) {
            self.signal = alarm;
        }
        self.e_value = Some(finite(ln_e));
    }
}

impl UnitCounts {
    pub fn fewest(&self) -> u64 {
        self.canary.min(self.baseline)
    }
}

/// The e-value itself, kept finite so that it survives JSON.
fn finite(ln_e: f64) -> f64 {
    ln_e.exp().min(f64::MAX)
}
