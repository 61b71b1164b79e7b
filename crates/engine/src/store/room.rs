//! Who may stay in memory.

use std::{
    ops::Add,
    sync::{Arc, Weak},
    thread,
};

use understudy_inference::InferenceError;

use super::{
    AdapterStore, Ledger,
    snapshot::{Generation, Snapshot},
};

/// How much may be in memory at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) bytes: u64,
    pub(crate) resident: usize,
    /// Requests that may wait for what has to be read first.
    pub(crate) asking: usize,
}

/// A generation that no alias means any more. It takes memory until its last request ends.
pub(super) struct Retired<P> {
    pub(super) bytes: u64,
    pub(super) content: Weak<Generation<P>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) bytes: u64,
    pub(super) count: usize,
}

impl Add for Used {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, count: self.count + other.count }
    }
}

impl Limits {
    fn allow(self, used: Used) -> bool {
        used.bytes <= self.bytes && used.count <= self.resident
    }
}

impl<P> Ledger<P> {
    /// What a snapshot holds, and what only requests do.
    pub(super) fn used(&self, snapshot: &Snapshot<P>) -> Used {
        let alive = self.retired.iter().filter(|one| one.content.strong_count() > 0);
        let alive = alive.map(|one| Used { bytes: one.bytes, count: 1 });
        alive.fold(resident(snapshot), Add::add)
    }
}

impl<P> AdapterStore<P> {
    /// Whether it fits without anybody else's leaving.
    pub(super) fn has_room(&self, ledger: &Ledger<P>, bytes: u64) -> bool {
        self.limits.allow(ledger.used(&self.snapshot.load()) + Used { bytes, count: 1 })
    }

    /// Lets go of others until there is room for one of `bytes`, sparing some digests, or finds
    /// that there cannot be; then nothing has left.
    pub(super) fn make_room(
        &self,
        ledger: &mut Ledger<P>,
        (alias, bytes): (&str, u64),
        spared: &[&str],
    ) -> Result<(), InferenceError> {
        let wanted = Used { bytes, count: 1 };
        loop {
            let now = self.snapshot.load_full();
            let used = ledger.used(&now);
            if self.limits.allow(used + wanted) {
                return Ok(());
            }
            let mut next = (*now).clone();
            let outside = Used {
                bytes: used.bytes - resident(&now).bytes,
                count: used.count - resident(&now).count,
            };
            let after = |next: &Snapshot<P>| resident(next) + outside + leased_leavers(&now, next);
            while !self.limits.allow(after(&next) + wanted) {
                let Some(victim) = next.victim(spared) else {
                    return Err(self.full(alias, bytes, used));
                };
                next.evict(&victim);
            }
            drop(now);
            drop(self.swap(ledger, next));
            // A request may have got hold of a victim meanwhile, and then another has to go; but
            // one that is only passing by takes no longer than this.
            for _ in 0..64 {
                if self.has_room(ledger, bytes) {
                    return Ok(());
                }
                thread::yield_now();
            }
        }
    }

    /// Makes a draft what everybody sees, and remembers what it no longer holds. Returns what was
    /// seen before, which takes its time to be freed.
    pub(super) fn swap(&self, ledger: &mut Ledger<P>, next: Snapshot<P>) -> Arc<Snapshot<P>> {
        let next = Arc::new(next);
        let last = self.snapshot.swap(Arc::clone(&next));
        let left = last.resident.iter().filter(|(digest, _)| !next.resident.contains_key(*digest));
        ledger.retired.extend(left.map(|(_, held)| Retired {
            bytes: held.content.bytes,
            content: Arc::downgrade(&held.content),
        }));
        ledger.retired.retain(|one| one.content.strong_count() > 0);
        last
    }

    fn full(&self, alias: &str, bytes: u64, used: Used) -> InferenceError {
        let Limits { bytes: most, resident, .. } = self.limits;
        let why = format!(
            "it takes {bytes} bytes; {} of {most} bytes and {} of {resident} places are taken, and \
             what could go is in use, pinned, or meant by this alias",
            used.bytes, used.count
        );
        InferenceError::AdaptersFull { alias: alias.to_owned(), why }
    }
}

fn resident<P>(snapshot: &Snapshot<P>) -> Used {
    let all = snapshot.resident.values();
    all.map(|held| Used { bytes: held.content.bytes, count: 1 }).fold(Used::default(), Add::add)
}

/// What leaves with a draft and stays in memory nevertheless.
fn leased_leavers<P>(now: &Snapshot<P>, next: &Snapshot<P>) -> Used {
    let leavers = now.resident.iter().filter(|(digest, _)| !next.resident.contains_key(*digest));
    let leased = leavers.filter(|(_, held)| held.leases() > 0);
    leased
        .map(|(_, held)| Used { bytes: held.content.bytes, count: 1 })
        .fold(Used::default(), Add::add)
}
