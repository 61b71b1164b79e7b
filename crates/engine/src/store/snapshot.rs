//! One state of the store: what every alias means and what is in memory. Never changed once it is
//! what readers see.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use understudy_ident::Timestamp;
use understudy_inference::{AdapterInfo, InferenceError};

use crate::load::Adapter;

/// One adapter's content, immutable, named by its digest. Requests hold it by `Arc`, so it lives
/// as long as its last request, whatever its alias means by then.
#[derive(Debug)]
pub(crate) struct Generation<P = Adapter> {
    /// Of the config's and the weights' bytes.
    pub(crate) digest: String,
    /// Where it can be read again; `None` for what was never written.
    pub(crate) directory: Option<PathBuf>,
    pub(crate) rank: usize,
    /// What it takes in memory.
    pub(crate) bytes: u64,
    pub(crate) content: P,
}

impl<P> Deref for Generation<P> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.content
    }
}

/// Content by name, in memory or not.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Version {
    pub(super) digest: Arc<str>,
    pub(super) directory: Option<PathBuf>,
    /// Both are 0 until it is first read.
    pub(super) rank: usize,
    pub(super) bytes: u64,
}

impl Version {
    pub(super) fn of<P>(generation: &Generation<P>) -> Self {
        let Generation { digest, directory, rank, bytes, .. } = generation;
        let (digest, directory) = (digest.as_str().into(), directory.clone());
        Self { digest, directory, rank: *rank, bytes: *bytes }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) current: Version,
    /// The most recent first; all of them in memory.
    pub(super) previous: Vec<Version>,
    pub(super) pinned: bool,
    pub(super) on_demand: bool,
    /// When the alias is forgotten.
    pub(super) expires: Option<Timestamp>,
    /// How long `previous` may be.
    pub(super) keep: usize,
}

/// Content in memory. Every `Arc` of the content beside this one is a request's.
#[derive(Debug)]
pub(super) struct Held<P> {
    pub(super) content: Arc<Generation<P>>,
    used: AtomicU64,
}

impl<P> Held<P> {
    pub(super) fn new(content: Arc<Generation<P>>, clock: &AtomicU64) -> Self {
        Self { content, used: AtomicU64::new(clock.fetch_add(1, Relaxed)) }
    }

    pub(super) fn lease(&self, clock: &AtomicU64) -> Arc<Generation<P>> {
        self.used.store(clock.fetch_add(1, Relaxed), Relaxed);
        Arc::clone(&self.content)
    }

    pub(super) fn leases(&self) -> usize {
        Arc::strong_count(&self.content) - 1
    }
}

#[derive(Debug)]
pub(super) struct Snapshot<P> {
    pub(super) aliases: BTreeMap<Arc<str>, Arc<Entry>>,
    /// By digest.
    pub(super) resident: BTreeMap<Arc<str>, Arc<Held<P>>>,
}

impl<P> Default for Snapshot<P> {
    fn default() -> Self {
        Self { aliases: BTreeMap::new(), resident: BTreeMap::new() }
    }
}

impl<P> Clone for Snapshot<P> {
    fn clone(&self) -> Self {
        Self { aliases: self.aliases.clone(), resident: self.resident.clone() }
    }
}

/// What resident content is to the aliases.
#[derive(Default)]
struct Role {
    pinned: bool,
    /// What some alias means.
    current: bool,
    /// As far back as some alias goes.
    oldest: bool,
}

