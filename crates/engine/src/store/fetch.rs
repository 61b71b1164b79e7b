//! Content that is registered, asked for, and not in memory.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use understudy_inference::{Attempt, InferenceError};

use super::{
    AdapterStore, Ledger, Patience,
    snapshot::{Found, Generation, Version},
};

/// A read that failed is not tried again for this long.
const RECENT: Duration = Duration::from_secs(1);

/// How many failures are remembered.
const REMEMBERED: usize = 64;

/// The last read of an alias, where it failed: a broken adapter that is much asked for is not much
/// read, and whoever looks after it is told what is wrong.
pub(super) struct Failure {
    alias: String,
    error: InferenceError,
    at: Instant,
}

impl<P> AdapterStore<P> {
    /// Reads what an alias means and leases it. One caller reads; others who ask meanwhile wait.
    pub(super) fn fetch(
        &self,
        alias: &str,
        patience: Patience,
    ) -> Result<Arc<Generation<P>>, InferenceError> {
        let _place = self.asking.enter(self.limits.asking)?;
        let mut ledger = self.lock();
        loop {
            let snapshot = self.snapshot.load_full();
            let version = match snapshot.find(alias)? {
                Found::Resident(held) => return Ok(held.lease(&self.clock)),
                Found::Absent(version) => version.clone(),
            };
            drop(snapshot);
            if let Some(error) = ledger.recent_failure(alias) {
                return Err(error);
            }
            if ledger.reading.contains(alias) {
                ledger = patience.wait(&self.arrived, ledger)?;
                continue;
            }
            if let Some(living) = ledger.revive(&version.digest) {
                return self.admit(&mut ledger, alias, living);
            }
            ledger.reading.insert(alias.to_owned());
            drop(ledger);
            let read = {
                let _reading = Reading { store: self, alias };
                self.read_exactly(alias, &version, patience)
            };
            ledger = self.lock();
            // Those who wait see it done only once it is where they look for it.
            ledger.reading.remove(alias);
            self.arrived.notify_all();
            match read {
                // Somebody published something else meanwhile; this is not what was asked for.
                Ok(content) if !self.means(alias, &content.digest) => {}
                Ok(content) => return self.admit(&mut ledger, alias, Arc::new(content)),
                // Whose time was over says nothing about the adapter; the next one reads it.
                Err(error @ InferenceError::TimedOut(_)) => return Err(error),
                Err(error) => {
                    ledger.remember(alias, &error);
                    return Err(error);
                }
            }
        }
    }

    /// Reads a version, and refuses content that is not what the version's name says.
    pub(super) fn read_exactly(
        &self,
        alias: &str,
        version: &Version,
        patience: Patience,
    ) -> Result<Generation<P>, InferenceError> {
        let bad = |why: String| InferenceError::BadAdapter { alias: alias.to_owned(), why };
        let directory: &PathBuf = version.directory.as_ref().ok_or_else(|| {
            bad("it was never written to a disk and is no longer in memory".to_owned())
        })?;
        let content = self.source.read(alias, directory, patience)?;
        if *content.digest == *version.digest {
            return Ok(content);
        }
        Err(bad(format!(
            "{} holds generation {} now, not {}; publish it as a new one",
            directory.display(),
            content.digest,
            version.digest
        )))
    }

    /// Puts content where its alias says it is, and leases it.
    pub(super) fn admit(
        &self,
        ledger: &mut Ledger<P>,
        alias: &str,
        content: Arc<Generation<P>>,
    ) -> Result<Arc<Generation<P>>, InferenceError> {
        let version = Version::of(&content);
        let held = self.hold(ledger, alias, content)?;
        let lease = held.lease(&self.clock);
        let mut next = (**self.snapshot.load()).clone();
        next.resident.insert(Arc::clone(&version.digest), held);
        if let Some(entry) = next.aliases.get_mut(alias)
            && entry.current.digest == version.digest
        {
            Arc::make_mut(entry).current = version;
        }
        next.prune();
        drop(self.swap(ledger, next));
        ledger.forgive(alias);
        Ok(lease)
    }

    /// Aliases that are being read because they were asked for, and those that could not be.
    pub(crate) fn attempts(&self) -> BTreeMap<String, Attempt> {
        let ledger = self.lock();
        let failed = ledger.failures.iter();
        let failed = failed.map(|one| (one.alias.clone(), Attempt::Failed(one.error.to_string())));
        let reading = ledger.reading.iter().map(|alias| (alias.clone(), Attempt::Loading));
        failed.chain(reading).collect()
    }

    fn means(&self, alias: &str, digest: &str) -> bool {
        let snapshot = self.snapshot.load();
        snapshot.aliases.get(alias).is_some_and(|entry| *entry.current.digest == *digest)
    }
}

/// Ends a read that panicked, so that nobody waits for it.
struct Reading<'a, P> {
    store: &'a AdapterStore<P>,
    alias: &'a str,
}

impl<P> Drop for Reading<'_, P> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.store.lock().reading.remove(self.alias);
            self.store.arrived.notify_all();
        }
    }
}

impl<P> Ledger<P> {
    fn recent_failure(&self, alias: &str) -> Option<InferenceError> {
        let failure = self.failures.iter().find(|failure| failure.alias == alias);
        let recent = failure.filter(|failure| failure.at.elapsed() < RECENT);
        recent.map(|failure| failure.error.clone())
    }

    fn remember(&mut self, alias: &str, error: &InferenceError) {
        self.forgive(alias);
        let (alias, error, at) = (alias.to_owned(), error.clone(), Instant::now());
        self.failures.push_back(Failure { alias, error, at });
        if self.failures.len() > REMEMBERED {
            self.failures.pop_front();
        }
    }

    /// What an alias means has changed, or it is here, so what went wrong before says nothing.
    pub(super) fn forgive(&mut self, alias: &str) {
        self.failures.retain(|failure| failure.alias != alias);
    }
}
