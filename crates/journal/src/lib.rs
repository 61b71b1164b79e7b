//! The durable, append-only log of what arrived: exchanges as steps, and what users did about them
//! as outcomes.
//!
//! Guarantees: an acknowledged record survives `kill -9` and power loss (it is acknowledged after
//! the commit, with `synchronous = FULL`); a record is stored once, however often it is sent; an
//! outcome finds its step whichever of them arrives first; reading shows everything acknowledged
//! before it began, in an order that does not depend on arrival.
//!
//! Never: rewrites a record. Which step an outcome is about is worked out when it is read.

mod error;
mod link;
mod read;
mod record;
mod schema;
mod writer;

use std::{path::Path, sync::Arc};

use understudy_trajectory::{JudgedStep, Outcome, Step, Trajectory};

pub use error::JournalError;
pub use read::{Arrival, Counts, Query};
pub use record::Entry;
pub use writer::{Ack, Appended};

use crate::{read::Reader, writer::Writer};

/// A handle to an open journal; clones share one writer thread.
#[derive(Debug, Clone)]
pub struct Journal {
    writer: Arc<Writer>,
    reader: Arc<Reader>,
}

/// How much may wait to be written.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    /// Appends beyond this many waiting bytes are refused with [`JournalError::Busy`].
    pub queue_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { queue_bytes: 64 * 1024 * 1024 }
    }
}

impl Journal {
    pub fn open(path: &Path, config: Config) -> Result<Self, JournalError> {
        let writer = Writer::start(path, config)?;
        let reader = Reader::open(path)?;
        Ok(Self { writer: Arc::new(writer), reader: Arc::new(reader) })
    }

    /// Queues a step; the [`Ack`] resolves once it is durable.
    pub fn append_step(&self, step: Step) -> Result<Ack, JournalError> {
        self.writer.append(&Entry::Step(Box::new(step)))
    }

    /// Queues an outcome; the [`Ack`] resolves once it is durable.
    pub fn append_outcome(&self, outcome: Outcome) -> Result<Ack, JournalError> {
        self.writer.append(&Entry::Outcome(outcome))
    }

    /// Trajectories in the order of their ids, steps in the order of their time, outcomes linked.
    pub fn trajectories(&self, query: &Query) -> Result<Vec<Trajectory>, JournalError> {
        self.writer.settle()?;
        self.reader.trajectories(query)
    }

    /// The step an outcome is about and everything said about it; `None` while it is pending.
    pub fn judged(&self, outcome: &Outcome) -> Result<Option<JudgedStep>, JournalError> {
        self.writer.settle()?;
        self.reader.judged(outcome)
    }

    /// A step with everything said about it so far.
    pub fn judged_step(&self, step: &Step) -> Result<JudgedStep, JournalError> {
        self.writer.settle()?;
        self.reader.judged_step(step)
    }

    /// Records after number `after`, in the order they were committed.
    pub fn follow(&self, after: u64, limit: usize) -> Result<Vec<Arrival>, JournalError> {
        self.reader.follow(after, limit)
    }

    pub fn counts(&self) -> Result<Counts, JournalError> {
        self.writer.settle()?;
        self.reader.counts()
    }

    /// The number of the last committed record, 0 when there is none.
    pub fn watermark(&self) -> Result<u64, JournalError> {
        self.reader.watermark()
    }
}

#[cfg(test)]
mod tests;
