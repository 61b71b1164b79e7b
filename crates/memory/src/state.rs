//! What a log of operations and events amounts to.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use understudy_ident::Timestamp;

use crate::{CounterSettings, Counters, Effect, Item, Keyed, MemoryId, Status, effect::Tally};

/// One change of a lesson, as the log keeps it; the item itself lies beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Operation {
    Add,
    /// Another revision: also what merging two reports of one lesson makes.
    Revise,
    Validate,
    Activate,
    Suspend,
    Retire,
    Restore,
    /// The two contradict each other: neither may be active until one is retired.
    Conflict {
        other: MemoryId,
    },
    /// The two are alike and stay apart: neither becomes the other, and nothing joins them.
    Keep {
        other: MemoryId,
    },
    /// The lesson's agent got these weights, so its worth is measured anew.
    Rescore {
        version: String,
    },
    /// A word a person allowed.
    Approve {
        term: String,
    },
}

impl Operation {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Revise => "revise",
            Self::Validate => "validate",
            Self::Activate => "activate",
            Self::Suspend => "suspend",
            Self::Retire => "retire",
            Self::Restore => "restore",
            Self::Conflict { .. } => "conflict",
            Self::Keep { .. } => "keep",
            Self::Rescore { .. } => "rescore",
            Self::Approve { .. } => "approve",
        }
    }
}

/// A lesson with where it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kept<T> {
    pub item: Item<T>,
    pub status: Status,
    pub since: Timestamp,
    pub counters: Counters,
    /// Of showing it, against withholding it.
    pub effect: Effect,
    pub last_used: Option<Timestamp>,
    pub last_confirmed: Option<Timestamp>,
    pub conflicts_with: BTreeSet<MemoryId>,
    pub kept_apart_from: BTreeSet<MemoryId>,
    /// Active lessons that took its place: releases are cut without it while they are active.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub superseded_by: BTreeSet<MemoryId>,
    /// How it does with the weights its agent got since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rescored: Option<Rescored>,
}

/// A lesson under weights that were promoted after it was learnt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rescored {
    /// The adapter version.
    pub version: String,
    pub counters: Counters,
    pub effect: Effect,
    /// The weights do by themselves what it says: measured long enough, it makes no difference worth
    /// its tokens. A person retires it.
    pub graduated: bool,
}

impl<T> Kept<T> {
    /// Whether it serves and is proposed for retirement.
    pub fn has_graduated(&self) -> bool {
        self.status == Status::Active && self.rescored.as_ref().is_some_and(|r| r.graduated)
    }
}

/// The fold of a log.
#[derive(Debug)]
pub(crate) struct State<T> {
    pub(crate) lessons: BTreeMap<MemoryId, Lesson<T>>,
    pub(crate) terms: BTreeSet<String>,
    /// What was written to take a lesson's place, wherever that stands.
    successors: BTreeMap<MemoryId, BTreeSet<MemoryId>>,
    /// Requests whose outcome is awaited: which lessons were shown, and which withheld.
    pub(crate) open: HashMap<Keyed, Vec<(MemoryId, bool)>>,
}

#[derive(Debug)]
pub(crate) struct Lesson<T> {
    pub(crate) item: Item<T>,
    pub(crate) status: Status,
    pub(crate) since: Timestamp,
    pub(crate) tally: Tally,
    pub(crate) conflicts: BTreeSet<MemoryId>,
    pub(crate) apart: BTreeSet<MemoryId>,
    /// The weights it is measured under since.
    pub(crate) rescored: Option<String>,
}

impl<T> Lesson<T> {
    fn rescored(&self, now: Timestamp, settings: &CounterSettings) -> Option<Rescored> {
        let (version, counters) =
            self.rescored.clone().zip(self.tally.counters_anew(now, settings))?;
        let effect = Effect::of(&counters, settings.bound);
        let with = counters.success_with + counters.fail_with;
        let control = counters.success_control + counters.fail_control;
        let graduated = with.min(control) >= settings.rescore_outcomes
            && effect.upper < settings.graduate_below;
        Some(Rescored { version, counters, effect, graduated })
    }
}

/// One thing that happened to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Shown(MemoryId),
    Withheld(MemoryId),
    Cited(MemoryId),
    /// To somebody who asked for a way past a failure.
    Offered(MemoryId),
    Healed {
        id: MemoryId,
        worked: bool,
    },
    Outcome {
        success: bool,
    },
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self {
            lessons: BTreeMap::new(),
            terms: BTreeSet::new(),
            successors: BTreeMap::new(),
            open: HashMap::new(),
        }
    }
}

