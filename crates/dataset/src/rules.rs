//! Outcomes into rows: what an accept, an edit, a regenerate and an abandon teach.
//!
//! | what was done | rows |
//! | --- | --- |
//! | accepted, or judged at least `min_reward` | imitate the reply |
//! | edited | imitate the edited text; prefer it to the reply, unless it was written anew |
//! | regenerated, and another reply kept | prefer the kept reply |
//! | accepted, abandoned, rated, verified or flagged only | label the reply |

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use understudy_manifest::Origin;
use understudy_message::Message;
use understudy_redact::Masker;
use understudy_trajectory::Outcome;

use crate::{
    DatasetError, bursts,
    candidate::{Candidate, Kept},
    edit::{self, Change},
    key::Key,
    ledger::{Ledger, Tally},
    rewarding::Rewarding,
    row::{Lesson, Row},
    selection::{Fact, Selected, response_key},
};

/// The candidates that rows are made of, oldest first.
pub(crate) fn judged(selected: &Selected, ledger: &mut Ledger) -> Vec<usize> {
    let mut tally = Tally::default();
    let mut judged = Vec::new();
    for (nth, fact) in selected.whole() {
        match refusal(fact) {
            None => judged.push(nth),
            Some(why) => tally.add(why),
        }
        tally.add_many("outcomes_superseded", fact.superseded as u64);
        tally.add_many("edits_of_next_to_nothing", fact.trifles as u64);
    }
    bursts::count(&selected.facts, &mut tally);
    ledger.close("join", selected.whole().count(), judged.len(), tally);
    judged
}

/// Why no row is made of a step.
pub(crate) fn refusal(fact: &Fact) -> Option<&'static str> {
    if !fact.is_judged {
        Some("no_outcome")
    } else if fact.is_contradictory() {
        Some("review")
    } else {
        None
    }
}

/// The same by trajectory, the trajectory that began first coming first.
pub(crate) fn by_trajectory(selected: &Selected, judged: &[usize]) -> Vec<Vec<usize>> {
    let mut places: BTreeMap<Key, usize> = BTreeMap::new();
    let mut trajectories: Vec<Vec<usize>> = Vec::new();
    for &nth in judged {
        let place = *places.entry(selected.facts[nth].trajectory).or_insert(trajectories.len());
        if place == trajectories.len() {
            trajectories.push(Vec::new());
        }
        trajectories[place].push(nth);
    }
    trajectories
}

/// Makes the rows of one candidate after the other.
pub(crate) struct Rules<'a> {
    selected: &'a Selected,
    rewarding: &'a Rewarding,
    min_reward: f64,
    /// Whole candidates by response, where somebody kept that response.
    by_response: BTreeMap<Key, Vec<usize>>,
    /// Whole candidates by trajectory, where something was regenerated in it.
    by_trajectory: BTreeMap<Key, Vec<usize>>,
}

/// The rows of one candidate, and what was said of those it did not become.
#[derive(Debug, Default)]
pub(crate) struct Made {
    pub(crate) rows: Vec<Row>,
    pub(crate) reasons: Vec<&'static str>,
}

impl<'a> Rules<'a> {
    pub(crate) fn new(selected: &'a Selected, rewarding: &'a Rewarding, min_reward: f64) -> Self {
        let regenerated = || selected.whole().filter(|(_, fact)| fact.was_regenerated);
        let kept: BTreeSet<Key> = regenerated().filter_map(|(_, fact)| fact.kept).collect();
        let within: BTreeSet<Key> = regenerated().map(|(_, fact)| fact.trajectory).collect();
        let mut by_response: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut by_trajectory: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (nth, fact) in selected.whole() {
            if kept.contains(&fact.response) {
                by_response.entry(fact.response).or_default().push(nth);
            }
            if within.contains(&fact.trajectory) {
                by_trajectory.entry(fact.trajectory).or_default().push(nth);
            }
        }
        Self { selected, rewarding, min_reward, by_response, by_trajectory }
    }

    pub(crate) fn apply(
        &self,
        nth: usize,
        candidate: &Candidate,
        masker: &Masker,
    ) -> Result<Made, DatasetError> {
        let mut made = Made::default();
        match (candidate.edit(), candidate.regenerated()) {
            (Some(text), _) => {
                let change = edit::judge(&candidate.reply, text, masker);
                made.edited(nth, candidate, text, change);
            }
            (None, Some(kept)) => self.regenerated(nth, candidate, kept, &mut made)?,
            (None, None) => self.judged(nth, candidate, &mut made),
        }
        if made.rows.is_empty() {
            made.reasons.push("no_row");
        }
        made.reasons.extend(made.rows.iter().map(|row| row.kind().as_str()));
        Ok(made)
    }

