//! Selecting steps by task and age, each once, and remembering of each what later stages ask most.
//!
//! The steps themselves lie in a file. In memory remain some two hundred bytes of each, whatever was
//! said in it.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use understudy_ident::{Digest, StepId, TaskName, Timestamp};
use understudy_manifest::canonical_json;
use understudy_trajectory::{Arm, JudgedStep, Overlap, RewardPolicy};

use crate::{
    DatasetError,
    attempt::Attempts,
    bursts,
    candidate::{Candidate, Kept, Scored},
    filter::Filter,
    key::Key,
    ledger::{Ledger, Tally},
    spill::{Place, Spill},
    trail::Trail,
};

/// What is known about a candidate without reading it.
#[derive(Debug, Clone)]
pub(crate) struct Fact {
    pub(crate) place: Place,
    pub(crate) response: Key,
    pub(crate) trajectory: Key,
    pub(crate) session: Option<Key>,
    pub(crate) subject: Option<Key>,
    pub(crate) model: Key,
    pub(crate) arm: Option<Arm>,
    pub(crate) prompt: Key,
    pub(crate) at: Timestamp,
    /// Of the prompt ids, where it may be an attempt of a group.
    pub(crate) attempt: Option<Digest>,
    pub(crate) flaw: Option<&'static str>,
    /// Whether languages are asked for, and its own cannot be told.
    pub(crate) is_untold: bool,
    /// In which windows people said something of it.
    pub(crate) said: Box<[u32]>,
    /// Whether it, or something said of it, came after an earlier version that covers its time.
    pub(crate) is_late: bool,
    pub(crate) is_judged: bool,
    /// How what was said of it cannot all be so.
    pub(crate) conflict: Option<&'static str>,
    pub(crate) was_flagged: bool,
    pub(crate) was_accepted: bool,
    pub(crate) was_regenerated: bool,
    /// What was said before and taken back by saying it anew.
    pub(crate) superseded: usize,
    pub(crate) trifles: usize,
    /// Where people spoke and behaviour was seen.
    pub(crate) overlap: Option<Box<Overlap>>,
    /// The response that its user kept in its place, where they named it.
    pub(crate) kept: Option<Key>,
    /// The problem that its trajectory attempted, and how well it did.
    pub(crate) problem: Option<(Key, Scored)>,
}

impl Fact {
    fn new(candidate: &Candidate, policy: RewardPolicy, at: Timestamp, place: Place) -> Self {
        Self {
            place,
            at,
            response: response_key(&candidate.response_id),
            trajectory: Key::of("trajectory", candidate.trajectory.as_str()),
            session: candidate.session.as_deref().map(|name| Key::of("session", name)),
            subject: candidate.subject.as_deref().map(|name| Key::of("subject", name)),
            model: Key::of("model", &candidate.model),
            arm: candidate.arm,
            said: bursts::windows(&candidate.outcomes),
            prompt: asked(candidate),
            attempt: candidate.attempt.as_ref().map(|attempt| attempt.prompt),
            flaw: candidate.flaw,
            is_untold: false,
            is_late: false,
            is_judged: !candidate.outcomes.is_empty(),
            conflict: candidate.conflict(policy),
            was_flagged: candidate.was_flagged(),
            superseded: candidate.superseded,
            trifles: candidate.trifles,
            overlap: Overlap::of(candidate.id.as_str(), &candidate.outcomes).map(Box::new),
            was_accepted: candidate.was_accepted(),
            problem: candidate.problem().map(|(name, how)| (Key::of("problem", name), how)),
            was_regenerated: candidate.regenerated().is_some(),
            kept: match candidate.regenerated() {
                Some(Kept::Named(response)) => Some(response_key(response)),
                Some(Kept::Unknown) | None => None,
            },
        }
    }

    pub(crate) fn is_contradictory(&self) -> bool {
        self.conflict.is_some()
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.flaw.is_none()
    }
}

/// The same words with other tools are another question.
fn asked(candidate: &Candidate) -> Key {
    let prompt = canonical_json(&candidate.prompt);
    match candidate.tools.as_slice() {
        [] => Key::of("asked", &prompt),
        tools => Key::of("asked with tools", &(prompt + &canonical_json(tools))),
    }
}

pub(crate) fn response_key(response: &str) -> Key {
    Key::of("response", response)
}

/// Collects steps, each once, whatever the order and grouping they come in.
#[derive(Debug)]
pub(crate) struct Selection {
    task: TaskName,
    not_before: Option<Timestamp>,
    exclude: BTreeMap<String, String>,
    policy: RewardPolicy,
    spill: Arc<Spill>,
    seen: usize,
    tally: Tally,
    /// By age, ties broken by id.
    chosen: BTreeMap<(Timestamp, StepId), Fact>,
    attempts: Attempts,
    /// Those that an earlier version would have had.
    late: BTreeSet<StepId>,
}

