//! How loads of adapters went, whoever asked for them: a client, a release, or a replica's leader.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{InferenceError, LoadTiming, LoadedAdapter};

/// Bounds of [`Spread::counts`] in seconds.
pub const LOAD_SECONDS: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];

/// Totals since the start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loads {
    /// Aliases that meant nothing before, or the same.
    pub added: u64,
    pub replaced: u64,
    pub refused: u64,
    pub rolled_back: u64,
    /// Where the time of those that succeeded went.
    pub read: Spread,
    pub verify: Spread,
    pub publish: Spread,
}

/// Seconds by bucket: at most as many as each of [`LOAD_SECONDS`], then more.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spread {
    pub counts: [u64; LOAD_SECONDS.len() + 1],
    pub sum: f64,
}

impl Spread {
    fn observe(&mut self, seconds: f64) {
        self.counts[LOAD_SECONDS.partition_point(|bound| *bound < seconds)] += 1;
        self.sum += seconds;
    }
}

/// How it stands with an alias that is being loaded, or that the last load did not bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    Loading,
    /// Why; whatever the alias meant before, it still means.
    Failed(String),
}

/// Where a student writes its loads down.
#[derive(Debug, Default)]
pub struct LoadLog(Mutex<Log>);

#[derive(Debug, Default)]
struct Log {
    loads: Loads,
    /// As often as they are being loaded.
    underway: Vec<String>,
    /// The last failure of an alias that nothing has gone well for since.
    failed: VecDeque<(String, String)>,
}

/// How many failures are remembered: any name can be loaded in vain.
const REMEMBERED: usize = 64;

impl LoadLog {
    /// Loads, and hands on how it went.
    pub fn load(
        &self,
        alias: &str,
        load: impl FnOnce() -> Result<LoadedAdapter, InferenceError>,
    ) -> Result<LoadedAdapter, InferenceError> {
        self.log().underway.push(alias.to_owned());
        let underway = Underway { log: self, alias };
        let outcome = load();
        drop(underway);
        let mut log = self.log();
        log.loads.count(&outcome);
        match &outcome {
            Ok(_) => log.failed.retain(|(failed, _)| failed != alias),
            // Whoever asked was too late, or wrong about the alias: that is nothing about it.
            Err(InferenceError::AdapterChanged { .. }) => {}
            Err(why) => log.failure(alias, why),
        }
        outcome
    }

    pub fn rolled_back(&self) {
        self.log().loads.rolled_back += 1;
    }

    pub fn so_far(&self) -> Loads {
        self.log().loads.clone()
    }

    /// Aliases that are being loaded, and those whose last load failed.
    pub fn attempts(&self) -> BTreeMap<String, Attempt> {
        let log = self.log();
        let failed = log.failed.iter().cloned().map(|(alias, why)| (alias, Attempt::Failed(why)));
        let underway = log.underway.iter().map(|alias| (alias.clone(), Attempt::Loading));
        failed.chain(underway).collect()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loads {
    fn count(&mut self, outcome: &Result<LoadedAdapter, InferenceError>) {
        match outcome {
            Err(_) => self.refused += 1,
            Ok(LoadedAdapter { replaced, timing, .. }) => {
                *if replaced.is_some() { &mut self.replaced } else { &mut self.added } += 1;
                let LoadTiming { read, verify, publish } = timing;
                self.read.observe(read / 1e3);
                self.verify.observe(verify / 1e3);
                self.publish.observe(publish / 1e3);
            }
        }
    }
}

impl Log {
    fn failure(&mut self, alias: &str, why: &InferenceError) {
        self.failed.retain(|(failed, _)| failed != alias);
        self.failed.push_back((alias.to_owned(), why.to_string()));
        if self.failed.len() > REMEMBERED {
            self.failed.pop_front();
        }
    }
}

/// A load that is over when this is dropped, even by a panic.
struct Underway<'a> {
    log: &'a LoadLog,
    alias: &'a str,
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        let mut log = self.log.log();
        if let Some(at) = log.underway.iter().position(|alias| alias == self.alias) {
            log.underway.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AdapterInfo;

    fn brought() -> Result<LoadedAdapter, InferenceError> {
        let (adapter, timing) = (AdapterInfo::default(), LoadTiming::default());
        Ok(LoadedAdapter { adapter, replaced: None, timing })
    }

    fn broken() -> Result<LoadedAdapter, InferenceError> {
        Err(InferenceError::BadAdapter { alias: "a".to_owned(), why: "half a file".to_owned() })
    }

    fn late() -> Result<LoadedAdapter, InferenceError> {
        let (alias, expected, found) = ("a".to_owned(), "free".to_owned(), "taken".to_owned());
        Err(InferenceError::AdapterChanged { alias, expected, found })
    }

    #[test]
    fn what_is_being_loaded_is_known_and_what_failed_until_it_went_well() {
        let log = LoadLog::default();
        let seen = |log: &LoadLog| log.attempts().into_iter().next();
        let load = log.load("a", || {
            assert_eq!(seen(&log), Some(("a".to_owned(), Attempt::Loading)));
            broken()
        });
        load.unwrap_err();
        let Some((alias, Attempt::Failed(why))) = seen(&log) else { panic!("{:?}", seen(&log)) };
        assert!(alias == "a" && why.contains("half a file"), "{why}");
        log.load("a", late).unwrap_err();
        assert!(matches!(seen(&log), Some((_, Attempt::Failed(_)))), "that says nothing new");
        log.load("a", brought).unwrap();
        assert_eq!(seen(&log), None);
        log.load("a", late).unwrap_err();
        assert_eq!(seen(&log), None, "nothing is wrong with the adapter");
        assert_eq!((log.so_far().refused, log.so_far().added), (3, 1));
    }

    #[test]
    fn failures_of_made_up_names_take_no_more_room_than_there_is() {
        let log = LoadLog::default();
        for name in 0..REMEMBERED + 10 {
            log.load(&name.to_string(), broken).unwrap_err();
        }
        let known = log.attempts();
        assert_eq!((known.len(), known.contains_key("0")), (REMEMBERED, false));
        assert!(known.contains_key(&(REMEMBERED + 9).to_string()), "the latest are known");
    }
}
