//! The comparison again on parts of the suite, where an average could hide a loss.

use std::collections::BTreeMap;

use understudy_manifest::{Case, Risk, Slice, Suite, Tier};
use understudy_scorer::Outcome;

use crate::{gate::ESCALATE, pairs::Pairs, stats::holm};

/// A tag on fewer cases than this says nothing.
const FEW: usize = 5;
/// Of a sealed suite, smaller slices would tell about single cases.
const FEW_SEALED: u64 = 20;
/// The tag of a case begins so that was added to a version of a suite, whose name follows.
const NEW_IN: &str = "new-in-";
/// The cases of a version that its parent has as well.
const OLD: &str = "cases:old";

/// Every tag and every risk other than `normal`, by name, under the primary scorer, and what is new
/// in this version of the suite apart from what is old. All of it is for the gate, and not corrected
/// for how many slices there are; what a report may show is [`told`].
pub(crate) fn slices(
    suite: &Suite,
    candidate: &[Outcome],
    baseline: &[Outcome],
    seed: u64,
) -> Vec<Slice> {
    let new = format!("{NEW_IN}{}", suite.name);
    let has_new = suite.cases.iter().any(|case| case.tags.contains(&new));
    let names = |case: &Case| -> Vec<String> {
        let risk = (case.risk != Risk::Normal).then(|| format!("risk:{}", case.risk.as_str()));
        let old = (has_new && !case.tags.contains(&new)).then(|| OLD.to_owned());
        case.tags.iter().map(|tag| format!("tag:{tag}")).chain(risk).chain(old).collect()
    };
    let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
    for name in suite.cases.iter().flat_map(names) {
        *sizes.entry(name).or_default() += 1;
    }
    sizes.retain(|name, size| *size >= FEW || matters_alone(name));
    let slice = |name: String| {
        let pairs = Pairs::new(suite, candidate, baseline, |case| names(case).contains(&name));
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
            p_holm: difference.mcnemar_p.or(difference.permutation_p).unwrap_or(1.0),
        }
    };
    sizes.into_keys().map(slice).collect()
}

/// Whether a slice is looked at however few its cases are.
fn matters_alone(name: &str) -> bool {
    let tag = name.strip_prefix("tag:").unwrap_or_default();
    name.starts_with("risk:") || name == ESCALATE || name == OLD || tag.starts_with(NEW_IN)
}

/// The slices that a report may show, corrected among themselves.
pub(crate) fn told(suite: &Suite, mut slices: Vec<Slice>) -> Vec<Slice> {
    let hides_new =
        slices.iter().any(|slice| is_new_in(slice, suite) && !is_told(suite.tier, slice));
    slices.retain(|slice| is_told(suite.tier, slice));
    // The whole without its old cases would be the new ones.
    slices.retain(|slice| !(hides_new && slice.name == OLD));
    corrected(slices)
}

/// Whether figures of a slice may be told of a suite of this tier.
pub(crate) fn is_told(tier: Tier, slice: &Slice) -> bool {
    tier != Tier::Sealed || slice.cases >= FEW_SEALED
}

fn is_new_in(slice: &Slice, suite: &Suite) -> bool {
    let tag = slice.name.strip_prefix("tag:").and_then(|tag| tag.strip_prefix(NEW_IN));
    tag == Some(suite.name.as_str())
}

fn corrected(mut slices: Vec<Slice>) -> Vec<Slice> {
    let p: Vec<f64> = slices.iter().map(|slice| slice.p_holm).collect();
    slices.iter_mut().zip(holm(&p)).for_each(|(slice, p)| slice.p_holm = p);
    slices
}

#[cfg(test)]
mod tests;
