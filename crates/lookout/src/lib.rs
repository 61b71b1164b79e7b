//! Sees in the journal and the registry what the loop decides by: how many outcomes are new, what
//! everybody's answers are worth, whether what serves has fallen behind its own beginning or is
//! asked other things than it knows.
//!
//! Guarantees: everything follows from the two stores, read in the order of commits, so that a
//! restart sees the same; each record is read once; alarms may be asked for at any time and are
//! false, over the whole life of a version, with at most the stated probability.
//!
//! Never: decides, writes, or trusts a client's time.

mod trend;
mod words;

use std::{collections::BTreeMap, sync::Arc};

use understudy_ident::{Clock, StepId, TaskName};
use understudy_journal::{Arrival, Entry, Journal};
use understudy_manifest::Unattended;
use understudy_orchestrator::{Earned, Lookout, PortError, Sight};
use understudy_registry::{Registry, Target};
use understudy_statistics::BettingGrid;
use understudy_trajectory::{Arm, JudgedStep, Outcome, RewardPolicy, Signal, Source, Step};

use crate::{trend::Trend, words::Vocabulary};

/// Records read at a time.
const PAGE: usize = 512;

/// Of the intervals that are shown.
const SHOWN_ALPHA: f64 = 0.05;
const BREAKS: usize = 200;

/// Versions whose trends are kept: what serves, and what it may be rolled back to.
const WATCHED: usize = 4;

/// Follows one task.
#[derive(Debug)]
pub struct Watcher {
    parts: Parts,
    settings: Unattended,
    policy: RewardPolicy,
    read_to: u64,
    /// Steps somebody spoke about: whether by a verified outcome.
    spoken: BTreeMap<StepId, bool>,
    /// The records that verified a step for the first time, in their order.
    verified: Vec<u64>,
    earned: Vec<(String, Tally)>,
    known: Vocabulary,
    watches: Vec<(String, Watch)>,
}

/// What a watcher looks at.
#[derive(Debug, Clone)]
pub struct Parts {
    pub task: TaskName,
    pub journal: Journal,
    pub registry: Arc<Registry>,
    pub clock: Arc<dyn Clock>,
}

/// Rewards, and where their mean certainly lies.
#[derive(Debug)]
pub struct Tally {
    n: u64,
    sum: f64,
    bounds: BettingGrid,
}

/// A version since it serves.
#[derive(Debug)]
struct Watch {
    /// What had been said before it served: all it can have been trained on.
    known: Vocabulary,
    reward: Trend,
    novelty: Trend,
    /// Once raised, for good: a new version is what takes it away.
    alarm: Option<Alarm>,
}

#[derive(Debug, Clone)]
struct Alarm {
    /// The record that raised it.
    at: u64,
    /// As half a sentence.
    text: String,
}

impl Watcher {
    pub fn new(parts: Parts, settings: Unattended, policy: RewardPolicy) -> Self {
        Self {
            parts,
            settings,
            policy,
            read_to: 0,
            spoken: BTreeMap::new(),
            verified: Vec::new(),
            earned: Vec::new(),
            known: Vocabulary::default(),
            watches: Vec::new(),
        }
    }

    /// Reads what has arrived.
    fn read(&mut self) -> Result<(), PortError> {
        loop {
            let arrivals = self.parts.journal.follow(self.read_to, PAGE)?;
            let Some(last) = arrivals.last().map(|arrival| arrival.seq) else { return Ok(()) };
            for arrival in &arrivals {
                self.fold(arrival)?;
            }
            self.read_to = last;
        }
    }

    fn fold(&mut self, arrival: &Arrival) -> Result<(), PortError> {
        if let Entry::Step(step) = &arrival.entry {
            if step.task != self.parts.task {
                return Ok(());
            }
            self.served(arrival.seq, step);
        }
        let Some(judged) = self.parts.journal.judged_at(arrival)? else { return Ok(()) };
        if judged.step.task == self.parts.task && !judged.outcomes.is_empty() {
            self.spoken_of(arrival.seq, &judged);
        }
        Ok(())
    }

    fn served(&mut self, seq: u64, step: &Step) {
        if let Some(version) = champion(step) {
            let known = &self.known;
            let settings = &self.settings;
            let watch = watch(&mut self.watches, version, || Watch::begin(known, settings));
            watch.novelty.push(watch.known.novelty(&step.prompt));
            watch.look(seq, version, settings);
        }
        self.known.learn(&step.prompt);
    }

    fn spoken_of(&mut self, seq: u64, judged: &JudgedStep) {
        let is_verified = judged.outcomes.iter().any(verifies);
        let before = self.spoken.insert(judged.step.id.clone(), is_verified);
        if is_verified && before != Some(true) {
            self.verified.push(seq);
        }
        // What was said first counts, as in a canary's evidence: a later word is about a later use.
        if before.is_some() {
            return;
        }
        let step = &judged.step;
        let Some(reward) = self.policy.reward(&step.reply.text(), &judged.outcomes) else { return };
        if let Some(who) = who(step) {
            tally(&mut self.earned, &who).push(reward.value);
        }
        if let Some(version) = champion(step)
            && let Some((_, watch)) = self.watches.iter_mut().find(|(name, _)| name == version)
        {
            watch.reward.push(reward.value);
            watch.look(seq, version, &self.settings);
        }
    }
}

