//! The thread that scores a share of what was served.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use understudy_gateway::LiveBoard;
use understudy_journal::Journal;
use understudy_live::Watch;

use crate::repeat::Repeating;

/// How often the journal is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Scores until it is dropped.
#[derive(Debug)]
pub(crate) struct Scoring {
    _thread: Repeating,
}

impl Scoring {
    pub(crate) fn start(mut watch: Watch, journal: Journal, board: Arc<LiveBoard>) -> Result<Self> {
        board.post(watch.report());
        let look = move || {
            read_on(&mut watch, &journal);
            board.post(watch.report());
        };
        let thread = Repeating::start("live", EVERY, look);
        let thread = thread.context("failed to start the thread that scores live traffic")?;
        Ok(Self { _thread: thread })
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
