//! A replica: it routes as another server says, for as long as that server's lease lasts, and by its
//! champions alone from then on. What it serves and hears goes to that server's journal, where the
//! canaries are judged.
//!
//! A rollback needs nothing that is not in memory: what a new table names and is loaded is in force
//! before anything else is fetched for it, task by task. Fetching is for a thread of its own, so that
//! the lease is renewed meanwhile; what it brings is in force as it comes, and the table is
//! acknowledged when all of it is here.

mod force;
mod forward;
mod source;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use understudy_canary::Note;
use understudy_gateway::wire::{HEARTBEAT_MS, Told, ToldAdapter, WatchRequest};
use understudy_ident::TaskName;
use understudy_inference::Student;
use understudy_journal::Journal;
use understudy_router::{RouteTable, TaskRoute};

use self::{forward::Forwarder, source::Source};
use crate::{paths::DataDir, watch::OnNote};

/// How often the lease is looked at.
const GLANCE: Duration = Duration::from_millis(20);

/// Before a server that did not answer is asked again.
const RETRY: Duration = Duration::from_millis(200);

/// For the first table.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whom to follow.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    pub(crate) url: String,
    pub(crate) node: Option<String>,
    pub(crate) key: Option<String>,
}

/// What a follower works with.
pub(crate) struct Following {
    pub(crate) control: Control,
    pub(crate) address: SocketAddr,
    pub(crate) routes: Arc<RouteTable>,
    pub(crate) student: Arc<dyn Student>,
    pub(crate) journal: Journal,
    pub(crate) data: DataDir,
    pub(crate) on_note: OnNote,
}

/// Follows until it is dropped.
#[derive(Debug)]
pub(crate) struct Follower {
    stop: Arc<AtomicBool>,
}

struct Shared {
    routes: Arc<RouteTable>,
    student: Arc<dyn Student>,
    data: DataDir,
    source: Source,
    state: Mutex<State>,
    on_note: Mutex<OnNote>,
    stop: Arc<AtomicBool>,
}

struct State {
    /// The newest table, recorded before anything is fetched for it: whatever ends the lease, what
    /// serves then are its champions and not those of a table before.
    told: Option<Held>,
    /// Whether all that it names is here, which asking on acknowledges.
    is_whole: bool,
    is_fetching: bool,
    /// What served each task alone last, for as long as a newer champion is not here.
    champions: BTreeMap<TaskName, TaskRoute>,
    /// Whence the adapters of all these come.
    sources: BTreeMap<String, ToldAdapter>,
    /// Why adapters that were to be had are not here, by version.
    failed: BTreeMap<String, String>,
    lease_ends: Instant,
    /// Whether the champions serve alone because the lease ran out.
    is_alone: bool,
}

/// A table as it was told; on disk, for the next start.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Held {
    epoch: String,
    sequence: u64,
    told: Told,
}

