//! Adapter generations in memory, and which one each alias means.
//!
//! Who resolves reads one immutable snapshot without a lock and leaves with an `Arc`, the lease.
//! Who changes something drafts the next snapshot under a lock, makes room for it, writes it down
//! and swaps it in: whatever fails, fails before an alias was touched.
//!
//! Never: serves content other than the alias's digest, lets go of leased content, or holds more
//! bytes than it may, those of retired generations that are still leased included. A swap needs
//! room for both versions.

mod change;
mod fetch;
mod patience;
mod room;
mod snapshot;
mod state;

use std::{
    collections::{BTreeSet, VecDeque},
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use understudy_inference::{AdapterChoice, AdapterInfo, InferenceError, Use, Uses};

pub(crate) use self::{
    change::{Change, Published},
    patience::Patience,
    room::Limits,
    snapshot::Generation,
    state::StateFile,
};
use self::{
    fetch::Failure,
    patience::Crowd,
    room::Retired,
    snapshot::{Found, Snapshot},
};
use crate::load::Adapter;

/// Where content comes from when it is asked for and not in memory.
pub(crate) trait Source<P>: Send + Sync {
    fn read(
        &self,
        alias: &str,
        directory: &Path,
        patience: Patience,
    ) -> Result<Generation<P>, InferenceError>;
}

pub(crate) struct AdapterStore<P = Adapter> {
    snapshot: ArcSwap<Snapshot<P>>,
    ledger: Mutex<Ledger<P>>,
    /// Told whenever a read has ended, however it did.
    arrived: Condvar,
    /// Those who asked for what has to be read first.
    asking: Crowd,
    source: Box<dyn Source<P>>,
    limits: Limits,
    state: Option<StateFile>,
    uses: Uses,
    /// Counts leases, so that the least recent can be told.
    clock: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// What only those who change something look at.
struct Ledger<P> {
    /// No longer meant by any alias, and leased when last looked at.
    retired: Vec<Retired<P>>,
    /// Aliases whose content is being read.
    reading: BTreeSet<String>,
    failures: VecDeque<Failure>,
}

/// A request's hold on content.
#[derive(Debug)]
pub(crate) struct Lease<P = Adapter> {
    /// What it was asked for as, or an alias that it belongs to.
    pub(crate) alias: String,
    pub(crate) generation: Arc<Generation<P>>,
    /// Counts the request among those of its alias.
    pub(crate) used: Use,
}

/// What is in memory, and how often it was what was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) resident: usize,
    pub(crate) bytes: u64,
    pub(crate) hits: u64,
    pub(crate) misses: u64,
}

impl<P> AdapterStore<P> {
    pub(crate) fn new(source: Box<dyn Source<P>>, limits: Limits) -> Self {
        let ledger =
            Ledger { retired: Vec::new(), reading: BTreeSet::new(), failures: VecDeque::new() };
        Self {
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            ledger: Mutex::new(ledger),
            arrived: Condvar::new(),
            asking: Crowd::default(),
            source,
            limits,
            state: None,
            uses: Uses::default(),
            clock: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// What an alias means right now. Content that is not in memory is read first, on this thread,
    /// once for everybody who waits for it; only so many may, and each only as long as its patience.
    fn resolve_alias(
        &self,
        alias: &str,
        patience: Patience,
    ) -> Result<Arc<Generation<P>>, InferenceError> {
        let snapshot = self.snapshot.load();
        match snapshot.find(alias)? {
            Found::Resident(held) => {
                self.hits.fetch_add(1, Relaxed);
                Ok(held.lease(&self.clock))
            }
            Found::Absent(_) => {
                drop(snapshot);
                self.misses.fetch_add(1, Relaxed);
                self.fetch(alias, patience)
            }
        }
    }

    /// Exact content, which must be in memory.
    pub(crate) fn resolve_generation(&self, digest: &str) -> Result<Lease<P>, InferenceError> {
        loop {
            let alias = self.snapshot.load().find_generation(digest)?.0.to_owned();
            let used = self.uses.begin(&alias);
            let snapshot = self.snapshot.load();
            let (owner, held) = snapshot.find_generation(digest)?;
            if owner == alias {
                self.hits.fetch_add(1, Relaxed);
                return Ok(Lease { alias, generation: held.lease(&self.clock), used });
            }
        }
    }

    pub(crate) fn resolve_choice(
        &self,
        choice: &AdapterChoice,
        patience: Patience,
    ) -> Result<Lease<P>, InferenceError> {
        match choice {
            AdapterChoice::Alias(alias) => {
                let used = self.uses.begin(alias);
                let generation = self.resolve_alias(alias, patience)?;
                Ok(Lease { alias: alias.clone(), generation, used })
            }
            AdapterChoice::Generation(digest) => self.resolve_generation(digest),
        }
    }

    /// For requests that belong together: an alias they share means one generation to all.
    pub(crate) fn together(&self) -> Together<'_, P> {
        Together { store: self, known: Vec::new() }
    }

    /// Content that is in memory already, whatever it is called.
    pub(crate) fn resident(&self, digest: &str) -> Option<Arc<Generation<P>>> {
        self.snapshot.load().resident.get(digest).map(|held| Arc::clone(&held.content))
    }

    pub(crate) fn list(&self) -> Vec<AdapterInfo> {
        let snapshot = self.snapshot.load();
        snapshot.aliases.keys().filter_map(|alias| snapshot.info(alias)).collect()
    }

    /// Requests that hold something under this alias.
    pub(crate) fn in_flight(&self, alias: &str) -> usize {
        self.uses.of(alias)
    }

    pub(crate) fn tally(&self) -> Tally {
        let ledger = self.lock();
        let used = ledger.used(&self.snapshot.load());
        let (hits, misses) = (self.hits.load(Relaxed), self.misses.load(Relaxed));
        Tally { resident: used.count, bytes: used.bytes, hits, misses }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger<P>> {
        // A ledger is a list of what is elsewhere; a panic leaves nothing of it half done.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P> std::fmt::Debug for AdapterStore<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdapterStore").field("tally", &self.tally()).finish_non_exhaustive()
    }
}

/// Resolves every name once.
pub(crate) struct Together<'a, P = Adapter> {
    store: &'a AdapterStore<P>,
    known: Vec<(AdapterChoice, Arc<Generation<P>>, String)>,
}

impl<P> Together<'_, P> {
    pub(crate) fn resolve(
        &mut self,
        choice: &AdapterChoice,
        patience: Patience,
    ) -> Result<Lease<P>, InferenceError> {
        if let Some((_, generation, alias)) = self.known.iter().find(|(known, ..)| known == choice)
        {
            let (generation, used) = (Arc::clone(generation), self.store.uses.begin(alias));
            return Ok(Lease { alias: alias.clone(), generation, used });
        }
        let lease = self.store.resolve_choice(choice, patience)?;
        let kept = (choice.clone(), Arc::clone(&lease.generation), lease.alias.clone());
        self.known.push(kept);
        Ok(lease)
    }
}

#[cfg(test)]
mod tests;
