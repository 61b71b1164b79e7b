//! What a replica served and heard, for the journal its canaries are judged by. Nothing is lost when
//! either end stops: where it stands is on disk, and what is sent twice is stored once.

use std::{sync::Arc, sync::atomic::Ordering, thread, time::Duration};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use understudy_gateway::wire::Arrived;
use understudy_journal::{Arrival, Entry, Journal};
use understudy_storage::atomic;

use super::Shared;

/// Records looked at, and bytes sent, at a time; the other server takes 4 MiB.
const PAGE: usize = 128;
const BYTES: usize = 2 << 20;

const LOOK_EVERY: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct Forwarder {
    journal: Journal,
    shared: Arc<Shared>,
    /// The journal over there, where it is known already.
    theirs: Option<String>,
}

/// How far a journal has been sent where.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Sent {
    to: String,
    read_to: u64,
}

impl Forwarder {
    pub(super) fn new(journal: Journal, shared: Arc<Shared>, theirs: Option<String>) -> Self {
        Self { journal, shared, theirs }
    }

    pub(super) fn run(mut self) {
        let mut sent = None;
        while !self.shared.stop.load(Ordering::Relaxed) {
            match self.step(&mut sent) {
                Ok(true) => {}
                Ok(false) => thread::sleep(LOOK_EVERY),
                Err(error) => {
                    tracing::debug!(%error, "records wait to be forwarded");
                    thread::sleep(RETRY);
                }
            }
        }
    }

    /// Sends a page; false when there was none.
    fn step(&mut self, sent: &mut Option<Sent>) -> Result<bool> {
        let theirs = match &self.theirs {
            Some(theirs) => theirs.clone(),
            None => self.shared.source.watch("", 0, 0)?.journal,
        };
        self.theirs = Some(theirs.clone());
        // One directory, one journal: what we wrote is there.
        if understudy_gateway::journal_name(&self.journal)? == theirs {
            return Ok(false);
        }
        let known = sent.take().unwrap_or_else(|| self.read());
        let read_to = if known.to == theirs { known.read_to } else { 0 };
        let arrivals = self.journal.follow(read_to, PAGE)?;
        let (records, read_to) = page(arrivals, read_to)?;
        let any = !records.is_empty();
        let now = Sent { to: theirs, read_to };
        if any {
            self.shared.source.forward(records)?;
            let path = self.shared.data.forwarded();
            atomic::write(&path, &serde_json::to_vec(&now)?)?;
        }
        *sent = Some(now);
        Ok(any)
    }

    fn read(&self) -> Sent {
        let text = std::fs::read_to_string(self.shared.data.forwarded()).unwrap_or_default();
        // Without it everything is sent again, which changes nothing over there.
        serde_json::from_str(&text).unwrap_or_default()
    }
}

/// As many records as fit, and the number of the last.
fn page(arrivals: Vec<Arrival>, read_to: u64) -> Result<(Vec<Arrived>, u64)> {
    let (mut records, mut bytes, mut last) = (Vec::new(), 0, read_to);
    for arrival in arrivals {
        let record = match arrival.entry {
            Entry::Step(step) => Arrived::Step(step),
            Entry::Outcome(outcome) => Arrived::Outcome(outcome),
        };
        bytes += serde_json::to_vec(&record)?.len();
        if bytes > BYTES && !records.is_empty() {
            break;
        }
        records.push(record);
        last = arrival.seq;
    }
    Ok((records, last))
}
