//! How much of a version any one subject may make.

use std::collections::{BTreeMap, BTreeSet};

use understudy_manifest::Data;

use crate::{
    balance::{LeftOut, go, steps_of, within},
    key::Key,
    ledger::{Ledger, Tally},
    selection::Fact,
    written::Written,
};

/// As many steps every subject may have, however small a share of them that would have to be: a
/// hundredth of a few hundred steps is nobody's company.
pub(crate) const ALWAYS: u64 = 50;

/// Keeps the rows of the newest steps of every subject: no more than `max_per_subject`, and no more
/// than its share of what is left.
///
/// Where nothing is over there is no stage, unless the recipe names a cap.
pub(crate) fn cap(
    rows: &mut Vec<Written>,
    facts: &[Fact],
    data: &Data,
    ledger: &mut Ledger,
) -> ((), Vec<LeftOut>) {
    let before = rows.len();
    let (mut left_out, mut tally) = (Vec::new(), Tally::default());
    if let Some(most) = data.max_per_subject {
        let why = "over_the_cap_of_a_subject";
        let kept = within(rows, &subjects(rows, facts), |_| most);
        tally.add_many(why, go(rows, &kept, why, &mut left_out));
    }
    let why = "over_the_share_of_a_subject";
    let (taught, asked) = (Crowd::of(rows, facts, false), Crowd::of(rows, facts, true));
    let most = [&taught, &asked].map(|crowd| crowd.most(data.max_subject_share, data.limit));
    let kept = within(rows, &subjects(rows, facts), |is_prompt| most[usize::from(is_prompt)]);
    tally.add_many(why, go(rows, &kept, why, &mut left_out));
    if data.max_per_subject.is_some() || rows.len() < before {
        ledger.close("cap", before, rows.len(), tally);
    }
    ((), left_out)
}

fn subjects(rows: &[Written], facts: &[Fact]) -> Vec<Vec<Key>> {
    rows.iter().map(|row| facts[row.candidate].subject.into_iter().collect()).collect()
}

/// Whose steps there are.
struct Crowd {
    /// How many each subject has.
    of_subjects: Vec<u64>,
    /// How many name no subject,
    of_nobody: u64,
    /// and of how many trajectories these are, each of which may be somebody else's.
    strangers: u64,
}

impl Crowd {
    /// Prompts are counted apart from the rest.
    fn of(rows: &[Written], facts: &[Fact], are_prompts: bool) -> Self {
        let held = steps_of(rows, &subjects(rows, facts));
        let own = held.into_iter().filter(|((is_prompt, _), _)| *is_prompt == are_prompts);
        let those = rows.iter().filter(|row| row.is_prompt() == are_prompts);
        let anonymous: BTreeMap<usize, Key> = those
            .map(|row| (row.candidate, &facts[row.candidate]))
            .filter(|(_, fact)| fact.subject.is_none())
            .map(|(nth, fact)| (nth, fact.trajectory))
            .collect();
        Self {
            of_subjects: own.map(|(_, steps)| steps.len() as u64).collect(),
            of_nobody: anonymous.len() as u64,
            strangers: anonymous.values().collect::<BTreeSet<_>>().len() as u64,
        }
    }

    /// How many steps one subject may have, so that nobody makes more than `share` of all that are
    /// left: the largest number of which that is true, and at least [`ALWAYS`]. Of too few people for
    /// that each may make twice an equal share.
    fn most(&self, share: f64, limit: Option<u64>) -> u64 {
        let people = self.of_subjects.len() as u64 + self.strangers;
        let share = share.max(2.0 / people.max(1) as f64);
        let fits = |most: u64| {
            let left: u64 = self.of_subjects.iter().map(|steps| *steps.min(&most)).sum();
            let left = (left + self.of_nobody).min(limit.unwrap_or(u64::MAX));
            most as f64 <= share * left as f64
        };
        // What is left grows ever slower than what one may have, so whatever is below a fit fits.
        let (mut fit, mut over) =
            (0, self.of_subjects.iter().max().copied().unwrap_or_default() + 1);
        while over - fit > 1 {
            let middle = fit.midpoint(over);
            *(if fits(middle) { &mut fit } else { &mut over }) = middle;
        }
        fit.max(ALWAYS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn most(of_subjects: &[u64], anonymous: u64, share: f64, limit: Option<u64>) -> u64 {
        let of_subjects = of_subjects.to_vec();
        Crowd { of_subjects, of_nobody: anonymous, strangers: anonymous }.most(share, limit)
    }

    #[test]
    fn nobody_makes_more_than_the_share_of_what_is_left() {
        // 101 of 9,999 + 101.
        assert_eq!(most(&[5_000], 9_999, 0.01, None), 101);
        let many: Vec<u64> = (0..400).map(|nth| if nth < 4 { 10_000 } else { 100 }).collect();
        let most_of_many = most(&many, 0, 0.01, None);
        let left: u64 = many.iter().map(|steps| *steps.min(&most_of_many)).sum();
        assert!(most_of_many as f64 <= 0.01 * left as f64, "{most_of_many} of {left}");
        assert!((most_of_many + 1) as f64 > 0.01 * (left + 4) as f64, "and not one less than that");
        assert_eq!(most(&[5_000], 9_999, 0.1, None), 1_111);
    }

    #[test]
    fn few_people_keep_what_they_have_unless_one_has_most_of_it() {
        assert_eq!(most(&[5_000], 0, 0.01, None), 5_000);
        assert_eq!(most(&[1_000; 20], 0, 0.01, None), 1_000);
        let mut one_has_most = [1_000; 20];
        one_has_most[7] = 50_000;
        assert_eq!(most(&one_has_most, 0, 0.01, None), 2_111);
    }

    #[test]
    fn a_few_steps_everybody_may_have_and_a_share_of_one_is_no_cap() {
        assert_eq!(most(&[200], 300, 0.01, None), ALWAYS);
        assert_eq!(most(&[200], 300, 1.0, None), 200);
        assert_eq!(most(&[], 300, 0.01, None), ALWAYS);
    }

    #[test]
    fn a_limit_makes_the_share_smaller() {
        assert_eq!(most(&[50_000], 100_000, 0.01, None), 1_010);
        assert_eq!(most(&[50_000], 100_000, 0.01, Some(10_000)), 100);
    }
}
