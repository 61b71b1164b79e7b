//! Putting a table in force, as far as what it names is here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    thread,
    time::Instant,
};

use anyhow::{Error, Result, bail};
use understudy_gateway::wire::{Told, ToldAdapter};
use understudy_ident::TaskName;
use understudy_router::{Asked, Target, TaskRoute};
use understudy_storage::atomic;

use super::{Held, RETRY, Shared, State, spawn};

impl Shared {
    pub(super) fn put_in_force(self: &Arc<Self>, held: Held, lease_ends: Instant) -> Result<()> {
        let heard = Instant::now();
        let lacks = held.told.adapters.iter().any(|adapter| !self.holds(adapter));
        let begins = {
            let mut state = self.state();
            (state.lease_ends, state.is_alone) = (lease_ends, false);
            state.is_whole = false;
            state.told = Some(held.clone());
            self.route(&mut state);
            let begins = lacks && !state.is_fetching;
            state.is_fetching |= lacks;
            begins
        };
        self.remember()?;
        if !lacks {
            return self.settle(&held, heard);
        }
        if begins {
            let shared = Arc::clone(self);
            spawn("fetch", move || shared.fetch(&held, heard))?;
        }
        // It is asked again, and so the lease renewed, while files come.
        thread::sleep(RETRY);
        Ok(())
    }

    fn fetch(&self, held: &Held, heard: Instant) {
        let loaded = self.load(&held.told);
        {
            let mut state = self.state();
            state.is_fetching = false;
            self.route(&mut state);
        }
        if let Err(error) = loaded.and_then(|()| self.settle(held, heard)) {
            tracing::debug!(%error, "a table is in force in part");
        }
    }

    /// All of a table is here, unless there has been another one since.
    fn settle(&self, held: &Held, heard: Instant) -> Result<()> {
        {
            let mut state = self.state();
            let newest = state.told.as_ref().map(|told| (&told.epoch, told.sequence));
            if newest != Some((&held.epoch, held.sequence)) {
                return Ok(());
            }
            state.is_whole = true;
            self.route(&mut state);
        }
        self.source.took(heard.elapsed());
        self.forget_others(&held.told);
        self.remember()?;
        self.note(describe(&held.told));
        Ok(())
    }

    /// Publishes what the newest table says of each task, with its canary while the lease lasts. A
    /// task whose champion is not here yet keeps the one before, without any canary, and keeps no
    /// other task waiting: that one's champion may have been taken back.
    pub(super) fn route(&self, state: &mut State) {
        let Some(held) = &state.told else { return };
        let leased = !state.is_alone && Instant::now() < state.lease_ends;
        for adapter in &held.told.adapters {
            state.sources.insert(adapter.version.clone(), adapter.clone());
        }
        let told = &held.told.tasks;
        state.failed.retain(|version, _| {
            held.told.adapters.iter().any(|adapter| adapter.version == *version)
        });
        self.routes.ask(Asked { tasks: told.clone(), failed: state.failed.clone() });
        state.champions.retain(|task, _| told.contains_key(task));
        let mut tasks = BTreeMap::new();
        for (name, task) in told {
            if self.can_serve(&task.route.stable) {
                state.champions.insert(name.clone(), alone(task));
                let canary = task.route.canary.as_ref();
                let with_canary =
                    leased && canary.is_none_or(|canary| self.can_serve(&canary.target));
                tasks.insert(name.clone(), if with_canary { task.clone() } else { alone(task) });
            } else if let Some(before) = state.champions.get(name) {
                tasks.insert(name.clone(), before.clone());
            }
        }
        let needed = |version: &str| {
            let told = held.told.adapters.iter().any(|adapter| adapter.version == version);
            told || tasks.values().flat_map(versions).any(|named| named == version)
        };
        state.sources.retain(|version, _| needed(version));
        let current = self.routes.snapshot();
        let same = current.len() == tasks.len()
            && tasks.iter().all(|(name, task)| current.get(name).is_some_and(|now| **now == *task));
        if !same {
            self.routes.replace(tasks);
        }
        if self.routes.revoke(held.told.revoked.clone()) {
            self.evict(&held.told.revoked);
        }
    }

    /// What was revoked leaves the engine. What is in flight finishes.
    fn evict(&self, revoked: &BTreeSet<String>) {
        let adapters = self.student.adapters();
        for info in adapters.iter().filter(|info| revoked.contains(&info.generation)) {
            // One that somebody has unloaded meanwhile is gone as well.
            self.student.unload_adapter(&info.alias).ok();
        }
    }

