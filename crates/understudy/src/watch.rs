//! The thread that lets the canary controller tick, and the one that takes canaries off where it no
//! longer does.

use std::{
    fmt,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use understudy_canary::{Controller, DeadMan, Note};
use understudy_gateway::wire::LEASE_MS;
use understudy_registry::Registry;

/// How often the evidence is looked at.
const TICK: Duration = Duration::from_millis(100);

/// How often it is asked, at the price of two pragmas, whether somebody changed the registry: a
/// rollback by hand takes effect within this.
const GLANCE: Duration = Duration::from_millis(5);

/// How often it is asked whether somebody still watches the canaries.
const CHECK: Duration = Duration::from_millis(100);

pub(crate) type OnNote = Box<dyn FnMut(&Note) + Send>;

/// Ticks until it is dropped.
pub(crate) struct Watcher {
    /// Dropped to stop.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// The same for whoever watches the watcher.
    stop_dead_man: Option<mpsc::Sender<()>>,
}

impl Watcher {
    /// The first tick happens before this returns, so that routes exist when the server answers.
    pub(crate) fn start(
        mut controller: Controller,
        registry: Arc<Registry>,
        mut on_note: OnNote,
    ) -> Result<Self> {
        let first = controller.tick().context("failed to publish the routes")?;
        first.iter().for_each(&mut on_note);
        let stop_dead_man = Some(start_dead_man(controller.dead_man())?);
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("canary".to_owned())
            .spawn(move || {
                let mut pulse = None;
                let mut ticked = Instant::now();
                while stopped.recv_timeout(GLANCE) == Err(RecvTimeoutError::Timeout) {
                    let felt = registry.pulse().ok();
                    if felt == pulse && ticked.elapsed() < TICK {
                        continue;
                    }
                    (pulse, ticked) = (felt, Instant::now());
                    match controller.tick() {
                        Ok(notes) => notes.iter().for_each(&mut on_note),
                        Err(error) => {
                            tracing::error!(%error, "the canary controller's tick failed");
                        }
                    }
                }
            })
            .context("failed to start the canary controller")?;
        Ok(Self { stop: Some(stop), thread: Some(thread), stop_dead_man })
    }
}

/// Canaries that were not looked after for as long as a replica may go by what it was told are taken
/// off here; replicas are told like of any other change.
fn start_dead_man(dead_man: Arc<DeadMan>) -> Result<mpsc::Sender<()>> {
    let (stop, stopped) = mpsc::channel::<()>();
    let check = move || {
        while stopped.recv_timeout(CHECK) == Err(RecvTimeoutError::Timeout) {
            for note in dead_man.check(Instant::now(), Duration::from_millis(LEASE_MS)) {
                tracing::error!(task = %note.task, "{}", note.text);
            }
        }
    };
    let thread = std::thread::Builder::new().name("dead-man".to_owned()).spawn(check);
    thread.map(|_| stop).context("failed to start the thread that watches the canary controller")
}

impl Drop for Watcher {
    fn drop(&mut self) {
        (self.stop, self.stop_dead_man) = (None, None);
        if let Some(thread) = self.thread.take() {
            // A controller that panicked has said so on standard error.
            thread.join().ok();
        }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watcher")
    }
}
