//! The thread that scores a share of what was served.

use std::{
    fmt,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use understudy_gateway::LiveBoard;
use understudy_journal::Journal;
use understudy_live::Watch;

/// How often the journal is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Scores until it is dropped.
pub(crate) struct Scoring {
    /// Dropped to stop.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Scoring {
    pub(crate) fn start(mut watch: Watch, journal: Journal, board: Arc<LiveBoard>) -> Result<Self> {
        board.post(watch.report());
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("live".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                    read_on(&mut watch, &journal);
                    board.post(watch.report());
                }
            })
            .context("failed to start the thread that scores live traffic")?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

/// One page while little is new, and as many as there are otherwise.
fn read_on(watch: &mut Watch, journal: &Journal) {
    let mut more = || {
        watch.read(journal).unwrap_or_else(|error| {
            tracing::error!(%error, "live traffic could not be scored");
            false
        })
    };
    while more() {}
}

impl Drop for Scoring {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so on standard error.
            thread.join().ok();
        }
    }
}

impl fmt::Debug for Scoring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scoring")
    }
}
