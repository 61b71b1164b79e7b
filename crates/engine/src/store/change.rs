//! What can be done to an alias.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use understudy_ident::Timestamp;
use understudy_inference::{AdapterInfo, Expected, InferenceError};

use super::{
    AdapterStore, Ledger,
    snapshot::{Entry, Generation, Held, Snapshot, Version},
};

/// An alias, and how it is to be kept.
#[derive(Debug, Clone)]
pub(crate) struct Change<'a> {
    pub(crate) alias: &'a str,
    pub(crate) expected: &'a Expected,
    pub(crate) pinned: bool,
    pub(crate) on_demand: bool,
    /// When the alias is forgotten.
    pub(crate) expires: Option<Timestamp>,
    /// How many earlier generations to keep for a rollback.
    pub(crate) keep: usize,
}

/// What a change came to.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) info: AdapterInfo,
    /// What the alias meant before, if it was something else.
    pub(crate) replaced: Option<String>,
    /// Drafting the next snapshot and swapping it in.
    pub(crate) took: Duration,
}

impl<P> AdapterStore<P> {
    /// Whether a change would be turned away, before anybody goes to the trouble of reading.
    pub(crate) fn check(&self, change: &Change<'_>) -> Result<(), InferenceError> {
        self.snapshot.load().expect(change.alias, change.expected)
    }

    /// Points an alias at content. What is in memory already is shared, and publishing what the
    /// alias means anyway changes only how it is kept.
    pub(crate) fn publish(
        &self,
        change: &Change<'_>,
        content: Arc<Generation<P>>,
    ) -> Result<Published, InferenceError> {
        let mut ledger = self.lock();
        self.check(change)?;
        let held = self.hold(&mut ledger, change.alias, content)?;
        let version = Version::of(&held.content);
        self.commit(&mut ledger, change.alias, |next| {
            next.resident.insert(Arc::clone(&version.digest), held);
            next.point(change, version)
        })
    }

    /// Points an alias at content that is read when it is first asked for.
    pub(crate) fn register(
        &self,
        change: &Change<'_>,
        directory: PathBuf,
        digest: &str,
    ) -> Result<Published, InferenceError> {
        let mut ledger = self.lock();
        self.check(change)?;
        let version =
            Version { digest: digest.into(), directory: Some(directory), rank: 0, bytes: 0 };
        self.commit(&mut ledger, change.alias, |next| next.point(change, version))
    }

    /// Swaps an alias with the generation before, or with a named one that it still keeps. Doing it
    /// twice undoes it.
    pub(crate) fn rollback(
        &self,
        alias: &str,
        to: Option<&str>,
    ) -> Result<Published, InferenceError> {
        let mut ledger = self.lock();
        self.commit(&mut ledger, alias, |next| next.roll_back(alias, to))
    }

    pub(crate) fn unload(&self, alias: &str, expected: &Expected) -> Result<(), InferenceError> {
        let mut ledger = self.lock();
        let now = self.snapshot.load_full();
        if !now.aliases.contains_key(alias) {
            return Err(now.unknown(alias));
        }
        now.expect(alias, expected)?;
        drop(now);
        self.forget(&mut ledger, &[alias.to_owned()])
    }

