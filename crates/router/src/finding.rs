//! What each test found, with its numbers and one sentence for people.

use serde::{Deserialize, Serialize};

use understudy_manifest::Guard;

use crate::{
    ArmSummary, Evidence, Policy, Side,
    sequential::{Difference, Moments, ln_e_above_limit, ln_e_sample_ratio},
};

/// Below this many units per side only exact tests decide: the confidence sequence is asymptotic.
pub(crate) const UNITS_FOR_BOUNDS: u64 = 50;

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
    pub bounds: Option<Bounds>,
    /// The two-sided confidence sequence at level `1 − alpha_rollback`, for display.
    pub interval: Option<Bounds>,
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
}

/// What a finding says, in rising order of good news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// The canary is proven worse, or beyond a limit.
    Harm,
    /// The comparison itself is broken.
    Invalid,
    /// Neither alarm nor proof.
    Quiet,
    /// Proven to be worse by less than the margin.
    NonInferior,
    /// Proven better.
    Superior,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    pub lower: f64,
    pub upper: f64,
}

/// How many units a finding rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitCounts {
    pub canary: u64,
    pub baseline: u64,
}

/// Every test, whether its guard acts or is only watched.
pub(crate) fn findings(policy: &Policy, evidence: &Evidence) -> Vec<Finding> {
    let mut findings = vec![pairs(policy, evidence)];
    for guard in Guard::ALL {
        findings.extend(policy.limit(guard).map(|slo| limit(policy, evidence, guard, slo)));
        findings.push(difference(policy, evidence, guard));
    }
    let (all, rewarded) = (units(evidence, |arm| arm.units), units(evidence, |arm| arm.rewarded));
    findings.push(ratio(policy, Test::UnitRatio, "units", all));
    findings.push(ratio(policy, Test::RewardRatio, "units with a reward", rewarded));
    findings
}

fn pairs(policy: &Policy, evidence: &Evidence) -> Finding {
    let tally = evidence.pairs();
    let (pairs, canary, baseline) = (tally.pairs, tally.canary_successes, tally.baseline_successes);
    let units = UnitCounts { canary: pairs, baseline: pairs };
    let mut finding = Finding::quiet(Some(Guard::Reward), Test::Pairs, units);
    finding.estimate = (pairs > 0).then(|| (canary as f64 - baseline as f64) / pairs as f64);
    let weighed = finding.weigh(tally.ln_e_max, policy.alpha_harm(Guard::Reward), Signal::Harm);
    finding.text = format!(
        "of {pairs} pairs of units the canary succeeded in {canary} and its baseline in \
         {baseline} ({weighed})"
    );
    finding
}

fn limit(policy: &Policy, evidence: &Evidence, guard: Guard, slo: f64) -> Finding {
    let units = units(evidence, |summary| summary.units);
    let (bad, all) = (evidence.summary(Side::Canary).marked(guard), units.canary);
    let mut finding = Finding::quiet(Some(guard), Test::Limit, units);
    finding.estimate = (all > 0).then(|| bad as f64 / all as f64);
    let weighed = finding.weigh(ln_e_above_limit(bad, all, slo), policy.alpha_slo, Signal::Harm);
    let how = if finding.signal == Signal::Harm { "above" } else { "not shown to be above" };
    let (what, slo) = (noun(guard), percent(slo));
    finding.text =
        format!("{what} hit {bad} of {all} canary units, {how} the limit of {slo} ({weighed})");
    finding
}

fn ratio(policy: &Policy, test: Test, what: &str, units: UnitCounts) -> Finding {
    let (canary, baseline) = (units.canary, units.baseline);
    let total = canary + baseline;
    let mut finding = Finding::quiet(None, test, units);
    finding.estimate = (total > 0).then(|| canary as f64 / total as f64);
    let ln_e = ln_e_sample_ratio([canary, baseline], [0.5, 0.5]);
    let weighed = finding.weigh(ln_e, policy.alpha_ratio, Signal::Invalid);
    let fair = if finding.signal == Signal::Invalid { "no fair split" } else { "a fair split" };
    finding.text = format!(
        "{canary} {what} at the canary and {baseline} at its baseline are {fair} ({weighed})"
    );
    finding
}