/// What the rows of a version are made of.
#[derive(Debug)]
pub(crate) struct Selected {
    spill: Arc<Spill>,
    /// Oldest first. They are whole, or an attempt at a prompt that others share, or both.
    pub(crate) facts: Vec<Fact>,
    /// Where the ids of the prompts lie that at least two steps answered, by digest.
    pub(crate) shared: BTreeMap<Digest, Place>,
}

impl Selection {
    pub(crate) fn new(
        task: &TaskName,
        not_before: Option<Timestamp>,
        exclude: &BTreeMap<String, String>,
        policy: RewardPolicy,
        spill: Arc<Spill>,
    ) -> Self {
        Self {
            task: task.clone(),
            not_before,
            exclude: exclude.clone(),
            policy,
            spill,
            seen: 0,
            tally: Tally::default(),
            chosen: BTreeMap::new(),
            attempts: Attempts::default(),
            late: BTreeSet::new(),
        }
    }

    pub(crate) fn late(&mut self, steps: BTreeSet<StepId>) {
        self.late = steps;
    }

    pub(crate) fn add(
        &mut self,
        judged: JudgedStep,
        filter: Filter<'_>,
        trail: &mut Trail,
    ) -> Result<(), DatasetError> {
        let JudgedStep { mut step, outcomes } = judged;
        self.seen += 1;
        let is_watched = trail.is_of(&step);
        let mut refuse = |why| {
            self.tally.add(why);
            if is_watched {
                trail.note("select", format!("left out: {why}"));
            }
            Ok(())
        };
        if step.task != self.task {
            return refuse("other_task");
        }
        if self.not_before.is_some_and(|not_before| step.at < not_before) {
            return refuse("too_old");
        }
        if self.exclude.iter().any(|(name, value)| step.metadata.get(name) == Some(value)) {
            return refuse("excluded");
        }
        let at = step.at;
        match self.chosen.entry((at, step.id.clone())) {
            Entry::Vacant(vacant) => {
                let attempt = self.attempts.take(&mut step, &self.spill)?;
                let mut candidate = Candidate::new(step, outcomes, attempt);
                candidate.hold_to(filter)?;
                let place = self.spill.push_value(&candidate)?;
                let fact = Fact::new(&candidate, self.policy, at, place);
                vacant.insert(Fact { is_untold: filter.is_untold(&candidate), ..fact });
            }
            Entry::Occupied(mut known) => {
                let mut candidate: Candidate = self.spill.read_value(known.get().place)?;
                candidate.flaw = known.get().flaw;
                candidate.hear(outcomes);
                candidate.hold_to(filter)?;
                let place = self.spill.push_value(&candidate)?;
                let fact = Fact::new(&candidate, self.policy, at, place);
                *known.get_mut() = Fact { is_untold: known.get().is_untold, ..fact };
                self.tally.add("repeated");
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self, ledger: &mut Ledger, trail: &mut Trail) -> Selected {
        let selected = self.chosen.len();
        ledger.close("select", self.seen, selected, self.tally);
        let shared = self.attempts.shared();
        let mut tally = Tally::default();
        let mut facts = Vec::with_capacity(selected);
        let mut whole = 0;
        for ((_, id), mut fact) in self.chosen {
            fact.attempt.take_if(|prompt| !shared.contains_key(prompt));
            match fact.flaw {
                None => {
                    whole += 1;
                    tally.add_many("language_unknown", fact.is_untold.into());
                }
                Some(flaw) => tally.add(flaw),
            }
            fact.is_late = self.late.contains(&id);
            trail.selected(&id, &fact, facts.len());
            if fact.is_whole() || fact.attempt.is_some() {
                facts.push(fact);
            }
        }
        ledger.close("filter", selected, whole, tally);
        Selected { spill: self.spill, facts, shared }
    }
}

impl Selected {
    pub(crate) fn spill(&self) -> &Arc<Spill> {
        &self.spill
    }

    /// Reads a candidate.
    pub(crate) fn candidate(&self, nth: usize) -> Result<Candidate, DatasetError> {
        let fact = &self.facts[nth];
        let mut candidate: Candidate = self.spill.read_value(fact.place)?;
        candidate.flaw = fact.flaw;
        if fact.attempt.is_none() {
            candidate.attempt = None;
        }
        Ok(candidate)
    }

    /// Those that may be examples; the others are only attempts of groups.
    pub(crate) fn whole(&self) -> impl Iterator<Item = (usize, &Fact)> {
        self.facts.iter().enumerate().filter(|(_, fact)| fact.is_whole())
    }
}
