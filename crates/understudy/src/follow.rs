//! A replica: it routes as another server says, for as long as that server's lease lasts, and by its
//! champions alone from then on. What it serves and hears goes to that server's journal, where the
//! canaries are judged.
//!
//! A rollback needs nothing that is not in memory: what a new table names and is loaded is in force
//! before anything else is fetched for it.

mod forward;
mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use understudy_canary::Note;
use understudy_gateway::wire::{HEARTBEAT_MS, Told, WatchAnswer, WatchRequest};
use understudy_ident::TaskName;
use understudy_inference::Student;
use understudy_journal::Journal;
use understudy_router::{RouteTable, Target, TaskRoute};
use understudy_storage::atomic;

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
    /// The table that is in force while the lease lasts.
    held: Option<Held>,
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
        let state = State { held: None, lease_ends: Instant::now(), is_alone: false };
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
    fn first_table(&self) -> Result<Option<String>> {
        let begun = Instant::now();
        let why = loop {
            match self.ask() {
                Ok(journal) => return Ok(Some(journal)),
                Err(why) if begun.elapsed() > PATIENCE => break why,
                Err(_) => thread::sleep(RETRY),
            }
        };
        let url = self.source.url();
        let Some(held) = self.remembered() else {
            bail!("{url} does not answer, and this replica has never had a table: {why:#}");
        };
        self.note(format!("{url} does not answer ({why:#}); the champions it last told serve"));
        self.load(&held.told)?;
        self.routes.replace(self.servable(&champions(&held.told)));
        let mut state = self.state();
        (state.held, state.is_alone) = (Some(held), true);
        Ok(None)
    }

    fn follow(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            if let Err(error) = self.ask() {
                tracing::debug!(%error, "the server that is followed did not answer");
                thread::sleep(RETRY);
            }
        }
    }

    /// Asks once, which acknowledges what is held, and puts the answer in force. Returns the name of
    /// the journal over there.
    fn ask(&self) -> Result<String> {
        let asked = Instant::now();
        let (epoch, since) = {
            let state = self.state();
            // Alone, the whole table is needed again.
            let held = state.held.as_ref().filter(|_| !state.is_alone);
            held.map_or_else(Default::default, |held| (held.epoch.clone(), held.sequence))
        };
        let answer = self.source.watch(&epoch, since, HEARTBEAT_MS)?;
        // From when it was asked: whatever is promised was promised no earlier.
        let lease_ends = asked + Duration::from_millis(answer.lease_ms);
        let journal = answer.journal.clone();
        match answer.table.clone() {
            None => self.state().lease_ends = lease_ends,
            Some(told) => self.put_in_force(&answer, told, lease_ends)?,
        }
        Ok(journal)
    }

    fn put_in_force(&self, answer: &WatchAnswer, told: Told, lease_ends: Instant) -> Result<()> {
        let heard = Instant::now();
        {
            let mut state = self.state();
            state.lease_ends = lease_ends;
            // What is loaded already is enough for any rollback. A champion that has to be fetched
            // first does not keep a canary on stage that may have been taken off.
            if self.can_serve_champions(&told) {
                self.routes.replace(self.servable(&told.tasks));
            } else if let Some(held) = &state.held {
                self.routes.replace(self.servable(&champions(&held.told)));
            }
        }
        self.load(&told)?;
        {
            let mut state = self.state();
            if state.lease_ends > Instant::now() {
                self.routes.replace(self.servable(&told.tasks));
                state.is_alone = false;
            }
            let (epoch, sequence) = (answer.epoch.clone(), answer.sequence);
            state.held = Some(Held { epoch, sequence, told: told.clone() });
        }
        self.source.took(heard.elapsed());
        self.forget_others(&told);
        self.remember()?;
        self.note(describe(&told));
        Ok(())
    }

    fn watch_lease(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            thread::sleep(GLANCE);
            let mut state = self.state();
            let Some(held) = state.held.as_ref().filter(|_| !state.is_alone) else { continue };
            if Instant::now() < state.lease_ends {
                continue;
            }
            self.routes.replace(self.servable(&champions(&held.told)));
            state.is_alone = true;
            drop(state);
            let url = self.source.url();
            self.note(format!("nothing was heard of {url} for a whole lease: champions alone"));
        }
    }

    /// Fetches and loads what a table names. A canary that cannot be had is left out; a champion
    /// that cannot be had is an error, and the table before stays in force.
    fn load(&self, told: &Told) -> Result<()> {
        let champions: BTreeSet<&str> =
            told.tasks.values().filter_map(|task| version(&task.route.stable)).collect();
        for adapter in &told.adapters {
            if self.holds(&adapter.version, &adapter.generation) {
                continue;
            }
            let loaded =
                self.source.fetch(adapter, &self.data.followed(&adapter.generation)).and_then(
                    |directory| Ok(self.student.load_adapter(&adapter.version, &directory)?),
                );
            let loaded = loaded.and_then(|info| {
                if info.generation != adapter.generation {
                    bail!("it loads as {}, not as {}", info.generation, adapter.generation);
                }
                Ok(())
            });
            match loaded {
                Ok(()) => {}
                Err(why) if champions.contains(adapter.version.as_str()) => {
                    return Err(why.context(format!("failed to load {}", adapter.version)));
                }
                Err(why) => self.note(format!("{} is left out: {why:#}", adapter.version)),
            }
        }
        Ok(())
    }

    fn holds(&self, version: &str, generation: &str) -> bool {
        let adapters = self.student.adapters();
        adapters.iter().any(|info| info.alias == version && info.generation == generation)
    }

    fn can_serve(&self, target: &Target) -> bool {
        match target {
            Target::Adapter { version, generation } => self.holds(version, generation),
            Target::Teacher | Target::Base => true,
        }
    }

    fn can_serve_champions(&self, told: &Told) -> bool {
        told.tasks.values().all(|task| self.can_serve(&task.route.stable))
    }

    /// The same without the canaries that are not loaded here.
    fn servable(&self, tasks: &BTreeMap<TaskName, TaskRoute>) -> BTreeMap<TaskName, TaskRoute> {
        let mut tasks = tasks.clone();
        for task in tasks.values_mut() {
            let canary = task.route.canary.as_ref();
            if canary.is_some_and(|canary| !self.can_serve(&canary.target)) {
                (task.route.canary, task.release) = (None, None);
            }
        }
        tasks
    }

    /// Lets go of adapters that neither this table nor the one before names.
    fn forget_others(&self, told: &Told) {
        let named: BTreeSet<&str> = told.adapters.iter().map(|a| a.version.as_str()).collect();
        for version in self.source.no_longer(&named) {
            // One that clients loaded under that name, or that is gone, is none of ours.
            self.student.unload_adapter(&version).ok();
        }
    }

    fn remember(&self) -> Result<()> {
        let held = self.state().held.clone();
        let json = serde_json::to_vec_pretty(&held)?;
        atomic::write(&self.data.last_table(), &json)?;
        Ok(())
    }

    fn remembered(&self) -> Option<Held> {
        let text = std::fs::read_to_string(self.data.last_table()).ok()?;
        serde_json::from_str(&text).ok()?
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

/// Every task without its canary.
fn champions(told: &Told) -> BTreeMap<TaskName, TaskRoute> {
    let mut tasks = told.tasks.clone();
    for task in tasks.values_mut() {
        (task.route.canary, task.release) = (None, None);
    }
    tasks
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

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
    thread.map(drop).with_context(|| format!("failed to start the thread `{name}`"))
}

/// A request as the other server wants it.
fn request(node: &str, epoch: &str, since: u64, wait_ms: u64, took_ms: f64) -> WatchRequest {
    WatchRequest { node: node.to_owned(), epoch: epoch.to_owned(), since, wait_ms, took_ms }
}