impl Follower {
    /// Returns once there are routes: as they are told, or, where the other server is silent, the
    /// champions of the last table this replica had.
    pub(crate) fn start(following: Following) -> Result<Self> {
        let Following { control, address, routes, student, journal, data, on_note } = following;
        let node = control.node.clone().unwrap_or_else(|| address.to_string());
        let stop = Arc::new(AtomicBool::new(false));
        let source = Source::new(&control, node);
        let state = State {
            told: None,
            is_whole: false,
            is_fetching: false,
            champions: BTreeMap::new(),
            sources: BTreeMap::new(),
            failed: BTreeMap::new(),
            lease_ends: Instant::now(),
            is_alone: false,
        };
        let shared = Arc::new(Shared {
            routes,
            student,
            data,
            source,
            state: Mutex::new(state),
            on_note: Mutex::new(on_note),
            stop: Arc::clone(&stop),
        });
        let theirs = shared.first_table()?;
        let following = Arc::clone(&shared);
        spawn("follow", move || following.follow())?;
        let leased = Arc::clone(&shared);
        spawn("lease", move || leased.watch_lease())?;
        let forwarder = Forwarder::new(journal, Arc::clone(&shared), theirs);
        spawn("forward", move || forwarder.run())?;
        Ok(Self { stop })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // The threads end within a heartbeat; nothing waits for them.
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    /// The name of the other server's journal, if it answered.
    fn first_table(self: &Arc<Self>) -> Result<Option<String>> {
        let begun = Instant::now();
        let why = loop {
            match self.ask() {
                Ok(journal) if self.is_ready(begun.elapsed()) => return Ok(Some(journal)),
                Ok(_) if self.has_given_up(begun.elapsed()) => {
                    break anyhow!("nothing that it routes to can be fetched from it");
                }
                // Large adapters take their time.
                Ok(_) => {}
                Err(why) if begun.elapsed() > PATIENCE => break why,
                Err(_) => thread::sleep(RETRY),
            }
        };
        let url = self.source.url();
        let Some(held) = self.remembered() else {
            bail!("{url} does not answer, and this replica has never had a table: {why:#}");
        };
        self.note(format!("{url} does not answer ({why:#}); the champions it last told serve"));
        let loaded = self.load(&held.told);
        let nothing_to_serve = held.told.tasks.is_empty();
        let mut state = self.state();
        (state.told, state.is_alone) = (Some(held), true);
        self.route(&mut state);
        drop(state);
        if self.routes.snapshot().is_empty() && !nothing_to_serve {
            loaded?;
        }
        Ok(None)
    }

    /// Whether the first table is here, or all of it that is to be had.
    fn is_ready(&self, waited: Duration) -> bool {
        let state = self.state();
        let serves = !self.routes.snapshot().is_empty();
        state.is_whole || serves && !state.is_fetching && waited > PATIENCE
    }

    fn has_given_up(&self, waited: Duration) -> bool {
        waited > PATIENCE && !self.state().is_fetching
    }

    fn follow(self: &Arc<Self>) {
        while !self.stop.load(Ordering::Relaxed) {
            if let Err(error) = self.ask() {
                tracing::debug!(%error, "the server that is followed did not answer");
                thread::sleep(RETRY);
            }
        }
    }

    /// Asks once, which acknowledges what is held, and puts the answer in force. Returns the name of
    /// the journal over there.
    fn ask(self: &Arc<Self>) -> Result<String> {
        let asked = Instant::now();
        let (epoch, since) = {
            let state = self.state();
            // Alone, or with a part of it, the whole table is needed again.
            let told = state.told.as_ref().filter(|_| state.is_whole && !state.is_alone);
            told.map_or_else(Default::default, |told| (told.epoch.clone(), told.sequence))
        };
        let answer = self.source.watch(&epoch, since, HEARTBEAT_MS)?;
        // From when it was asked: whatever is promised was promised no earlier.
        let lease_ends = asked + Duration::from_millis(answer.lease_ms);
        let journal = answer.journal;
        match answer.table {
            None => self.state().lease_ends = lease_ends,
            Some(told) => {
                let held = Held { epoch: answer.epoch, sequence: answer.sequence, told };
                self.put_in_force(held, lease_ends)?;
            }
        }
        Ok(journal)
    }

    fn watch_lease(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            thread::sleep(GLANCE);
            let mut state = self.state();
            if state.is_alone || state.told.is_none() || Instant::now() < state.lease_ends {
                continue;
            }
            state.is_alone = true;
            self.route(&mut state);
            drop(state);
            let url = self.source.url();
            self.note(format!("nothing was heard of {url} for a whole lease: champions alone"));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, text: String) {
        let task = "replica".parse().expect("lowercase letters are a task name");
        let mut on_note = self.on_note.lock().unwrap_or_else(PoisonError::into_inner);
        on_note(&Note { task, text });
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map(drop).with_context(|| format!("failed to start the thread `{name}`"))
}

/// A request as the other server wants it.
fn request(node: &str, epoch: &str, since: u64, wait_ms: u64, took_ms: f64) -> WatchRequest {
    WatchRequest { node: node.to_owned(), epoch: epoch.to_owned(), since, wait_ms, took_ms }
}
