//! A finding in one sentence for people.

use understudy_manifest::Guard;

use crate::{Evidence, Finding, Policy, Side, Signal, Test, UnitCounts};

use super::{UNITS_FOR_BOUNDS, good_when_large, limit_in_force};

/// What a finding says, such as "reward fell by 0.62 (95 % sequential upper bound -0.31 < 0) after
/// 60 units per arm".
pub(crate) fn tell(policy: &Policy, evidence: &Evidence, finding: &Finding) -> String {
    let UnitCounts { canary, baseline } = finding.units;
    match (finding.test, finding.guard) {
        (Test::Pairs, _) => {
            let (pairs, weighed) = (evidence.pairs(), weighed(policy, finding));
            format!(
                "of {} pairs of units the canary succeeded in {} and its baseline in {} ({weighed})",
                pairs.blocks, pairs.treatment_successes, pairs.control_successes
            )
        }
        (Test::Difference, Some(guard)) => difference(policy, evidence, finding, guard),
        (Test::Limit, Some(guard)) => limit(policy, evidence, finding, guard),
        (Test::RewardRatio, _) => ratio(policy, finding, "units with a reward"),
        (Test::Missing, _) => {
            let missing = |side| evidence.summary(side).missing;
            format!(
                "{} of {canary} canary units and {} of {baseline} baseline units got no reward in \
                 time{}",
                missing(Side::Canary),
                missing(Side::Baseline),
                finding
                    .e_value
                    .map(|_| format!(" ({})", weighed(policy, finding)))
                    .unwrap_or_default()
            )
        }
        (Test::Crossing, _) => {
            let crossed =
                evidence.summary(Side::Canary).crossed + evidence.summary(Side::Baseline).crossed;
            let (all, weighed) = (canary + baseline, weighed(policy, finding));
            format!("{crossed} of {all} units were seen on both sides ({weighed})")
        }
        // A difference or a limit always has its guard.
        (Test::UnitRatio | Test::Difference | Test::Limit, _) => ratio(policy, finding, "units"),
    }
}

fn limit(policy: &Policy, evidence: &Evidence, finding: &Finding, guard: Guard) -> String {
    let (bad, all) = (evidence.summary(Side::Canary).against_limit(guard), finding.units.canary);
    let how = if finding.signal == Signal::Harm { "above" } else { "not shown to be above" };
    let (what, slo) = (noun(guard), policy.limit(guard).unwrap_or(1.0));
    let in_force = limit_in_force(evidence, guard, slo);
    let limit = if in_force > slo {
        let (share, slo) = (percent(in_force), percent(slo));
        format!("the {share} of a baseline that is over the limit of {slo} itself")
    } else {
        format!("the limit of {}", percent(slo))
    };
    let when = if guard == Guard::Safety { "" } else { " at their first reply" };
    let weighed = weighed(policy, finding);
    format!("{what} hit {bad} of {all} canary units{when}, {how} {limit} ({weighed})")
}

fn ratio(policy: &Policy, finding: &Finding, what: &str) -> String {
    let UnitCounts { canary, baseline } = finding.units;
    let fair = if finding.signal == Signal::Invalid { "no fair split" } else { "a fair split" };
    let weighed = weighed(policy, finding);
    format!("{canary} {what} at the canary and {baseline} at its baseline are {fair} ({weighed})")
}

fn difference(policy: &Policy, evidence: &Evidence, finding: &Finding, guard: Guard) -> String {
    let (what, so_far) = (noun(guard), so_far(finding.units));
    let (Some(bounds), Some(change)) = (finding.bounds, finding.estimate) else {
        return format!("{what}: no bounds {so_far}, they count from {UNITS_FOR_BOUNDS} per arm");
    };
    let large_is_good = good_when_large(guard);
    let tolerance =
        policy.tolerance(guard).at(evidence.summary(Side::Baseline).moments(guard).mean);
    let allowed = if large_is_good { -tolerance } else { tolerance };
    let (towards_harm, towards_gain) =
        if large_is_good { (bounds.upper, bounds.lower) } else { (bounds.lower, bounds.upper) };
    let (alpha, bound, threshold) = match finding.signal {
        Signal::Harm | Signal::SmallHarm => (policy.alpha_harm(guard), towards_harm, 0.0),
        Signal::Superior => (policy.alpha_promote, towards_gain, 0.0),
        _ => (policy.alpha_promote, towards_gain, allowed),
    };
    let from_below = bound == bounds.lower;
    let (side, sign) = if from_below { ("lower", ">") } else { ("upper", "<") };
    let subject = match guard {
        Guard::Reward => "reward".to_owned(),
        Guard::Cost => "the mean cost, in parts of its cap,".to_owned(),
        _ => format!("the share of units with {what}"),
    };
    let quiet = finding.signal == Signal::Quiet;
    let direction = if change < 0.0 { "fell" } else { "rose" };
    let (size, level) = (change.abs(), percent(1.0 - alpha));
    let needs = if quiet { ", needs" } else { "" };
    let loss = if large_is_good { -change } else { change };
    let outlook = if quiet {
        outlook(finding.units, (change - towards_gain).abs(), tolerance - loss)
    } else {
        String::new()
    };
    format!(
        "{subject} {direction} by {size:.2} ({level} sequential {side} bound {bound:.2}{needs} \
         {sign} {threshold}) {so_far}{outlook}",
        threshold = threshold_text(threshold)
    )
}

/// As given where it was given; a relative one, which follows the baseline, in two digits.
fn threshold_text(threshold: f64) -> String {
    let short = format!("{threshold}");
    if short.len() <= 6 { short } else { format!("{threshold:.3}") }
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
        Guard::Cost => "cost",
        Guard::Tools => "invalid calls or formats",
        Guard::Questions => "questions asked back",
        Guard::Refusals => "refusals",
        Guard::Length => "replies cut off or too long",
        Guard::Fallback => "replies by another",
        Guard::Escalation => "escalations",
        Guard::FirstToken => "late first tokens",
    }
}

/// How the evidence stands against what an alarm needs.
fn weighed(policy: &Policy, finding: &Finding) -> String {
    let alpha = match (finding.test, finding.guard) {
        (Test::Limit, _) => policy.alpha_slo,
        (_, Some(guard)) => policy.alpha_harm(guard),
        (_, None) => policy.alpha_ratio,
    };
    let e = finding.e_value.unwrap_or(0.0);
    let raised = matches!(finding.signal, Signal::Harm | Signal::SmallHarm | Signal::Invalid);
    let digits = if e < 10.0 { 2 } else { 0 };
    let e = if e < 1e6 { format!("{e:.digits$}") } else { format!("{e:.1e}") };
    format!("e-value {e} {} {:.0}", if raised { '≥' } else { '<' }, 1.0 / alpha)
}

fn so_far(units: UnitCounts) -> String {
    if units.canary == units.baseline {
        format!("after {} units per arm", units.canary)
    } else {
        format!("after {} canary and {} baseline units", units.canary, units.baseline)
    }
}

/// `0.0125` as `1.25 %`.
fn percent(share: f64) -> String {
    let text = format!("{:.2}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}