fn difference(policy: &Policy, evidence: &Evidence, guard: Guard) -> Finding {
    let moments = |side| {
        let summary = evidence.summary(side);
        let (sum, sum_of_squares) = summary.sums(guard);
        Moments::smoothed(summary.counted(guard), sum, sum_of_squares)
    };
    let (canary, baseline) = (moments(Side::Canary), moments(Side::Baseline));
    let change = Difference::of(canary, baseline);
    let units = units(evidence, |summary| summary.counted(guard));
    let mut finding = Finding::quiet(Some(guard), Test::Difference, units);
    finding.estimate = (units.fewest() > 0).then_some(change.delta);
    if units.fewest() < UNITS_FOR_BOUNDS {
        let (what, so_far) = (noun(guard), units.so_far());
        finding.text =
            format!("{what}: no bounds {so_far}, they count from {UNITS_FOR_BOUNDS} per arm");
        return finding;
    }
    // More reward is good and more marks are bad; `gain` is the better the larger for either.
    let rewards = guard == Guard::Reward;
    let reverse = Difference::of(baseline, canary);
    let (gain, loss) = if rewards { (change, reverse) } else { (reverse, change) };
    let best = gain.delta + gain.one_sided(policy.alpha_harm(guard), policy.n_star);
    let worst = gain.delta - gain.one_sided(policy.alpha_promote, policy.n_star);
    finding.signal = if best < 0.0 {
        Signal::Harm
    } else if worst > 0.0 {
        Signal::Superior
    } else if worst > -policy.tolerance(guard) {
        Signal::NonInferior
    } else {
        Signal::Quiet
    };
    let (lower, upper) = if rewards { (worst, best) } else { (-best, -worst) };
    finding.bounds = Some(Bounds { lower, upper });
    let half = change.two_sided(policy.alpha_rollback, policy.n_star);
    finding.interval = Some(Bounds { lower: change.delta - half, upper: change.delta + half });
    finding.e_value = Some(finite(loss.ln_e_above(0.0, policy.alpha_harm(guard), policy.n_star)));
    finding.text = told(policy, guard, &finding, change.delta, (best, worst));
    finding
}

/// "reward fell by 0.62 (95 % sequential upper bound -0.31 < 0) after 60 units per arm".
fn told(
    policy: &Policy,
    guard: Guard,
    finding: &Finding,
    change: f64,
    (best, worst): (f64, f64),
) -> String {
    let tolerance = policy.tolerance(guard);
    let (alpha, bound, from_below, threshold) = match finding.signal {
        Signal::Harm => (policy.alpha_harm(guard), best, false, 0.0),
        Signal::Superior => (policy.alpha_promote, worst, true, 0.0),
        _ => (policy.alpha_promote, worst, true, -tolerance),
    };
    let rewards = guard == Guard::Reward;
    let (subject, gain, bound, threshold) = if rewards {
        ("reward".to_owned(), change, bound, threshold)
    } else {
        let subject = format!("the share of units with {}", noun(guard));
        (subject, -change, -bound, 0.0 - threshold)
    };
    let (side, sign) = if from_below == rewards { ("lower", ">") } else { ("upper", "<") };
    let quiet = finding.signal == Signal::Quiet;
    let direction = if change < 0.0 { "fell" } else { "rose" };
    let (size, level, so_far) = (change.abs(), percent(1.0 - alpha), finding.units.so_far());
    let needs = if quiet { ", needs" } else { "" };
    let outlook =
        if quiet { outlook(finding.units, gain - worst, gain + tolerance) } else { String::new() };
    format!(
        "{subject} {direction} by {size:.2} ({level} sequential {side} bound {bound:.2}{needs} \
         {sign} {threshold}) {so_far}{outlook}"
    )
}

/// How far a proof still is: the bound's width shrinks about as the root of the units grows.
fn outlook(units: UnitCounts, width: f64, room: f64) -> String {
    if room <= 0.0 {
        return "; no number of units would do if this difference stays".to_owned();
    }
    let more = units.fewest() as f64 * ((width / room).powi(2) - 1.0);
    format!("; about {:.0} more per arm would do if this difference stays", more.ceil().max(1.0))
}

fn noun(guard: Guard) -> &'static str {
    match guard {
        Guard::Reward => "reward",
        Guard::Errors => "errors",
        Guard::Latency => "slow replies",
        Guard::Safety => "unsafe outputs",
    }
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

    /// Raises an alarm where the e-value reaches `1/α`, and says in words how it stands.
    fn weigh(&mut self, ln_e: f64, alpha: f64, alarm: Signal) -> String {
        let (e, raised) = (finite(ln_e), ln_e >= -alpha.ln());
        if raised {
            self.signal = alarm;
        }
        self.e_value = Some(e);
        let digits = if e < 10.0 { 2 } else { 0 };
        let e = if e < 1e6 { format!("{e:.digits$}") } else { format!("{e:.1e}") };
        format!("e-value {e} {} {:.0}", if raised { '≥' } else { '<' }, 1.0 / alpha)
    }
}

impl UnitCounts {
    pub fn fewest(&self) -> u64 {
        self.canary.min(self.baseline)
    }

    fn so_far(self) -> String {
        if self.canary == self.baseline {
            format!("after {} units per arm", self.canary)
        } else {
            format!("after {} canary and {} baseline units", self.canary, self.baseline)
        }
    }
}

/// The e-value itself, kept finite so that it survives JSON.
fn finite(ln_e: f64) -> f64 {
    ln_e.exp().min(f64::MAX)
}

/// `0.0125` as `1.25 %`.
fn percent(share: f64) -> String {
    let text = format!("{:.2}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}