    /// Forgets the aliases whose time is over and that are not spared, all of them or none.
    pub(crate) fn expire(
        &self,
        now: Timestamp,
        spared: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<String>, InferenceError> {
        let over = || {
            let snapshot = self.snapshot.load();
            let is_over = |(alias, entry): &(&Arc<str>, &Arc<Entry>)| {
                entry.expires.is_some_and(|expires| expires <= now) && !spared(alias)
            };
            let over = snapshot.aliases.iter().filter(is_over);
            over.map(|(alias, _)| alias.to_string()).collect::<Vec<_>>()
        };
        if over().is_empty() {
            return Ok(Vec::new());
        }
        let mut ledger = self.lock();
        // One of them may have been loaded again.
        let over = over();
        self.forget(&mut ledger, &over)?;
        Ok(over)
    }

    fn forget(&self, ledger: &mut Ledger<P>, aliases: &[String]) -> Result<(), InferenceError> {
        let mut next = (**self.snapshot.load()).clone();
        next.aliases.retain(|alias, _| !aliases.iter().any(|gone| **gone == **alias));
        next.prune();
        self.write_down(&aliases.join(", "), &next)?;
        drop(self.swap(ledger, next));
        for alias in aliases {
            ledger.forgive(alias);
        }
        Ok(())
    }

    /// Content that may join the snapshot: shared with what is there, revived from what a request
    /// still holds, or new, with room made for it.
    pub(super) fn hold(
        &self,
        ledger: &mut Ledger<P>,
        alias: &str,
        content: Arc<Generation<P>>,
    ) -> Result<Arc<Held<P>>, InferenceError> {
        let now = self.snapshot.load_full();
        if let Some(held) = now.resident.get(content.digest.as_str()) {
            return Ok(Arc::clone(held));
        }
        if let Some(living) = ledger.revive(&content.digest) {
            return Ok(Arc::new(Held::new(living, &self.clock)));
        }
        let meant = now.aliases.get(alias).map(|entry| Arc::clone(&entry.current.digest));
        drop(now);
        let spared: Vec<&str> = meant.as_deref().into_iter().collect();
        self.make_room(ledger, (alias, content.bytes), &spared)?;
        Ok(Arc::new(Held::new(content, &self.clock)))
    }

    fn commit(
        &self,
        ledger: &mut Ledger<P>,
        alias: &str,
        change: impl FnOnce(&mut Snapshot<P>) -> Result<Option<String>, InferenceError>,
    ) -> Result<Published, InferenceError> {
        let begun = Instant::now();
        let mut next = (**self.snapshot.load()).clone();
        let replaced = change(&mut next)?;
        next.prune();
        let drafted = begun.elapsed();
        self.write_down(alias, &next)?;
        let info = next.info(alias).ok_or_else(|| next.unknown(alias))?;
        let begun = Instant::now();
        let last = self.swap(ledger, next);
        let took = drafted + begun.elapsed();
        // Everybody reads the new one by now; to free what only the last one held takes longer.
        drop(last);
        ledger.forgive(alias);
        Ok(Published { info, replaced, took })
    }

    fn write_down(&self, alias: &str, next: &Snapshot<P>) -> Result<(), InferenceError> {
        let Some(state) = &self.state else { return Ok(()) };
        state.save(&next.aliases).map_err(|error| {
            let path = state.path().display();
            InferenceError::Failed(format!(
                "could not write the change of adapter `{alias}` to {path}: {error}"
            ))
        })
    }
}

impl<P> Ledger<P> {
    /// Retired content that a request keeps alive; from here on it is counted as resident.
    pub(super) fn revive(&mut self, digest: &str) -> Option<Arc<Generation<P>>> {
        let living = |content: Arc<Generation<P>>| (content.digest == digest).then_some(content);
        let at =
            self.retired.iter().position(|one| one.content.upgrade().and_then(living).is_some())?;
        self.retired.swap_remove(at).content.upgrade()
    }
}

impl<P> Snapshot<P> {
    fn expect(&self, alias: &str, expected: &Expected) -> Result<(), InferenceError> {
        let found = self.aliases.get(alias).map(|entry| &*entry.current.digest);
        let wanted = match expected {
            Expected::Anything => return Ok(()),
            Expected::Nothing if found.is_none() => return Ok(()),
            Expected::Nothing => "free".to_owned(),
            Expected::Generation(digest) if found == Some(digest) => return Ok(()),
            Expected::Generation(digest) => format!("generation {digest}"),
        };
        let found = found.map_or("free".to_owned(), |digest| format!("generation {digest}"));
        Err(InferenceError::AdapterChanged { alias: alias.to_owned(), expected: wanted, found })
    }

    fn point(
        &mut self,
        change: &Change<'_>,
        version: Version,
    ) -> Result<Option<String>, InferenceError> {
        let Change { alias, pinned, on_demand, expires, keep, .. } = *change;
        let (mut previous, mut replaced) = (Vec::new(), None);
        if let Some(entry) = self.aliases.get(alias) {
            previous.clone_from(&entry.previous);
            if entry.current.digest != version.digest {
                replaced = Some(entry.current.digest.to_string());
                previous.retain(|earlier| earlier.digest != version.digest);
                if self.resident.contains_key(&entry.current.digest) {
                    previous.insert(0, entry.current.clone());
                } else {
                    // It could not be gone back to, and so nothing before it either.
                    previous.clear();
                }
            }
        }
        previous.truncate(keep);
        let entry = Entry { current: version, previous, pinned, on_demand, expires, keep };
        self.aliases.insert(alias.into(), Arc::new(entry));
        Ok(replaced)
    }

    fn roll_back(
        &mut self,
        alias: &str,
        to: Option<&str>,
    ) -> Result<Option<String>, InferenceError> {
        let bad = |why: String| InferenceError::BadAdapter { alias: alias.to_owned(), why };
        let Some(entry) = self.aliases.get(alias) else { return Err(self.unknown(alias)) };
        let mut entry = (**entry).clone();
        let at = match to {
            Some(digest) if *entry.current.digest == *digest => return Ok(None),
            Some(digest) => entry.previous.iter().position(|one| *one.digest == *digest),
            None => (!entry.previous.is_empty()).then_some(0),
        };
        let at = at.ok_or_else(|| match to {
            Some(digest) => {
                bad(format!("generation {digest} is not among those it keeps; load it instead"))
            }
            None => bad("it has no earlier generation in memory to go back to".to_owned()),
        })?;
        let target = entry.previous.remove(at);
        let left = std::mem::replace(&mut entry.current, target);
        let replaced = Some(left.digest.to_string());
        if self.resident.contains_key(&left.digest) {
            entry.previous.insert(0, left);
        }
        self.aliases.insert(alias.into(), Arc::new(entry));
        Ok(replaced)
    }
}