impl<T: Clone> State<T> {
    pub(crate) fn operate(
        &mut self,
        id: Option<&MemoryId>,
        operation: &Operation,
        item: Option<Item<T>>,
        at: Timestamp,
    ) {
        if let Operation::Approve { term } = operation {
            self.terms.insert(term.clone());
            return;
        }
        let Some(id) = id else { return };
        for whole in item.iter().flat_map(|item| &item.supersedes) {
            self.successors.entry(whole.clone()).or_default().insert(id.clone());
        }
        if let (Operation::Add, Some(item)) = (operation, item.as_ref()) {
            let (status, tally) = (Status::Proposed, Tally::default());
            let (conflicts, apart) = (BTreeSet::new(), BTreeSet::new());
            let item = item.clone();
            let lesson =
                Lesson { item, status, since: at, tally, conflicts, apart, rescored: None };
            self.lessons.insert(id.clone(), lesson);
            return;
        }
        if let Operation::Conflict { other } | Operation::Keep { other } = operation {
            let conflict = matches!(operation, Operation::Conflict { .. });
            for (one, another) in [(id, other), (other, id)] {
                let lesson = self.lessons.get_mut(one);
                let set = lesson.map(|l| if conflict { &mut l.conflicts } else { &mut l.apart });
                set.map(|set| set.insert(another.clone()));
            }
            return;
        }
        let Some(lesson) = self.lessons.get_mut(id) else { return };
        let status = match operation {
            Operation::Revise => {
                if let Some(item) = item {
                    lesson.item = item;
                }
                return;
            }
            Operation::Rescore { version } => {
                lesson.rescored = Some(version.clone());
                lesson.tally.begin_anew();
                return;
            }
            // A restored lesson is reviewed and released again like any other.
            Operation::Validate | Operation::Restore => Status::Validated,
            Operation::Activate => Status::Active,
            Operation::Suspend => Status::Suspended,
            Operation::Retire => Status::Retired,
            Operation::Add
            | Operation::Conflict { .. }
            | Operation::Keep { .. }
            | Operation::Approve { .. } => return,
        };
        (lesson.status, lesson.since) = (status, at);
        if status == Status::Retired {
            for other in self.lessons.values_mut() {
                other.conflicts.remove(id);
            }
        }
    }

    /// Counts an event. An outcome of a request that is not awaited counts nothing: neither a second
    /// one, nor one of a request no lesson was considered for.
    pub(crate) fn happen(
        &mut self,
        request: Keyed,
        event: Event,
        at: Timestamp,
        settings: &CounterSettings,
    ) {
        match event {
            Event::Shown(id) => self.consider(request, id, at, true),
            Event::Withheld(id) => self.consider(request, id, at, false),
            Event::Cited(id) => {
                if let Some(lesson) = self.lessons.get_mut(&id) {
                    lesson.tally.cited += 1;
                }
            }
            Event::Offered(id) => {
                if let Some(lesson) = self.lessons.get_mut(&id) {
                    lesson.tally.offer(at);
                }
            }
            Event::Healed { id, worked } => {
                if let Some(lesson) = self.lessons.get_mut(&id) {
                    lesson.tally.heal(worked, at, settings);
                }
            }
            Event::Outcome { success } => {
                for (id, shown) in self.open.remove(&request).unwrap_or_default() {
                    if let Some(lesson) = self.lessons.get_mut(&id) {
                        lesson.tally.outcome(shown, success, at, settings);
                    }
                }
            }
        }
    }

    fn consider(&mut self, request: Keyed, id: MemoryId, at: Timestamp, shown: bool) {
        if let Some(lesson) = self.lessons.get_mut(&id) {
            lesson.tally.injected += u64::from(shown);
            lesson.tally.withheld += u64::from(!shown);
            lesson.tally.last_used = Some(at);
            self.open.entry(request).or_default().push((id, shown));
        }
    }

    fn superseded_by(&self, id: &MemoryId) -> BTreeSet<MemoryId> {
        let active = |id: &&MemoryId| {
            self.lessons.get(*id).is_some_and(|lesson| lesson.status == Status::Active)
        };
        self.successors.get(id).into_iter().flatten().filter(active).cloned().collect()
    }

    pub(crate) fn kept(
        &self,
        id: &MemoryId,
        now: Timestamp,
        settings: &CounterSettings,
    ) -> Option<Kept<T>> {
        let lesson = self.lessons.get(id)?;
        let counters = lesson.tally.counters(now, settings);
        Some(Kept {
            item: lesson.item.clone(),
            status: lesson.status,
            since: lesson.since,
            counters,
            effect: Effect::of(&counters, settings.bound),
            last_used: lesson.tally.last_used,
            last_confirmed: lesson.tally.last_confirmed,
            conflicts_with: lesson.conflicts.clone(),
            kept_apart_from: lesson.apart.clone(),
            superseded_by: self.superseded_by(id),
            rescored: lesson.rescored(now, settings),
        })
    }
}
