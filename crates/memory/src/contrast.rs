//! What winners did and losers did not: features of skeletons, tested one by one.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Contrast, ErrorSignature, KeyIx, Keyed, Shape, Skeleton, ToolIx};

/// Something a run did. Each is compared only among the runs in which it could have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Feature {
    /// The tool was called at all.
    Used(ToolIx),
    /// Among runs that called the second: the first was called before it, and had worked.
    Before(ToolIx, ToolIx),
    /// Among runs that called both: they were asked for at once.
    Parallel(ToolIx, ToolIx),
    /// Among runs that called the tool: the argument was given, in this shape.
    Given(ToolIx, KeyIx, Shape),
    /// Likewise, in whatever shape.
    Passed(ToolIx, KeyIx),
    /// Among runs in which the first failed so, anywhere or at one place: the second was called next.
    Recovered(ToolIx, ErrorSignature, Option<Keyed>, ToolIx),
    /// The run took at most so many calls.
    Within(u32),
}

/// A feature that tells winners from losers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finding {
    pub(crate) feature: Feature,
    /// Whether winners show it; else losers do.
    pub(crate) helps: bool,
    pub(crate) winners: Share,
    pub(crate) losers: Share,
    pub(crate) p: f64,
}

/// How many of those that could did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Share {
    pub(crate) did: u64,
    pub(crate) could: u64,
}

impl Share {
    fn rate(self) -> f64 {
        if self.could == 0 { 0.0 } else { self.did as f64 / self.could as f64 }
    }
}

impl Finding {
    /// How much more often the better side did it.
    pub(crate) fn lift(&self) -> f64 {
        (self.winners.rate() - self.losers.rate()).abs()
    }

    /// Newcombe's interval of the lift, at 90 %.
    pub(crate) fn lift_interval(&self) -> [f64; 2] {
        let (w, l) = ((self.winners.did, self.winners.could), (self.losers.did, self.losers.could));
        let (more, less) = if self.helps { (w, l) } else { (l, w) };
        let interval = understudy_statistics::newcombe(more, less, 0.1);
        [interval.lower, interval.upper]
    }
}

/// Everything that tells the two sides apart under the settings, strongest first.
pub(crate) fn findings(
    winners: &[&Skeleton],
    losers: &[&Skeleton],
    settings: &Contrast,
) -> Vec<Finding> {
    let mut shares: BTreeMap<Feature, [Share; 2]> = BTreeMap::new();
    let runs = || winners.iter().chain(losers);
    let mut all: BTreeSet<Feature> = runs().flat_map(|skeleton| features(skeleton)).collect();
    let lengths: BTreeSet<u32> = runs().map(|skeleton| skeleton.calls()).collect();
    // Every run is within the longest.
    all.extend(lengths.into_iter().rev().skip(1).map(Feature::Within));
    for (side, skeletons) in [winners, losers].into_iter().enumerate() {
        for skeleton in skeletons {
            let features = features(skeleton);
            for feature in all.iter().filter(|feature| could(skeleton, **feature)) {
                let did = match feature {
                    Feature::Within(most) => skeleton.calls() <= *most,
                    other => features.contains(other),
                };
                let share = &mut shares.entry(*feature).or_default()[side];
                share.could += 1;
                share.did += u64::from(did);
            }
        }
    }
    let mut found: Vec<Finding> = shares
        .into_iter()
        .filter_map(|(feature, [winners, losers])| finding(feature, winners, losers, settings))
        .collect();
    found.sort_by(|a, b| {
        a.p.total_cmp(&b.p).then(b.lift().total_cmp(&a.lift())).then(rank(a).cmp(&rank(b)))
    });
    found
}

/// Of two equally strong findings, the one that says what to do is the better lesson.
fn rank(finding: &Finding) -> (u8, Feature) {
    let rank = match finding.feature {
        Feature::Before(..) => 0,
        Feature::Recovered(..) => 1,
        Feature::Given(..) => 2,
        Feature::Passed(..) => 3,
        Feature::Parallel(..) => 4,
        Feature::Used(_) => 5,
        Feature::Within(_) => 6,
    };
    (rank + 7 * u8::from(!finding.helps), finding.feature)
}

fn finding(
    feature: Feature,
    winners: Share,
    losers: Share,
    settings: &Contrast,
) -> Option<Finding> {
    let helps = winners.rate() >= losers.rate();
    let (more, less) = if helps { (winners, losers) } else { (losers, winners) };
    let p = fisher(more, less);
    let finding = Finding { feature, helps, winners, losers, p };
    let enough = winners.could >= settings.min_support && losers.could >= settings.min_support;
    // "Do not call one before the other" is seldom the reason; what losers used or gave may be, and
    // that they stopped too early.
    let of_losers = |feature| {
        !matches!(feature, Feature::Before(..) | Feature::Parallel(..) | Feature::Recovered(..))
    };
    let sayable = helps || of_losers(feature);
    let supported = enough && more.did >= settings.min_support && sayable;
    (supported && p <= settings.max_p && finding.lift() >= settings.min_lift).then_some(finding)
}

/// The chance that the first share would be as high as it is, were both drawn from one rate.
/// Fisher's exact test, one-sided; the hypergeometric tail, summed as logarithms of factorials.
pub(crate) fn fisher(more: Share, less: Share) -> f64 {
    let (n, m) = (more.could, less.could);
    let did = more.did + less.did;
    let ln_choose = |n: u64, k: u64| ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k);
    let all = ln_choose(n + m, did);
    let tail = (more.did..=n.min(did)).filter(|k| did - k <= m);
    tail.map(|k| (ln_choose(n, k) + ln_choose(m, did - k) - all).exp()).sum::<f64>().min(1.0)
}