    /// Fetches and loads what a table names. A canary that cannot be had is left out; that a champion
    /// cannot be had is the error, once everything else is here.
    pub(super) fn load(&self, told: &Told) -> Result<()> {
        let champions: BTreeSet<&str> =
            told.tasks.values().filter_map(|task| version(&task.route.stable)).collect();
        let mut failed: Option<Error> = None;
        for adapter in &told.adapters {
            if self.holds(adapter) {
                continue;
            }
            let loaded = self.load_one(adapter);
            self.note_how(adapter, &loaded);
            match loaded {
                Ok(()) => self.route(&mut self.state()),
                Err(why) if champions.contains(adapter.version.as_str()) => {
                    let why = why.context(format!("failed to load {}", adapter.version));
                    failed = Some(failed.unwrap_or(why));
                }
                Err(why) => self.note(format!("{} is left out: {why:#}", adapter.version)),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// For whoever asks what is missing here.
    fn note_how(&self, adapter: &ToldAdapter, loaded: &Result<()>) {
        let failed = &mut self.state().failed;
        match loaded {
            Ok(()) => drop(failed.remove(&adapter.version)),
            Err(why) => drop(failed.insert(adapter.version.clone(), format!("{why:#}"))),
        }
    }

    fn load_one(&self, adapter: &ToldAdapter) -> Result<()> {
        let directory = self.source.fetch(adapter, &self.data.followed(&adapter.generation))?;
        let info = self.student.load_adapter(&adapter.version, &directory)?;
        if info.generation != adapter.generation {
            bail!("it loads as {}, not as {}", info.generation, adapter.generation);
        }
        Ok(())
    }

    fn holds(&self, wanted: &ToldAdapter) -> bool {
        self.has(&wanted.version, &wanted.generation)
    }

    fn has(&self, version: &str, generation: &str) -> bool {
        let adapters = self.student.adapters();
        adapters.iter().any(|info| info.alias == version && info.generation == generation)
    }

    fn can_serve(&self, target: &Target) -> bool {
        match target {
            Target::Adapter { version, generation } => self.has(version, generation),
            Target::Teacher | Target::Base => true,
        }
    }

    /// Lets go of adapters that neither this table nor the one before names, nor any route.
    fn forget_others(&self, told: &Told) {
        let routed = self.routes.snapshot();
        let routed = routed.values().filter_map(|task| version(&task.route.stable));
        let named = told.adapters.iter().map(|adapter| adapter.version.as_str());
        let named: BTreeSet<&str> = named.chain(routed).collect();
        for version in self.source.no_longer(&named) {
            // One that clients loaded under that name, or that is gone, is none of ours.
            self.student.unload_adapter(&version).ok();
        }
    }

    /// For the next start: the newest table, with what serves where its own champion is not here.
    fn remember(&self) -> Result<()> {
        let kept = {
            let state = self.state();
            let Some(held) = &state.told else { return Ok(()) };
            let mut tasks = held.told.tasks.clone();
            let lacking = tasks.iter_mut().filter(|(_, task)| !self.can_serve(&task.route.stable));
            for (name, task) in lacking {
                if let Some(before) = state.champions.get(name) {
                    *task = before.clone();
                }
            }
            let named: BTreeSet<&str> = tasks.values().flat_map(versions).collect();
            let adapters = named.iter().filter_map(|version| state.sources.get(*version).cloned());
            Held {
                told: Told {
                    adapters: adapters.collect(),
                    tasks: tasks.clone(),
                    revoked: held.told.revoked.clone(),
                },
                ..held.clone()
            }
        };
        atomic::write(&self.data.last_table(), &serde_json::to_vec_pretty(&kept)?)?;
        Ok(())
    }

    pub(super) fn remembered(&self) -> Option<Held> {
        let text = std::fs::read_to_string(self.data.last_table()).ok()?;
        serde_json::from_str(&text).ok()
    }
}

/// A task without its canary.
fn alone(task: &TaskRoute) -> TaskRoute {
    let mut task = task.clone();
    (task.route.canary, task.release) = (None, None);
    task
}

fn versions(task: &TaskRoute) -> impl Iterator<Item = &str> {
    let canary = task.route.canary.as_ref().map(|canary| &canary.target);
    [Some(&task.route.stable), canary].into_iter().flatten().filter_map(version)
}

fn version(target: &Target) -> Option<&str> {
    match target {
        Target::Adapter { version, .. } => Some(version),
        Target::Teacher | Target::Base => None,
    }
}

fn describe(told: &Told) -> String {
    let one = |(name, task): (&TaskName, &TaskRoute)| {
        let stable = version(&task.route.stable).unwrap_or("no adapter");
        let canary = task.route.canary.as_ref().and_then(|canary| version(&canary.target));
        let canary = canary.map(|canary| format!(" with the canary {canary}")).unwrap_or_default();
        format!("{name} to {stable}{canary}")
    };
    let tasks: Vec<String> = told.tasks.iter().map(one).collect();
    format!("routes {}", if tasks.is_empty() { "nothing yet".to_owned() } else { tasks.join(", ") })
}
