//! The calls that telemetry told and that became no step, counted by reason.
//!
//! A conversation is read again whenever more of it comes, so calls are remembered: each counts once
//! a reason, as long as it is among the last that were seen.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, PoisonError},
};

use understudy_ident::StepId;
use understudy_ingest::telemetry::LeftOut;

/// How many calls are remembered.
const REMEMBERED: usize = 65_536;

#[derive(Debug, Default)]
pub(crate) struct Wanting(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    known: BTreeSet<(StepId, LeftOut)>,
    /// The same, oldest first.
    order: VecDeque<(StepId, LeftOut)>,
    counts: BTreeMap<LeftOut, u64>,
}

impl Wanting {
    pub(crate) fn note(&self, call: StepId, why: LeftOut) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.known.insert((call.clone(), why)) {
            return;
        }
        *seen.counts.entry(why).or_default() += 1;
        seen.order.push_back((call, why));
        if seen.order.len() > REMEMBERED
            && let Some(oldest) = seen.order.pop_front()
        {
            seen.known.remove(&oldest);
        }
    }

    pub(crate) fn counts(&self) -> BTreeMap<LeftOut, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).counts.clone()
    }
}
