//! The comparison again on parts of the suite, where an average could hide a loss.

use std::collections::BTreeMap;

use understudy_manifest::{Case, Risk, Slice, Suite, Tier};
use understudy_scorer::Outcome;

use crate::{
    pairs::Pairs,
    stats::{holm, mcnemar_exact},
};

/// A tag on fewer cases than this says nothing.
const FEW: usize = 5;
/// Of a sealed suite, smaller slices would tell about single cases.
const FEW_SEALED: usize = 20;

/// Every tag and every risk other than `normal`, by name, under the primary scorer.
pub(crate) fn slices(
    suite: &Suite,
    candidate: &[Outcome],
    baseline: &[Outcome],
    seed: u64,
) -> Vec<Slice> {
    let least = if suite.tier == Tier::Sealed { FEW_SEALED } else { FEW };
    let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
    for name in suite.cases.iter().flat_map(names) {
        *sizes.entry(name).or_default() += 1;
    }
    // A risk matters however few its cases are.
    sizes.retain(|name, size| *size >= least || name.starts_with("risk:"));
    let slice = |name: String| {
        let pairs =
            Pairs::new(suite, candidate, baseline, |case| names(case).any(|other| other == name));
        let difference = pairs.compare(seed);
        Slice {
            name,
            cases: pairs.len(),
            difference: difference.value,
            low: difference.low,
            high: difference.high,
            wins: difference.wins,
            losses: difference.losses,
            fixed: pairs.count(false, true),
            p_holm: mcnemar_exact(difference.wins, difference.losses),
        }
    };
    let mut slices: Vec<Slice> = sizes.into_keys().map(slice).collect();
    let corrected = holm(&slices.iter().map(|slice| slice.p_holm).collect::<Vec<_>>());
    slices.iter_mut().zip(corrected).for_each(|(slice, p)| slice.p_holm = p);
    slices
}

fn names(case: &Case) -> impl Iterator<Item = String> {
    let risk = (case.risk != Risk::Normal).then(|| format!("risk:{}", case.risk.as_str()));
    case.tags.iter().map(|tag| format!("tag:{tag}")).chain(risk)
}
