//! Adapters without tensors: which alias means which content, for backends that only pretend, or
//! whose weights are elsewhere.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use serde_json::Value;
use understudy_ident::{Digest, Timestamp};

use crate::{
    AdapterChoice, AdapterInfo, Attempt, Expected, InferenceError, LoadAdapter, LoadLog,
    LoadTiming, LoadedAdapter, Loads, ServedAdapter, Use, Uses,
};

/// Earlier generations kept for a rollback unless a load says otherwise.
const KEEP_PREVIOUS: usize = 1;

/// Aliases and their generations. Whoever holds a [`Lease`] holds its content, whatever the alias
/// means by then.
#[derive(Debug, Default)]
pub struct Shelf {
    slots: Mutex<BTreeMap<String, Slot>>,
    log: LoadLog,
    uses: Uses,
    /// Of adapters; `None` is any.
    most_rank: Option<usize>,
}

/// One content in use.
#[derive(Debug, Clone)]
pub struct Lease {
    pub served: ServedAdapter,
    _content: Arc<Content>,
    _use: Use,
    /// Whether it had to be read first.
    pub missed: bool,
}

#[derive(Debug)]
struct Slot {
    current: Arc<Content>,
    previous: Vec<Arc<Content>>,
    keep: usize,
    pinned: bool,
    expires: Option<Timestamp>,
    resident: bool,
}

#[derive(Debug)]
struct Content {
    digest: String,
    rank: usize,
    bytes: u64,
    directory: PathBuf,
}

impl Shelf {
    /// One that takes no adapter of a larger rank.
    pub fn of_rank_at_most(rank: usize) -> Self {
        Self { most_rank: Some(rank), ..Self::default() }
    }

    pub fn publish(&self, load: LoadAdapter) -> Result<LoadedAdapter, InferenceError> {
        let alias = load.alias.clone();
        self.log.load(&alias, || self.put(load))
    }

    /// What is being loaded, and what could not be.
    pub fn attempts(&self) -> BTreeMap<String, Attempt> {
        self.log.attempts()
    }

    /// How loads went.
    pub fn loads(&self) -> Loads {
        self.log.so_far()
    }

    fn put(&self, load: LoadAdapter) -> Result<LoadedAdapter, InferenceError> {
        let started = Instant::now();
        let content = Arc::new(read(&load.alias, &load.directory)?);
        if let Some(most) = self.most_rank.filter(|most| content.rank > *most) {
            let rank = content.rank;
            return Err(InferenceError::RankTooHigh { alias: load.alias, rank, most });
        }
        if load.generation.as_ref().is_some_and(|wanted| *wanted != content.digest) {
            let why = format!("its content is {}, not what was asked for", content.digest);
            return Err(InferenceError::BadAdapter { alias: load.alias, why });
        }
        let read = started.elapsed().as_secs_f64() * 1e3;
        let mut slots = self.lock();
        let found = slots.get(&load.alias).map(|slot| slot.current.digest.clone());
        expect(&load, found.as_deref())?;
        let keep = load.keep_previous.unwrap_or(KEEP_PREVIOUS);
        let fresh = Slot {
            current: content,
            previous: Vec::new(),
            keep,
            pinned: load.pinned,
            expires: load.expires,
            resident: !load.on_demand,
        };
        let slot = match slots.remove(&load.alias) {
            None => fresh,
            Some(old) if old.current.digest == fresh.current.digest => {
                Slot { previous: old.previous, resident: old.resident || fresh.resident, ..fresh }
            }
            Some(old) => {
                let mut previous = vec![old.current];
                previous.extend(old.previous);
                previous.retain(|content| content.digest != fresh.current.digest);
                Slot { previous, ..fresh }
            }
        };
        let slot = slots.entry(load.alias.clone()).or_insert(slot);
        slot.previous.truncate(slot.keep);
        let adapter = slot.describe(&load.alias);
        let replaced = found.filter(|found| *found != adapter.generation);
        let publish = started.elapsed().as_secs_f64() * 1e3 - read;
        Ok(LoadedAdapter { adapter, replaced, timing: LoadTiming { read, verify: 0.0, publish } })
    }

    pub fn unload(&self, alias: &str) -> Result<(), InferenceError> {
        let mut slots = self.lock();
        match slots.remove(alias) {
            Some(_) => Ok(()),
            None => Err(unknown(&slots, alias)),
        }
    }

    /// Forgets what has expired and is not spared.
    pub fn expire(&self, now: Timestamp, spared: &dyn Fn(&str) -> bool) -> Vec<String> {
        let mut slots = self.lock();
        let is_over = |(alias, slot): &(&String, &Slot)| slot.is_over(now) && !spared(alias);
        let over: Vec<String> =
            slots.iter().filter(is_over).map(|(alias, _)| alias.clone()).collect();
        slots.retain(|alias, _| !over.contains(alias));
        over
    }