    fn regenerated(
        &self,
        nth: usize,
        candidate: &Candidate,
        said: Kept<'_>,
        made: &mut Made,
    ) -> Result<(), DatasetError> {
        if said == Kept::Named(&candidate.response_id) {
            made.reasons.push("kept_the_first");
            return Ok(());
        }
        let Some(kept) = self.kept(nth, said) else {
            made.reasons.push("not_kept");
            return Ok(());
        };
        let other = self.selected.candidate(kept)?;
        let (chosen, rejected) = (other.reply, candidate.reply.clone());
        if chosen == rejected {
            made.reasons.push("kept_the_same");
            return Ok(());
        }
        let because = vec!["regenerate".to_owned()];
        made.push(nth, candidate, Lesson::Pair { chosen, rejected, margin: None }, because);
        if let Some(row) = made.rows.last_mut() {
            row.origin.steps.push(other.id.to_string());
            row.others.push(kept);
        }
        Ok(())
    }

    /// The reply used in place of this one: the one named, else the next of the trajectory that
    /// answers the same prompt and was accepted.
    fn kept(&self, nth: usize, said: Kept<'_>) -> Option<usize> {
        let facts = &self.selected.facts;
        let is_alternative = |other: usize| {
            let alternative = &facts[other];
            other != nth
                && alternative.prompt == facts[nth].prompt
                && !alternative.is_contradictory()
                && !alternative.was_flagged
        };
        if let Kept::Named(named) = said {
            let found = self.by_response.get(&response_key(named))?;
            return found.iter().copied().find(|&other| is_alternative(other));
        }
        let later = self.by_trajectory.get(&facts[nth].trajectory)?.iter().copied();
        later
            .filter(|&other| other > nth && is_alternative(other))
            .find(|&other| facts[other].was_accepted)
    }

    fn judged(&self, nth: usize, candidate: &Candidate, made: &mut Made) {
        let reward = self.rewarding.reward(&candidate.reply.text(), &candidate.outcomes);
        // Behaviour that was not found to tell anything is no opinion.
        let Some(reward) = reward else { return made.reasons.push("tells_nothing") };
        let because = || names(&candidate.outcomes);
        if reward.value >= self.min_reward {
            let completion = candidate.reply.clone();
            made.push(nth, candidate, Lesson::Sft { completion }, because());
        } else {
            made.reasons.push("below_min_reward");
        }
        let label = Lesson::Label {
            completion: candidate.reply.clone(),
            label: reward.value > 0.5,
            reward: reward.value,
            weight: reward.weight(),
        };
        if reward.value != 0.5 && reward.value.is_finite() {
            made.push(nth, candidate, label, because());
        } else {
            made.reasons.push("undecided");
        }
    }
}

impl Made {
    fn edited(&mut self, nth: usize, candidate: &Candidate, text: &str, change: Change) {
        let because = || vec!["edit".to_owned()];
        let chosen = Message::assistant(text);
        if let Change::Nothing(why) | Change::Rewrite(why) = change {
            self.reasons.push(why);
        }
        if matches!(change, Change::Nothing(_)) {
            return;
        }
        self.push(nth, candidate, Lesson::Sft { completion: chosen.clone() }, because());
        if let Change::Correction { margin } = change {
            let rejected = candidate.reply.clone();
            let pair = Lesson::Pair { chosen, rejected, margin: Some(margin) };
            self.push(nth, candidate, pair, because());
        }
    }

    fn push(&mut self, nth: usize, candidate: &Candidate, lesson: Lesson, because: Vec<String>) {
        let (prompt, tools) = match self.rows.last() {
            Some(row) => (Arc::clone(&row.prompt), Arc::clone(&row.tools)),
            None => (candidate.prompt.clone().into(), candidate.tools.clone().into()),
        };
        self.rows.push(Row {
            prompt,
            tools,
            lesson,
            origin: Origin {
                trajectory: candidate.trajectory.to_string(),
                steps: vec![candidate.id.to_string()],
                because,
            },
            candidate: nth,
            others: Vec::new(),
        });
    }
}

/// The kinds of outcomes, each once.
pub(crate) fn names<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>) -> Vec<String> {
    let mut names: Vec<String> = outcomes.into_iter().map(|o| o.signal.name().to_owned()).collect();
    names.sort();
    names.dedup();
    names
}
