//! The loop as it stands, for people and machines.

use serde::{Deserialize, Serialize};
use understudy_ident::{RunId, TaskName};
use understudy_manifest::Unattended;

use crate::{Decision, Earned, Hold, Note, Past, Sight, StepHold, TurnStory, plan::Next};

/// What it waits for, how much is missing, what it did last and what that changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub task: TaskName,
    pub state: StatusState,
    /// The whole of it as one sentence.
    pub sentence: String,
    /// Between turns: everything a turn waits for, with how much is missing.
    pub holds: Vec<Hold>,
    /// Within a turn: the run, the step it stands at, and what that step waits for.
    pub run: Option<RunId>,
    pub step: Option<String>,
    pub step_hold: Option<StepHold>,
    pub turns: u64,
    pub failures_in_a_row: u64,
    pub last_turn: Option<TurnStory>,
    /// What the last turn changed, as a sentence.
    pub changed: Option<String>,
    pub sight: Sight,
    /// The last sentences of the log.
    pub log: Vec<Note>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusState {
    /// Between turns, for something that comes by itself.
    Waiting,
    /// In the middle of a step.
    Working,
    /// A step waits.
    Held,
    /// Until a person says otherwise.
    Stopped,
}

/// Sentences of the log that a status shows.
const LOG: usize = 12;

impl Status {
    /// Between turns.
    pub fn between(
        task: &TaskName,
        decision: &Decision,
        past: &Past,
        sight: Sight,
        notes: &[Note],
    ) -> Self {
        let (state, holds) = match decision {
            Decision::Train { .. } => (StatusState::Working, Vec::new()),
            Decision::Wait { holds } => (StatusState::Waiting, holds.clone()),
            Decision::Stop { .. } => (StatusState::Stopped, Vec::new()),
        };
        let sentence = format!("the loop {decision}");
        Self { state, sentence, holds, ..Self::plain(task, past, sight, notes) }
    }

    /// Within a turn.
    pub fn within(
        task: &TaskName,
        (run, step): (&RunId, &Next),
        hold: Option<StepHold>,
        past: &Past,
        sight: Sight,
        notes: &[Note],
    ) -> Self {
        let number = past.turns;
        let (state, sentence) = match &hold {
            None => (StatusState::Working, format!("turn {number} is {step}")),
            Some(hold) => (StatusState::Held, format!("in turn {number}, {step} waits for {hold}")),
        };
        Self {
            state,
            sentence,
            run: Some(run.clone()),
            step: Some(step.to_string()),
            step_hold: hold,
            ..Self::plain(task, past, sight, notes)
        }
    }

    fn plain(task: &TaskName, past: &Past, sight: Sight, notes: &[Note]) -> Self {
        Self {
            task: task.clone(),
            state: StatusState::Waiting,
            sentence: String::new(),
            holds: Vec::new(),
            run: None,
            step: None,
            step_hold: None,
            turns: past.turns,
            failures_in_a_row: past.failures_in_a_row,
            changed: past.last.as_ref().and_then(|turn| changed(turn, &sight)),
            last_turn: past.last.clone(),
            sight,
            log: notes[notes.len().saturating_sub(LOG)..].to_vec(),
        }
    }

    /// The status as a person reads it.
    pub fn text(&self, settings: &Unattended) -> String {
        let mut lines = vec![format!("{}: {}", self.task, self.sentence)];
        lines.push(format!(
            "  {} of {} new verified outcomes, {} in all; {} turns so far",
            self.sight.verified_new, settings.min_new, self.sight.verified_all, self.turns
        ));
        if let Some(alarm) = &self.sight.alarm {
            lines.push(format!("  alarm: {alarm}"));
        }
        if let Some(turn) = &self.last_turn {
            let ending = turn.ending.as_deref().unwrap_or("it is under way");
            lines.push(format!(
                "  turn {} ({}) began because {}; {ending}",
                turn.number, turn.run, turn.because
            ));
        }
        lines.extend(self.changed.iter().map(|changed| format!("  {changed}")));
        lines.extend(self.sight.rewards.iter().map(|earned| format!("  {}", line(earned))));
        if !self.log.is_empty() {
            lines.push(String::new());
            lines.extend(self.log.iter().map(Note::line));
        }
        lines.join("\n")
    }
}

fn line(earned: &Earned) -> String {
    let Earned { who, n, mean, low, high } = earned;
    format!("{who}: reward {mean:.3} [{low:.3}, {high:.3}] over {n} judged steps")
}

/// What serving became by a turn, and what users made of it.
fn changed(turn: &TurnStory, sight: &Sight) -> Option<String> {
    turn.ended?;
    let before = turn.before.as_deref().unwrap_or("nothing of ours");
    let candidate = turn.candidate.as_deref();
    let earned = |who: &str| sight.rewards.iter().find(|earned| earned.who == who);
    let reward = |who: &str| {
        earned(who).map_or_else(|| "nothing known".to_owned(), |e| format!("{:.3}", e.mean))
    };
    Some(match (turn.promoted, candidate) {
        (true, Some(after)) => format!(
            "{after} serves instead of {before}: reward {} after {}",
            reward(after),
            reward(before)
        ),
        _ => format!("it changed nothing: {before} still serves"),
    })
}