/// What an alias's content is found as.
pub(super) enum Found<'a, P> {
    Resident(&'a Held<P>),
    /// Known by name only.
    Absent(&'a Version),
}

impl<P> Snapshot<P> {
    pub(super) fn find(&self, alias: &str) -> Result<Found<'_, P>, InferenceError> {
        let entry = self.aliases.get(alias).ok_or_else(|| self.unknown(alias))?;
        Ok(match self.resident.get(&entry.current.digest) {
            Some(held) => Found::Resident(held),
            None => Found::Absent(&entry.current),
        })
    }

    /// Content in memory, and an alias that means or meant it.
    pub(super) fn find_generation(&self, digest: &str) -> Result<(&str, &Held<P>), InferenceError> {
        let owner = || {
            let means = |entry: &Entry| *entry.current.digest == *digest;
            let meant = |entry: &Entry| entry.previous.iter().any(|one| *one.digest == *digest);
            let all = || self.aliases.iter();
            let found = all().find(|(_, entry)| means(entry));
            found.or_else(|| all().find(|(_, entry)| meant(entry))).map(|(alias, _)| &**alias)
        };
        let held = self.resident.get(digest).map(|held| &**held);
        owner().zip(held).ok_or_else(|| {
            let short: String = digest.chars().take(12).collect();
            self.unknown(&format!("of generation {short}"))
        })
    }

    pub(super) fn info(&self, alias: &str) -> Option<AdapterInfo> {
        let entry = self.aliases.get(alias)?;
        let Version { digest, directory, rank, bytes } = &entry.current;
        let held = self.resident.get(digest);
        // Another alias's reading tells as much about the same content.
        let (rank, bytes) =
            held.map_or((*rank, *bytes), |held| (held.content.rank, held.content.bytes));
        Some(AdapterInfo {
            alias: alias.to_owned(),
            generation: digest.to_string(),
            rank,
            bytes,
            directory: directory
                .as_ref()
                .map_or_else(|| "memory".to_owned(), |path| path.display().to_string()),
            resident: held.is_some(),
            pinned: entry.pinned,
            expires: entry.expires,
            leases: held.map_or(0, |held| held.leases()),
            previous: entry.previous.iter().map(|version| version.digest.to_string()).collect(),
        })
    }

    pub(super) fn unknown(&self, alias: &str) -> InferenceError {
        /// More would hide the message.
        const LISTED: usize = 20;
        let mut names: Vec<&str> = self.aliases.keys().map(|name| &**name).take(LISTED).collect();
        if self.aliases.len() > LISTED {
            names.push("…");
        }
        let loaded = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        InferenceError::UnknownAdapter { alias: alias.to_owned(), loaded }
    }

    /// Lets go of what no alias means or could go back to.
    pub(super) fn prune(&mut self) {
        let meant: BTreeSet<Arc<str>> = self.roles().into_keys().cloned().collect();
        self.resident.retain(|digest, _| meant.contains(digest));
    }

    /// What to let go of next: the earlier generation longest out of use, and only when there is
    /// none, a current one. What is leased, pinned, or could not be read again stays.
    pub(super) fn victim(&self, spared: &[&str]) -> Option<Arc<str>> {
        let candidates = self.roles().into_iter().filter_map(|(digest, role)| {
            let held = &self.resident[digest];
            let expendable =
                if role.current { held.content.directory.is_some() } else { role.oldest };
            let stays = role.pinned || spared.contains(&&**digest) || held.leases() > 0;
            (expendable && !stays).then(|| (role.current, held.used.load(Relaxed), digest))
        });
        candidates.min().map(|(_, _, digest)| Arc::clone(digest))
    }

    /// What the aliases make of everything in memory that they mean or could go back to.
    fn roles(&self) -> BTreeMap<&Arc<str>, Role> {
        let mut roles = BTreeMap::<&Arc<str>, Role>::new();
        for entry in self.aliases.values() {
            let last = entry.previous.len();
            let versions = std::iter::once(&entry.current).chain(&entry.previous);
            for (place, version) in versions.enumerate() {
                // Most aliases may mean what is not in memory.
                let Some((digest, _)) = self.resident.get_key_value(&version.digest) else {
                    continue;
                };
                let role = roles.entry(digest).or_default();
                role.pinned |= entry.pinned;
                role.current |= place == 0;
                role.oldest |= place == last;
            }
        }
        roles
    }

    /// Takes content out of memory. No alias can go back to it, or past it, any more.
    pub(super) fn evict(&mut self, digest: &str) {
        for entry in self.aliases.values_mut() {
            let at = entry.previous.iter().position(|version| *version.digest == *digest);
            if let Some(at) = at {
                Arc::make_mut(entry).previous.truncate(at);
            }
        }
        self.resident.remove(digest);
        self.prune();
    }
}
