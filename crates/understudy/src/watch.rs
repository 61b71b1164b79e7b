//! The thread that lets the canary controller tick.

use std::{
    fmt,
    sync::mpsc::{self, RecvTimeoutError},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use understudy_canary::{Controller, Note};

/// A rollback asked for by hand takes effect within this.
const TICK: Duration = Duration::from_millis(100);

pub(crate) type OnNote = Box<dyn FnMut(&Note) + Send>;

/// Ticks until it is dropped.
pub(crate) struct Watcher {
    /// Dropped to stop.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// The first tick happens before this returns, so that routes exist when the server answers.
    pub(crate) fn start(mut controller: Controller, mut on_note: OnNote) -> Result<Self> {
        let first = controller.tick().context("failed to publish the routes")?;
        first.iter().for_each(&mut on_note);
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("canary".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    match controller.tick() {
                        Ok(notes) => notes.iter().for_each(&mut on_note),
                        Err(error) => {
                            tracing::error!(%error, "the canary controller's tick failed");
                        }
                    }
                }
            })
            .context("failed to start the canary controller")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop = None;
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
