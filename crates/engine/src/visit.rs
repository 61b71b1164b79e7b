//! Texts that are scored along with a step of others.
//!
//! What a new adapter says to its probes has to be seen before it is served. A pass of its own for
//! that reads every weight of the base once more, beside those who decode; as a few more rows of a
//! step they take next to nothing. A row's scores do not depend on its company.

use std::{
    ops::Range,
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};

use understudy_model::{AdapterRun, BaseModel, Batch, KvCache, Lora, Result, token_log_prob};
use understudy_team as team;

/// How long one waits for a step to begin, before doing without.
const PATIENCE: Duration = Duration::from_millis(100);

/// Rows that a step has to spare.
pub(crate) const MOST_ROWS: usize = 32;

/// An adapter and a text of at least two tokens. Several texts come one after the other: everybody
/// waits for the rows of a step, so the fewer, the better.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) lora: Lora,
    pub(crate) text: Vec<u32>,
    /// log p(next token | those before) for every token of the text but its first, once scored.
    pub(crate) scores: Option<Vec<f32>>,
}

/// Where a visit waits for the next step.
#[derive(Debug, Default)]
pub(crate) struct Door(Mutex<Option<(Visit, Sender<Visit>)>>);

impl Door {
    /// Waits for a step to take the visit along. It comes back without scores when none did, or
    /// when that step failed; nothing comes back when the engine ends.
    pub(crate) fn visit(&self, visit: Visit) -> Option<Visit> {
        let (told, answer) = channel();
        *self.slot() = Some((visit, told));
        match answer.recv_timeout(PATIENCE) {
            Ok(visit) => Some(visit),
            Err(RecvTimeoutError::Timeout) => match self.slot().take() {
                Some((visit, _)) => Some(visit),
                None => answer.recv().ok(),
            },
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    pub(crate) fn take(&self) -> Option<(Visit, Sender<Visit>)> {
        self.slot().take()
    }

    /// A visit is put there or taken away whole.
    fn slot(&self) -> MutexGuard<'_, Option<(Visit, Sender<Visit>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A visit's part of a batch.
pub(crate) struct Seats {
    pub(crate) cache: KvCache,
    rows: Range<usize>,
}

impl Seats {
    /// Rows of the batch whose scores are asked for.
    pub(crate) fn asked(&self) -> impl Iterator<Item = u32> {
        self.rows.clone().map(|row| row as u32)
    }
}

impl Visit {
    /// Nobody asks what follows the last token.
    pub(crate) fn rows(&self) -> usize {
        self.text.len() - 1
    }

    /// Joins a batch as its last rows.
    pub(crate) fn join(&self, batch: &mut Batch, model: &BaseModel) -> Result<Seats> {
        let decoder = &model.decoder;
        let rows = batch.push(&self.text[..self.rows()], 0).rows();
        Ok(Seats { cache: KvCache::new(decoder.config(), decoder.device())?, rows })
    }

    pub(crate) fn run(&self, seats: &Seats) -> AdapterRun<'_> {
        AdapterRun { rows: seats.rows.clone(), lora: Some(&self.lora) }
    }

    /// Reads the scores over the vocabulary of the rows that it asked for, in their order.
    pub(crate) fn read(&mut self, logits: &[f32], vocab: usize) {
        let targets = &self.text[1..];
        self.scores = Some(team::map(targets.len(), |nth| {
            token_log_prob(&logits[nth * vocab..(nth + 1) * vocab], targets[nth], 1.0).0
        }));
    }
}