impl Lookout for Watcher {
    fn look(&mut self, since: u64) -> Result<Sight, PortError> {
        self.read()?;
        let task = &self.parts.task;
        let registry = &self.parts.registry;
        let serving = registry.stable(task)?;
        let alarm = match &serving {
            Some(Target::Adapter(version)) => {
                let version = version.to_string();
                let watch = self.watches.iter().find(|(name, _)| *name == version);
                watch.and_then(|(_, watch)| watch.alarm.clone())
            }
            _ => None,
        };
        let open = registry.open_release(task)?;
        let now = self.parts.clock.now();
        let frozen = registry.freezes(now)?.into_iter().find(|freeze| {
            freeze.from <= now && freeze.task.as_ref().is_none_or(|frozen| frozen == task)
        });
        let after = |seq: u64| {
            (self.verified.len() - self.verified.partition_point(|at| *at <= seq)) as u64
        };
        Ok(Sight {
            until: self.read_to,
            verified_new: after(since),
            verified_all: self.verified.len() as u64,
            verified_since_alarm: alarm.as_ref().map_or(0, |alarm| after(alarm.at.max(since))),
            alarm: alarm.map(|alarm| alarm.text),
            serving: serving.map(|serving| serving.to_string()),
            open_release: open.map(|open| {
                format!("{} is {} in {}", open.candidate, open.state.as_str(), open.id)
            }),
            frozen: frozen.map(|freeze| freeze.to_string()),
            rewards: self.earned.iter().map(|(who, tally)| tally.earned(who)).collect(),
        })
    }
}

impl Watch {
    fn begin(known: &Vocabulary, settings: &Unattended) -> Self {
        // Either alarm may be false: they share what is allowed.
        let trend = || Trend::new(settings.window, settings.alpha / 2.0);
        Self { known: known.clone(), reward: trend(), novelty: trend(), alarm: None }
    }

    fn look(&mut self, seq: u64, version: &str, settings: &Unattended) {
        if self.alarm.is_some() {
            return;
        }
        let raised = |text| Some(Alarm { at: seq, text });
        if let Some(fall) = self.reward.fallen(settings.fall) {
            self.alarm = raised(format!(
                "the reward of {version} has fallen from {:.3} to {:.3}",
                fall.before, fall.now
            ));
        } else if let Some(drift) = self.novelty.risen(settings.drift) {
            self.alarm = raised(format!(
                "requests have drifted: {:.0} % of their words are new to {version}, where {:.0} % \
                 were when it began to serve",
                drift.now * 100.0,
                drift.before * 100.0
            ));
        }
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self { n: 0, sum: 0.0, bounds: BettingGrid::new(SHOWN_ALPHA, BREAKS) }
    }
}

impl Tally {
    /// Takes a reward from 0 to 1.
    pub fn push(&mut self, reward: f64) {
        self.n += 1;
        self.sum += reward;
        self.bounds.push(reward);
    }

    pub fn earned(&self, who: &str) -> Earned {
        let interval = self.bounds.interval();
        let mean = self.sum / self.n.max(1) as f64;
        Earned { who: who.to_owned(), n: self.n, mean, low: interval.lower, high: interval.upper }
    }
}

/// Whether something can be learnt from a reply by this outcome alone. One that was asked for again
/// says nothing until another one is used, which then is verified itself.
fn verifies(outcome: &Outcome) -> bool {
    let teaches = match outcome.signal {
        Signal::Flag { .. } | Signal::Regenerate { .. } | Signal::Remark { .. } => false,
        Signal::Accept
        | Signal::Edit { .. }
        | Signal::Abandon
        | Signal::Rating { .. }
        | Signal::Verifier { .. } => true,
    };
    outcome.source != Source::Implicit && teaches
}

/// The version that answered as what serves everybody.
fn champion(step: &Step) -> Option<&str> {
    let is_stable = step.assignment.as_ref().is_some_and(|to| to.arm == Arm::Stable);
    let adapter = step.served.adapter.as_ref().filter(|_| is_stable);
    adapter.map(|adapter| adapter.alias.as_str())
}

/// Who answered, where we chose who does: `teacher`, `base` or `task@N`.
pub fn who(step: &Step) -> Option<String> {
    let assignment = step.assignment.as_ref()?;
    Some(match &step.served.adapter {
        Some(adapter) => adapter.alias.clone(),
        None if assignment.arm == Arm::Base => "base".to_owned(),
        None if step.tokens.is_some() => "base".to_owned(),
        None => "teacher".to_owned(),
    })
}

fn watch<'a>(
    watches: &'a mut Vec<(String, Watch)>,
    version: &str,
    begin: impl FnOnce() -> Watch,
) -> &'a mut Watch {
    let at = watches.iter().position(|(name, _)| name == version).unwrap_or_else(|| {
        if watches.len() == WATCHED {
            watches.remove(0);
        }
        watches.push((version.to_owned(), begin()));
        watches.len() - 1
    });
    &mut watches[at].1
}

fn tally<'a>(earned: &'a mut Vec<(String, Tally)>, who: &str) -> &'a mut Tally {
    let at = earned.iter().position(|(name, _)| name == who).unwrap_or_else(|| {
        earned.push((who.to_owned(), Tally::default()));
        earned.len() - 1
    });
    &mut earned[at].1
}

#[cfg(test)]
mod tests;
