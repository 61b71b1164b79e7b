//! The engine as those who load adapters and count tokens see it.

use std::{collections::BTreeMap, path::Path, time::Instant};

use understudy_ident::Timestamp;
use understudy_inference::{
    AdapterInfo, Attempt, Expected, InLine, InferenceError, LoadAdapter, LoadTiming, LoadedAdapter,
    Loads, Prompt, Stats, Student,
};

use crate::{
    engine::{Engine, Shared},
    gap::Share,
    store::{Change, Patience, Published},
};

impl Student for Engine {
    fn publish_adapter(&self, load: LoadAdapter) -> Result<LoadedAdapter, InferenceError> {
        let alias = load.alias.clone();
        self.shared.loads.load(&alias, || self.place(load))
    }

    fn unload_adapter(&self, alias: &str) -> Result<(), InferenceError> {
        self.unload_adapter_if(alias, &Expected::Anything)
    }

    fn expire_adapters(
        &self,
        now: Timestamp,
        spared: &dyn Fn(&str) -> bool,
    ) -> Result<Vec<String>, InferenceError> {
        self.shared.store.expire(now, spared)
    }

    fn in_flight(&self, alias: &str) -> usize {
        self.shared.store.in_flight(alias)
    }

    fn rollback_adapter(
        &self,
        alias: &str,
        to: Option<&str>,
    ) -> Result<AdapterInfo, InferenceError> {
        let back = self.shared.store.rollback(alias, to)?.info;
        self.shared.loads.rolled_back();
        Ok(back)
    }

    fn adapters(&self) -> Vec<AdapterInfo> {
        self.shared.store.list()
    }

    fn tokenize(&self, prompt: &Prompt) -> Result<Vec<u32>, InferenceError> {
        self.shared.prompt_ids(prompt.clone())
    }

    fn detokenize(&self, ids: &[u32]) -> Result<String, InferenceError> {
        let text = self.shared.model.tokenizer.decode(ids);
        text.map_err(|error| InferenceError::invalid("tokens", error.to_string()))
    }

    fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        self.shared.model.tokenizer.token_bytes(id).map(<[u8]>::to_vec)
    }

    fn context(&self) -> usize {
        self.shared.context
    }

    fn stats(&self) -> Stats {
        let tally = self.shared.store.tally();
        Stats {
            resident_adapters: tally.resident,
            resident_bytes: tally.bytes,
            adapters_capacity: self.shared.config.adapters_resident,
            adapter_hits: tally.hits,
            adapter_misses: tally.misses,
            ..self.shared.counters.snapshot(&self.shared.config)
        }
    }

    fn identity(&self) -> Option<String> {
        Some(self.shared.identity.clone())
    }

    fn in_line(&self) -> Option<Vec<InLine>> {
        Some(self.shared.counters.in_line())
    }

    fn loads(&self) -> Loads {
        self.shared.loads.so_far()
    }

    /// Those that were asked for as well, and not only those that were published.
    fn attempts(&self) -> BTreeMap<String, Attempt> {
        let (published, asked) = (self.shared.loads.attempts(), self.shared.store.attempts());
        let mut all: Vec<_> = published.into_iter().chain(asked).collect();
        // The last one counts, and what is going on counts more than what went wrong before.
        all.sort_by_key(|(_, attempt)| *attempt == Attempt::Loading);
        all.into_iter().collect()
    }

    fn check(&self) -> Result<(), InferenceError> {
        match &self.shared.thread {
            Some(thread) if !thread.is_finished() => Ok(()),
            _ => Err(InferenceError::Failed("the engine's thread has ended".to_owned())),
        }
    }

    fn pause(&self) {
        self.shared.hold(true);
    }

    fn resume(&self) {
        self.shared.hold(false);
    }

    fn is_paused(&self) -> bool {
        self.shared.is_paused()
    }
}

impl Engine {
    fn place(&self, load: LoadAdapter) -> Result<LoadedAdapter, InferenceError> {
        let shared = &*self.shared;
        shared.check_alias(&load.alias)?;
        let change = shared.change(&load);
        shared.store.check(&change)?;
        let _turn = shared.loader.turn(Patience::endless())?;
        let begun = Instant::now();
        let (files, digest) =
            shared.loader.files(&load.alias, &load.directory, Share::Unnoticed)?;
        let read = ms_since(begun);
        check_digest(&load, &digest)?;
        let begun = Instant::now();
        let published = if load.on_demand {
            shared.store.register(&change, load.directory.clone(), &digest)?
        } else {
            let content = match shared.store.resident(&digest) {
                Some(known) => known,
                None => shared
                    .loader
                    .verified(&load.alias, &load.directory, files, Share::Unnoticed)?
                    .into(),
            };
            shared.store.publish(&change, content)?
        };
        let Published { info, replaced, took } = published;
        let publish = took.as_secs_f64() * 1e3;
        let verify = (ms_since(begun) - publish).max(0.0);
        let timing = LoadTiming { read, verify, publish };
        Ok(LoadedAdapter { adapter: info, replaced, timing })
    }

    /// Forgets an alias if it means what is expected.
    pub fn unload_adapter_if(
        &self,
        alias: &str,
        expected: &Expected,
    ) -> Result<(), InferenceError> {
        self.shared.store.unload(alias, expected)
    }
}

impl Shared {
    fn change<'a>(&self, load: &'a LoadAdapter) -> Change<'a> {
        Change {
            alias: &load.alias,
            expected: &load.expected,
            pinned: load.pinned,
            on_demand: load.on_demand,
            expires: load.expires,
            keep: load.keep_previous.unwrap_or(self.config.keep_previous),
        }
    }
}

fn check_digest(load: &LoadAdapter, digest: &str) -> Result<(), InferenceError> {
    match &load.generation {
        Some(wanted) if wanted != digest => {
            let directory: &Path = &load.directory;
            let why = format!(
                "{} holds generation {digest}, not {wanted} as was asked for",
                directory.display()
            );
            Err(InferenceError::BadAdapter { alias: load.alias.clone(), why })
        }
        _ => Ok(()),
    }
}

/// Milliseconds since a moment.
fn ms_since(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}
