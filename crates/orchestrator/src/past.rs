//! The turns so far, read from their facts.

use serde::{Deserialize, Serialize};
use understudy_ident::{RunId, TaskName, Timestamp};

use crate::{
    Fact, OrchestratorError, Run, RunStore,
    note::{Note, NoteKind},
    plan::{Finish, Next, next},
};

/// What a decision needs to know of earlier turns.
#[derive(Debug, Clone, Default)]
pub struct Past {
    pub turns: u64,
    /// The record up to which outcomes count as learnt from.
    pub learnt_to: u64,
    /// When turns began, oldest first.
    pub begun: Vec<Timestamp>,
    /// When a training stage ended and how many seconds it took, oldest first.
    pub trained: Vec<(Timestamp, f64)>,
    pub last_ended: Option<Timestamp>,
    pub last_ending: Option<String>,
    /// Turns whose candidate did not make it, since the last that did or a person's word.
    pub failures_in_a_row: u64,
    pub paused: Option<Paused>,
    /// The turn that is under way.
    pub open: Option<Run>,
    /// A turn that is over by its facts, and whose end has not been written down: a person ended it,
    /// or a crash came in between.
    pub unended: Option<Run>,
    /// The last turn that began, under way or not.
    pub last: Option<TurnStory>,
}

/// Who wants the loop to stand still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    pub owner: String,
    pub reason: String,
}

/// One turn, to be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnStory {
    pub number: u64,
    pub run: RunId,
    pub began: Timestamp,
    pub because: String,
    /// Who served when it began.
    pub before: Option<String>,
    pub candidate: Option<String>,
    pub ended: Option<Timestamp>,
    /// As half a sentence.
    pub ending: Option<String>,
    /// Whether the candidate serves because of it.
    pub promoted: bool,
}

impl Past {
    /// Reads all turns of a task.
    pub fn read(store: &RunStore, task: &TaskName) -> Result<Self, OrchestratorError> {
        let mut past = Self::default();
        let notes = store.notes(task)?;
        past.paused = paused(&notes);
        let cleared = notes.iter().rev().find(|note| note.kind == NoteKind::Resumed);
        let cleared = cleared.map(|note| note.at);
        for run in store.turns(task)? {
            let facts = store.dated_facts(&run.id)?;
            past.add(run, &facts, cleared);
        }
        Ok(past)
    }

    fn add(&mut self, run: Run, facts: &[(Timestamp, Fact)], cleared: Option<Timestamp>) {
        // A crash can leave a run whose first fact was never written; it is begun again by number.
        let Some((_, Fact::TurnBegan(turn))) = facts.first() else { return };
        self.turns = self.turns.max(turn.number);
        self.begun.push(turn.at);
        for (at, fact) in facts {
            if let Fact::StageTrained(trained) = fact {
                self.trained.push((*at, trained.seconds));
            }
        }
        let undated: Vec<Fact> = facts.iter().map(|(_, fact)| fact.clone()).collect();
        let candidate = undated.iter().find_map(|fact| match fact {
            Fact::Registered { version, .. } => Some(version.to_string()),
            _ => None,
        });
        let mut story = TurnStory {
            number: turn.number,
            run: run.id.clone(),
            began: turn.at,
            because: turn.because.clone(),
            before: turn.serving.clone(),
            candidate,
            ended: None,
            ending: None,
            promoted: false,
        };
        if let Next::Finished(finish) = next(&run.recipe, &undated) {
            let ended = facts.last().map_or(turn.at, |(at, _)| *at);
            self.finished(&finish, turn.until, ended, cleared);
            story.ended = Some(ended);
            story.ending = Some(finish.to_string());
            story.promoted = matches!(finish, Finish::Promoted { .. });
            if run.ending.is_none() {
                self.unended = Some(run);
            }
        } else {
            self.open = Some(run);
        }
        self.last = Some(story);
    }

    fn finished(
        &mut self,
        finish: &Finish,
        until: u64,
        ended: Timestamp,
        cleared: Option<Timestamp>,
    ) {
        self.last_ended = Some(ended);
        self.last_ending = Some(finish.to_string());
        if finish.has_learnt() {
            self.learnt_to = self.learnt_to.max(until);
        }
        match finish.success() {
            Some(true) => self.failures_in_a_row = 0,
            Some(false) if cleared.is_none_or(|cleared| cleared <= ended) => {
                self.failures_in_a_row += 1;
            }
            // Neither, or a person has looked at it.
            _ => {}
        }
    }
}

fn paused(notes: &[Note]) -> Option<Paused> {
    let last = notes
        .iter()
        .rev()
        .find(|note| matches!(note.kind, NoteKind::Paused | NoteKind::Resumed))?;
    let owner = last.owner.clone().unwrap_or_default();
    (last.kind == NoteKind::Paused).then(|| Paused { owner, reason: last.text.clone() })
}
