//! Steps that may teach something: selected by task and age, then filtered by what they are.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use understudy_ident::{Digest, StepId, TaskName, Timestamp, TrajectoryId};
use understudy_inference::FinishReason;
use understudy_message::Message;
use understudy_trajectory::{JudgedStep, Outcome, Signal, Step};

use crate::{
    attempt::{Attempt, Attempts},
    ledger::{Ledger, Tally},
};

/// What rows are made of: a step without its timings, and with its tokens only where they may
/// become an attempt of a group.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) id: StepId,
    pub(crate) trajectory: TrajectoryId,
    pub(crate) session: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) response_id: String,
    /// Shared by all rows of the step: in long sessions prompts are most of the bytes.
    pub(crate) prompt: Arc<[Message]>,
    pub(crate) reply: Message,
    /// Oldest first.
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) attempt: Option<Box<Attempt>>,
    /// Why its text teaches nothing, whatever was said about it. A reply that was cut off or blank
    /// is no example, but as a sample it may still be an attempt.
    flaw: Option<&'static str>,
}

/// Which reply was used after a regenerate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept<'a> {
    /// The response the client named.
    Named(&'a str),
    /// It has to be looked for.
    Unknown,
}

impl<'a> Kept<'a> {
    /// What a regenerate says; nothing of other signals.
    pub(crate) fn after(signal: &'a Signal) -> Option<Self> {
        match signal {
            Signal::Regenerate { kept: Some(response) } => Some(Self::Named(response)),
            Signal::Regenerate { kept: None } => Some(Self::Unknown),
            _ => None,
        }
    }
}

impl Candidate {
    pub(crate) fn is_whole(&self) -> bool {
        self.flaw.is_none()
    }

    /// Puts the outcomes in order, each once.
    fn settle_outcomes(&mut self) {
        self.outcomes.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        self.outcomes.dedup_by(|a, b| a.id == b.id);
        let reply = self.reply.text();
        for outcome in &mut self.outcomes {
            // Clients report an edit when a text field was saved, changed or not.
            if matches!(&outcome.signal, Signal::Edit { text } if text.trim() == reply.trim()) {
                outcome.signal = Signal::Accept;
            }
        }
    }

    pub(crate) fn was_accepted(&self) -> bool {
        self.outcomes.iter().any(|outcome| outcome.signal == Signal::Accept)
    }

    pub(crate) fn was_flagged(&self) -> bool {
        self.outcomes.iter().any(|outcome| matches!(outcome.signal, Signal::Flag { .. }))
    }

    /// The change that stood in the end.
    pub(crate) fn edit(&self) -> Option<&str> {
        self.outcomes.iter().rev().find_map(|outcome| match &outcome.signal {
            Signal::Edit { text } => Some(text.as_str()),
            _ => None,
        })
    }

    /// Whether another reply was asked for, and which one was used in the end.
    pub(crate) fn regenerated(&self) -> Option<Kept<'_>> {
        self.outcomes.iter().rev().find_map(|outcome| Kept::after(&outcome.signal))
    }

    /// One outcome says the reply was used or liked, another that it was harmful or worthless: a
    /// person has to look, and until then nobody learns from it.
    pub(crate) fn is_contradictory(&self) -> bool {
        let says = |test: fn(&Signal) -> bool| self.outcomes.iter().any(|o| test(&o.signal));
        let used = says(|signal| matches!(signal, Signal::Accept | Signal::Edit { .. }));
        let accepted = says(|signal| *signal == Signal::Accept);
        let praised = says(|signal| matches!(signal, Signal::Rating { value } if *value >= 0.75));
        let damned = says(|signal| matches!(signal, Signal::Rating { value } if *value <= 0.25));
        (self.was_flagged() && (used || praised)) || (damned && (accepted || praised))
    }
}

/// Collects steps, each once, whatever the order and grouping they come in.
#[derive(Debug)]
pub(crate) struct Selection {
    task: TaskName,
    not_before: Option<Timestamp>,
    seen: usize,
    tally: Tally,
    /// By age, ties broken by id.
    chosen: BTreeMap<(Timestamp, StepId), Candidate>,
    attempts: Attempts,
}

/// What the rows of a version are made of.
#[derive(Debug)]
pub(crate) struct Selected {
    /// Oldest first, their outcomes in order and each once. They are whole, or an attempt at a
    /// prompt that others share, or both.
    pub(crate) candidates: Vec<Candidate>,
    /// The ids of the prompts that at least two steps answered, by digest.
    pub(crate) shared: BTreeMap<Digest, Arc<[u32]>>,
}

impl Selection {
    pub(crate) fn new(task: &TaskName, not_before: Option<Timestamp>) -> Self {
        let (seen, tally, chosen) = (0, Tally::default(), BTreeMap::new());
        let attempts = Attempts::default();
        Self { task: task.clone(), not_before, seen, tally, chosen, attempts }
    }

    pub(crate) fn add(&mut self, judged: JudgedStep) {
        let JudgedStep { mut step, outcomes } = judged;
        self.seen += 1;
        if step.task != self.task {
            return self.tally.add("other_task");
        }
        if self.not_before.is_some_and(|not_before| step.at < not_before) {
            return self.tally.add("too_old");
        }
        match self.chosen.entry((step.at, step.id.clone())) {
            Entry::Vacant(place) => {
                let attempt = self.attempts.take(&mut step);
                place.insert(candidate(step, outcomes, attempt));
            }
            Entry::Occupied(mut known) => {
                known.get_mut().outcomes.extend(outcomes);
                self.tally.add("repeated");
            }
        }
    }

    pub(crate) fn finish(self, ledger: &mut Ledger) -> Selected {
        let selected = self.chosen.len();
        ledger.close("select", self.seen, selected, self.tally);
        let shared = self.attempts.shared();
        let mut tally = Tally::default();
        let mut candidates = Vec::with_capacity(selected);
        let mut whole = 0;
        for mut candidate in self.chosen.into_values() {
            candidate.attempt.take_if(|attempt| !shared.contains_key(&attempt.prompt));
            match candidate.flaw {
                None => whole += 1,
                Some(flaw) => tally.add(flaw),
            }
            if candidate.is_whole() || candidate.attempt.is_some() {
                candidate.settle_outcomes();
                candidates.push(candidate);
            }
        }
        ledger.close("filter", selected, whole, tally);
        Selected { candidates, shared }
    }
}

fn candidate(step: Step, outcomes: Vec<Outcome>, attempt: Option<Box<Attempt>>) -> Candidate {
    let flaw = flaw(&step);
    Candidate {
        id: step.id,
        trajectory: step.trajectory,
        session: step.session,
        subject: step.subject,
        response_id: step.response_id,
        prompt: step.prompt.into(),
        reply: step.reply,
        outcomes,
        attempt,
        flaw,
    }
}

/// Why there is no example in a step.
fn flaw(step: &Step) -> Option<&'static str> {
    let says_nothing = step.reply.text().trim().is_empty() && step.reply.tool_calls.is_empty();
    let is_text = |message: &Message| message.content.is_text_only();
    if step.error.is_some() {
        Some("failed")
    } else if step.finish_reason == FinishReason::Length {
        Some("cut_off")
    } else if step.finish_reason == FinishReason::Aborted {
        Some("aborted")
    } else if step.prompt.is_empty() || says_nothing {
        Some("empty")
    } else if !step.prompt.iter().chain([&step.reply]).all(is_text) {
        // The trainer reads text; an example without its image would teach guessing.
        Some("not_text")
    } else {
        None
    }
}