fn ln_factorial(n: u64) -> f64 {
    (2..=n).map(|k| (k as f64).ln()).sum()
}

/// Failures that at least `support` losers and no winner ran into: the tool, and how it failed.
pub(crate) fn dead_ends(
    winners: &[&Skeleton],
    losers: &[&Skeleton],
    support: u64,
) -> Vec<(ToolIx, ErrorSignature, u64)> {
    let failures = |skeleton: &Skeleton| -> BTreeSet<(ToolIx, ErrorSignature)> {
        skeleton.moves.iter().filter_map(|call| Some((call.tool, call.failed?))).collect()
    };
    let won: BTreeSet<_> = winners.iter().flat_map(|skeleton| failures(skeleton)).collect();
    let mut lost: BTreeMap<(ToolIx, ErrorSignature), u64> = BTreeMap::new();
    for failure in losers.iter().flat_map(|skeleton| failures(skeleton)) {
        *lost.entry(failure).or_default() += 1;
    }
    let only = lost.into_iter().filter(|(failure, n)| *n >= support && !won.contains(failure));
    only.map(|((tool, error), n)| (tool, error, n)).collect()
}

/// Steps winners often take in a row, longest first, and how many of them do: two to four different
/// tools, none of them inside a longer one that is as frequent.
pub(crate) fn workflows(winners: &[&Skeleton], support: u64) -> Vec<(Vec<ToolIx>, u64)> {
    let mut counts: BTreeMap<Vec<ToolIx>, u64> = BTreeMap::new();
    for skeleton in winners {
        let tools: Vec<ToolIx> = skeleton
            .moves
            .iter()
            .filter(|call| call.failed.is_none())
            .map(|call| call.tool)
            .collect();
        let mut own = BTreeSet::new();
        for length in 2..=4 {
            own.extend(tools.windows(length).map(<[ToolIx]>::to_vec));
        }
        own.retain(|steps| steps.iter().collect::<BTreeSet<_>>().len() == steps.len());
        for steps in own {
            *counts.entry(steps).or_default() += 1;
        }
    }
    let mut found: Vec<(Vec<ToolIx>, u64)> =
        counts.into_iter().filter(|(_, n)| *n >= support).collect();
    found.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then(b.1.cmp(&a.1)).then(a.0.cmp(&b.0)));
    let mut kept: Vec<(Vec<ToolIx>, u64)> = Vec::new();
    for (steps, n) in found {
        let inside = |longer: &[ToolIx]| longer.windows(steps.len()).any(|part| part == steps);
        if !kept.iter().any(|(longer, m)| *m >= n && inside(longer)) {
            kept.push((steps, n));
        }
    }
    kept
}

fn features(skeleton: &Skeleton) -> BTreeSet<Feature> {
    let mut found = BTreeSet::new();
    for (at, call) in skeleton.moves.iter().enumerate() {
        found.insert(Feature::Used(call.tool));
        for (key, shape) in &call.arguments {
            found.insert(Feature::Given(call.tool, *key, *shape));
            found.insert(Feature::Passed(call.tool, *key));
        }
        for other in &skeleton.moves[at + 1..] {
            if call.batch == other.batch && call.tool != other.tool {
                let (a, b) = (call.tool.min(other.tool), call.tool.max(other.tool));
                found.insert(Feature::Parallel(a, b));
            }
        }
        if let (Some(error), Some(next)) = (call.failed, skeleton.moves.get(at + 1)) {
            found.insert(Feature::Recovered(call.tool, error, None, next.tool));
            if call.target.is_some() {
                found.insert(Feature::Recovered(call.tool, error, call.target, next.tool));
            }
        }
        let first = skeleton.moves[..at].iter().all(|earlier| earlier.tool != call.tool);
        if first {
            let worked = skeleton.moves[..at].iter().filter(|earlier| earlier.failed.is_none());
            let before = worked.filter(|earlier| earlier.batch != call.batch);
            found.extend(before.map(|earlier| Feature::Before(earlier.tool, call.tool)));
        }
    }
    found
}

fn could(skeleton: &Skeleton, feature: Feature) -> bool {
    let calls = |tool: ToolIx| skeleton.moves.iter().any(|call| call.tool == tool);
    match feature {
        Feature::Used(_) | Feature::Within(_) => true,
        Feature::Before(_, tool) | Feature::Given(tool, ..) | Feature::Passed(tool, _) => {
            calls(tool)
        }
        Feature::Parallel(a, b) => calls(a) && calls(b),
        Feature::Recovered(tool, error, target, _) => skeleton.moves.iter().any(|call| {
            let here = target.is_none() || call.target == target;
            here && call.tool == tool && call.failed == Some(error)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fisher_gives_the_textbook_values() {
        let share = |did, could| Share { did, could };
        // The lady tasting tea: 3 of 4 against 1 of 4, one-sided, 17/70.
        assert!((fisher(share(3, 4), share(1, 4)) - 17.0 / 70.0).abs() < 1e-12);
        assert!((fisher(share(4, 4), share(0, 4)) - 1.0 / 70.0).abs() < 1e-12);
        // (66·220 + 12·66 + 1·12) / C(24, 13)
        assert!((fisher(share(10, 12), share(3, 12)) - 15_324.0 / 2_496_144.0).abs() < 1e-12);
        assert!((fisher(share(0, 4), share(0, 4)) - 1.0).abs() < 1e-12);
    }
}
