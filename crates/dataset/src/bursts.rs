//! Bursts: much that people said within minutes, of one subject's replies or of one arm's. Somebody
//! who wants to steer what is learnt looks like this, and so does a good day.
//!
//! A burst is told and counted, and leaves nothing out: a person has to look. How much of a version
//! one subject makes at most is held down all the same.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use understudy_ident::Timestamp;
use understudy_trajectory::{Arm, Outcome, Source};

use crate::{
    DatasetError,
    key::Key,
    ledger::Tally,
    selection::{Fact, Selected},
};

/// How long the times are that are compared,
const WINDOW_MS: i64 = 600_000;
/// how much must be said in one of them,
const MANY: u64 = 30;
/// how many times the usual that must be,
const TIMES: f64 = 10.0;
/// and of how many of them an arm's usual is known.
const KNOWN: usize = 6;

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Burst {
    pub why: &'static str,
    /// Whose replies it was said of,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// or which arm's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arm: Option<Arm>,
    /// When the ten minutes began.
    pub from: Timestamp,
    /// How often something was said in them, and how often that is usual: of a subject, or with as
    /// much traffic as the arm had.
    pub said: u64,
    pub usual: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    Subject(Key),
    Arm(Arm),
}

/// How often was said what in a window, and how often is usual.
#[derive(Debug, Clone, Copy)]
struct Found {
    said: u64,
    usual: f64,
}

type Window = (Holder, u32);

/// The windows in which people said something. Programs judge when they are run.
pub(crate) fn windows(outcomes: &[Outcome]) -> Box<[u32]> {
    let people = outcomes.iter().filter(|outcome| outcome.source != Source::Automated);
    people.filter_map(|outcome| window(outcome.at)).collect()
}

fn window(at: Timestamp) -> Option<u32> {
    u32::try_from(at.as_millisecond() / WINDOW_MS).ok()
}

/// Counts the steps that something was said of in a burst.
pub(crate) fn count(facts: &[Fact], tally: &mut Tally) {
    let found = find(facts);
    let is_in = |fact: &Fact, holder: Option<Holder>| {
        holder.is_some_and(|holder| fact.said.iter().any(|at| found.contains_key(&(holder, *at))))
    };
    for fact in facts {
        tally.add_many("in_a_burst_of_a_subject", is_in(fact, subject(fact)).into());
        tally.add_many("in_a_burst_of_an_arm", is_in(fact, arm(fact)).into());
    }
}

/// All of them, in order of time.
pub(crate) fn bursts(selected: &Selected) -> Result<Vec<Burst>, DatasetError> {
    let mut bursts = Vec::new();
    for ((holder, at), Found { said, usual }) in find(&selected.facts) {
        let from = Timestamp::from_millisecond(i64::from(at) * WINDOW_MS).unwrap_or_default();
        let (why, subject, arm) = match holder {
            Holder::Subject(_) => {
                let whose = |fact: &Fact| subject(fact) == Some(holder);
                let nth = selected.facts.iter().position(whose);
                let name = nth.map(|nth| selected.candidate(nth)).transpose()?;
                (
                    "much was said of one subject's replies at once",
                    name.and_then(|one| one.subject),
                    None,
                )
            }
            Holder::Arm(arm) => ("much was said of one arm's replies at once", None, Some(arm)),
        };
        bursts.push(Burst { why, subject, arm, from, said, usual });
    }
    bursts.sort_by_key(|burst| burst.from);
    Ok(bursts)
}

fn subject(fact: &Fact) -> Option<Holder> {
    fact.subject.map(Holder::Subject)
}

fn arm(fact: &Fact) -> Option<Holder> {
    fact.arm.map(Holder::Arm)
}

fn find(facts: &[Fact]) -> BTreeMap<Window, Found> {
    let mut found = of_subjects(&said(facts, subject));
    found.extend(of_arms(&said(facts, arm), facts));
    found
}

/// How often something was said, by window.
fn said(facts: &[Fact], of: fn(&Fact) -> Option<Holder>) -> BTreeMap<Window, u64> {
    let mut said = BTreeMap::new();
    for fact in facts {
        for (holder, at) in
            of(fact).into_iter().flat_map(|one| fact.said.iter().map(move |at| (one, *at)))
        {
            *said.entry((holder, at)).or_default() += 1;
        }
    }
    said
}

/// Against what is usual of anybody: who says a lot for the first time has no usual of their own.
fn of_subjects(said: &BTreeMap<Window, u64>) -> BTreeMap<Window, Found> {
    let Some(usual) = median(said.values().map(|said| *said as f64).collect()) else {
        return BTreeMap::new();
    };
    let found = said.iter().map(|(window, said)| (*window, Found { said: *said, usual }));
    found.filter(|(_, found)| found.is_burst()).collect()
}

/// Against what is usual of the arm with as much traffic: a canary's share grows in steps.
fn of_arms(said: &BTreeMap<Window, u64>, facts: &[Fact]) -> BTreeMap<Window, Found> {
    let mut served: BTreeMap<Window, u64> = BTreeMap::new();
    for (holder, at) in facts.iter().filter_map(|fact| Some((arm(fact)?, window(fact.at)?))) {
        // What was answered at the end of a window is judged in the next.
        for at in [at, at.saturating_add(1)] {
            *served.entry((holder, at)).or_default() += 1;
        }
    }
    let holders: BTreeSet<Holder> = said.keys().map(|(holder, _)| *holder).collect();
    let mut found = BTreeMap::new();
    for holder in holders {
        let own = served.range((holder, 0)..=(holder, u32::MAX));
        let of = |window: &Window| said.get(window).copied().unwrap_or_default();
        let rates: Vec<f64> =
            own.map(|(window, served)| of(window) as f64 / *served as f64).collect();
        if rates.len() < KNOWN {
            continue;
        }
        let Some(rate) = median(rates) else { continue };
        let own = said.range((holder, 0)..=(holder, u32::MAX)).map(|(window, said)| {
            let served = served.get(window).copied().unwrap_or_default();
            (*window, Found { said: *said, usual: rate * served as f64 })
        });
        found.extend(own.filter(|(_, found)| found.is_burst()));
    }
    found
}

impl Found {
    fn is_burst(&self) -> bool {
        self.said >= MANY && self.said as f64 >= TIMES * self.usual
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
