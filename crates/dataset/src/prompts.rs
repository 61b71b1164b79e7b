//! What was asked, without what was answered: prompts that a policy answers anew while it learns,
//! whatever was said of the reply they had, and if nothing was.

use std::collections::BTreeSet;

use understudy_manifest::Origin;

use crate::{
    candidate::Candidate,
    ledger::Tally,
    row::{Lesson, Row},
    selection::Selected,
    trail::Trail,
};

/// Steps whose prompts become rows: of each prompt the first that was asked it, so that a later one
/// does not move it to another split.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    first: Vec<usize>,
    pub(crate) tally: Tally,
}

impl Asked {
    pub(crate) fn of(selected: &Selected, trail: &mut Trail) -> Self {
        let (mut asked, mut known) = (Self::default(), BTreeSet::new());
        for (nth, fact) in selected.whole() {
            let why = if fact.is_contradictory() {
                "review"
            } else if known.insert(fact.prompt) {
                asked.first.push(nth);
                trail.about(nth, "prompts", "taken");
                continue;
            } else {
                "asked_before"
            };
            asked.tally.add(why);
            trail.about(nth, "prompts", format!("left out: {why}"));
        }
        asked
    }

    pub(crate) fn has(&self, nth: usize) -> bool {
        self.first.binary_search(&nth).is_ok()
    }

    /// Itself and these, oldest first.
    pub(crate) fn beside(&self, judged: &[usize]) -> Vec<usize> {
        let all: BTreeSet<usize> = self.first.iter().chain(judged).copied().collect();
        all.into_iter().collect()
    }
}

pub(crate) fn row(nth: usize, candidate: &Candidate) -> Row {
    Row {
        prompt: candidate.prompt.clone().into(),
        tools: candidate.tools.clone().into(),
        lesson: Lesson::Prompt,
        origin: Origin {
            trajectory: candidate.trajectory.to_string(),
            steps: vec![candidate.id.to_string()],
            because: vec!["asked".to_owned()],
        },
        candidate: nth,
        others: Vec::new(),
    }
}
