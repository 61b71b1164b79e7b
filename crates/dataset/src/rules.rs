//! Outcomes into rows: what an accept, an edit, a regenerate and an abandon teach.
//!
//! | what was done | rows |
//! | --- | --- |
//! | accepted, or judged at least `min_reward` | imitate the reply |
//! | edited | imitate the edited text; prefer it to the reply |
//! | regenerated, and another reply kept | prefer the kept reply |
//! | accepted, abandoned, rated, verified or flagged only | label the reply |

use std::collections::BTreeMap;

use understudy_ident::TrajectoryId;
use understudy_manifest::Origin;
use understudy_message::Message;
use understudy_trajectory::{Outcome, RewardPolicy, Signal, Source};

use crate::{
    candidate::{Candidate, Kept},
    ledger::{Ledger, Tally},
    row::{Lesson, Row},
};

/// Makes the rows of all candidates, in their order.
pub(crate) fn rows(
    candidates: &[Candidate],
    policy: RewardPolicy,
    min_reward: f64,
    ledger: &mut Ledger,
) -> Vec<Row> {
    let mut tally = Tally::default();
    let mut judged = Vec::new();
    for (nth, candidate) in whole(candidates) {
        if candidate.outcomes.is_empty() {
            tally.add("no_outcome");
        } else if candidate.is_contradictory() {
            tally.add("review");
        } else {
            judged.push(nth);
        }
    }
    ledger.close("join", whole(candidates).count(), judged.len(), tally);

    let mut rules = Rules::new(candidates, policy, min_reward);
    for &nth in &judged {
        rules.apply(nth);
    }
    ledger.close("build", judged.len(), rules.rows.len(), rules.tally);
    rules.rows
}

/// The others are only attempts of groups.
fn whole(candidates: &[Candidate]) -> impl Iterator<Item = (usize, &Candidate)> {
    candidates.iter().enumerate().filter(|(_, candidate)| candidate.is_whole())
}

struct Rules<'a> {
    candidates: &'a [Candidate],
    policy: RewardPolicy,
    min_reward: f64,
    by_response: BTreeMap<&'a str, Vec<usize>>,
    by_trajectory: BTreeMap<&'a TrajectoryId, Vec<usize>>,
    rows: Vec<Row>,
    tally: Tally,
}

impl<'a> Rules<'a> {
    fn new(candidates: &'a [Candidate], policy: RewardPolicy, min_reward: f64) -> Self {
        let mut by_response: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut by_trajectory: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (nth, candidate) in whole(candidates) {
            by_response.entry(candidate.response_id.as_str()).or_default().push(nth);
            by_trajectory.entry(&candidate.trajectory).or_default().push(nth);
        }
        let (rows, tally) = (Vec::new(), Tally::default());
        Self { candidates, policy, min_reward, by_response, by_trajectory, rows, tally }
    }

    fn apply(&mut self, nth: usize) {
        let candidate = &self.candidates[nth];
        let before = self.rows.len();
        match (candidate.edit(), candidate.regenerated()) {
            (Some(text), _) => self.edited(nth, text),
            (None, Some(kept)) => self.regenerated(nth, kept),
            (None, None) => self.judged(nth),
        }
        if self.rows.len() == before {
            self.tally.add("no_row");
        }
    }

    fn edited(&mut self, nth: usize, text: &str) {
        if text.trim().is_empty() {
            return self.tally.add("edit_empty");
        }
        let candidate = &self.candidates[nth];
        let because = || vec!["edit".to_owned()];
        let chosen = Message::assistant(text);
        self.push(nth, None, Lesson::Sft { completion: chosen.clone() }, because());
        let rejected = candidate.reply.clone();
        self.push(nth, None, Lesson::Pair { chosen, rejected }, because());
    }

    fn regenerated(&mut self, nth: usize, said: Kept<'_>) {
        let candidate = &self.candidates[nth];
        if said == Kept::Named(&candidate.response_id) {
            return self.tally.add("kept_the_first");
        }
        let Some(kept) = self.kept(nth, said) else { return self.tally.add("not_kept") };
        let (chosen, rejected) = (self.candidates[kept].reply.clone(), candidate.reply.clone());
        if chosen == rejected {
            return self.tally.add("kept_the_same");
        }
        self.push(
            nth,
            Some(kept),
            Lesson::Pair { chosen, rejected },
            vec!["regenerate".to_owned()],
        );
    }

    /// The reply used in place of this one: the one named, else the next of the trajectory that
    /// answers the same prompt and was accepted.
    fn kept(&self, nth: usize, said: Kept<'_>) -> Option<usize> {
        let candidate = &self.candidates[nth];
        let is_alternative = |other: usize| {
            let alternative = &self.candidates[other];
            other != nth
                && alternative.prompt == candidate.prompt
                && !alternative.is_contradictory()
                && !alternative.was_flagged()
        };
        if let Kept::Named(named) = said {
            let found = self.by_response.get(named)?;
            return found.iter().copied().find(|&other| is_alternative(other));
        }
        let later = self.by_trajectory.get(&candidate.trajectory)?.iter().copied();
        later
            .filter(|&other| other > nth && is_alternative(other))
            .find(|&other| self.candidates[other].was_accepted())
    }

    fn judged(&mut self, nth: usize) {
        let candidate = &self.candidates[nth];
        let Some(reward) = self.policy.reward(&candidate.reply.text(), &candidate.outcomes) else {
            return;
        };
        let because = || names(&candidate.outcomes);
        if reward.value >= self.min_reward {
            self.push(nth, None, Lesson::Sft { completion: candidate.reply.clone() }, because());
        } else {
            self.tally.add("below_min_reward");
        }
        let label = Lesson::Label {
            completion: candidate.reply.clone(),
            label: reward.value > 0.5,
            reward: reward.value,
            weight: weight(&candidate.outcomes),
        };
        if reward.value != 0.5 && reward.value.is_finite() {
            self.push(nth, None, label, because());
        } else {
            self.tally.add("undecided");
        }
    }

    fn push(&mut self, nth: usize, other: Option<usize>, lesson: Lesson, because: Vec<String>) {
        let candidate = &self.candidates[nth];
        let others = other.iter().map(|&other| self.candidates[other].id.to_string());
        let row = Row {
            prompt: candidate.prompt.clone(),
            lesson,
            origin: Origin {
                trajectory: candidate.trajectory.to_string(),
                steps: [candidate.id.to_string()].into_iter().chain(others).collect(),
                because,
            },
            candidate: nth,
            others: other.into_iter().collect(),
        };
        self.tally.add(row.kind().as_str());
        self.rows.push(row);
    }
}

/// The kinds of outcomes, each once.
pub(crate) fn names<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Vec<String> {
    let mut names: Vec<String> = outcomes.into_iter().map(|o| o.signal.name().to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

/// As much as its strongest outcome: ten guesses do not make a statement.
fn weight(outcomes: &[Outcome]) -> f64 {
    let said = |outcome: &Outcome| {
        outcome.source != Source::Implicit || matches!(outcome.signal, Signal::Flag { .. })
    };
    if outcomes.iter().any(said) { 1.0 } else { 0.25 }
}