    /// Requests that hold something under this alias.
    pub fn in_flight(&self, alias: &str) -> usize {
        self.uses.of(alias)
    }

    pub fn rollback(&self, alias: &str, to: Option<&str>) -> Result<AdapterInfo, InferenceError> {
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(alias) else { return Err(unknown(&slots, alias)) };
        let found = slot.previous.iter().position(|old| to.is_none_or(|to| old.digest == to));
        let Some(index) = found else {
            let why = "has no such generation in memory to go back to";
            return Err(InferenceError::invalid("to_generation", why));
        };
        let target = slot.previous.remove(index);
        let left = std::mem::replace(&mut slot.current, target);
        slot.previous.insert(0, left);
        slot.previous.truncate(slot.keep.max(1));
        self.log.rolled_back();
        Ok(slot.describe(alias))
    }

    pub fn list(&self) -> Vec<AdapterInfo> {
        self.lock().iter().map(|(alias, slot)| slot.describe(alias)).collect()
    }

    /// Holds what an alias means now, or a generation by its digest.
    pub fn lease(&self, choice: &AdapterChoice) -> Result<Lease, InferenceError> {
        let mut slots = self.lock();
        let lease = |alias: &str, content: &Arc<Content>, missed| Lease {
            served: ServedAdapter { alias: alias.to_owned(), generation: content.digest.clone() },
            _content: Arc::clone(content),
            _use: self.uses.begin(alias),
            missed,
        };
        match choice {
            AdapterChoice::Alias(alias) => {
                if let Some(slot) = slots.get_mut(alias) {
                    let missed = !std::mem::replace(&mut slot.resident, true);
                    return Ok(lease(alias, &slot.current, missed));
                }
                Err(unknown(&slots, alias))
            }
            AdapterChoice::Generation(digest) => {
                for (alias, slot) in slots.iter().filter(|(_, slot)| slot.resident) {
                    let mut held = slot.previous.iter().chain([&slot.current]);
                    if let Some(content) = held.find(|content| content.digest == *digest) {
                        return Ok(lease(alias, content, false));
                    }
                }
                Err(unknown(&slots, digest))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn is_over(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    fn describe(&self, alias: &str) -> AdapterInfo {
        let Content { digest, rank, bytes, directory } = &*self.current;
        AdapterInfo {
            alias: alias.to_owned(),
            generation: digest.clone(),
            rank: *rank,
            bytes: *bytes,
            directory: directory.display().to_string(),
            resident: self.resident,
            pinned: self.pinned,
            expires: self.expires,
            leases: Arc::strong_count(&self.current) - 1,
            previous: self.previous.iter().map(|content| content.digest.clone()).collect(),
        }
    }
}

fn expect(load: &LoadAdapter, found: Option<&str>) -> Result<(), InferenceError> {
    let expected = match (&load.expected, found) {
        (Expected::Anything, _) | (Expected::Nothing, None) => return Ok(()),
        (Expected::Generation(wanted), Some(found)) if wanted == found => return Ok(()),
        (Expected::Generation(wanted), _) => wanted.clone(),
        (Expected::Nothing, Some(_)) => "free".to_owned(),
    };
    let found = found.unwrap_or("not loaded").to_owned();
    Err(InferenceError::AdapterChanged { alias: load.alias.clone(), expected, found })
}

fn read(alias: &str, directory: &Path) -> Result<Content, InferenceError> {
    let read = |name: &str| {
        std::fs::read(directory.join(name)).map_err(|why| InferenceError::BadAdapter {
            alias: alias.to_owned(),
            why: format!("{} cannot be read: {why}", directory.join(name).display()),
        })
    };
    let [config, weights] = [read("adapter_config.json")?, read("adapter_model.safetensors")?];
    let rank = serde_json::from_slice::<Value>(&config)
        .ok()
        .and_then(|config| config.get("r")?.as_u64())
        .unwrap_or(0);
    Ok(Content {
        // The same identity a real engine gives it, so that a registry's record can be compared.
        digest: Digest::of_parts([config.as_slice(), weights.as_slice()]).to_hex(),
        rank: rank as usize,
        bytes: weights.len() as u64,
        directory: directory.to_path_buf(),
    })
}

fn unknown(slots: &BTreeMap<String, Slot>, alias: &str) -> InferenceError {
    let loaded = slots.keys().cloned().collect::<Vec<_>>().join(", ");
    InferenceError::UnknownAdapter { alias: alias.to_owned(), loaded }
}
