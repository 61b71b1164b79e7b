//! Texts that are scored along with a step of others.
//!
//! What a new adapter says to its probes has to be seen before it is served. A pass of its own for
//! that reads every weight of the base once more, beside those who decode; as a few more rows of some
//! steps they take next to nothing. A row's scores do not depend on its company.

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

use crate::{gap::Gap, schedule::LEAST_BITE};

/// How long one waits for a step to begin, before doing without.
const PATIENCE: Duration = Duration::from_millis(500);

/// An adapter and a text of at least two tokens. Several texts come one after the other, and each a
/// few tokens at a time: everybody waits for the rows of a step, so the fewer, the better.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) lora: Lora,
    text: Vec<u32>,
    /// Rows of a step at most.
    bite: usize,
    /// Of the tokens that have been run.
    cache: Option<KvCache>,
    /// log p(next token | those before) for the tokens of the text after its first, as far as they
    /// have been scored.
    pub(crate) scores: Vec<f32>,
}

/// Where a visit waits for the next step, and whoever brings it for the time between steps.
#[derive(Debug, Default)]
pub(crate) struct Door {
    slot: Mutex<Option<(Visit, Sender<Visit>)>>,
    gap: Gap,
}

impl Door {
    /// Waits for a step to take the visit along. It comes back with no more scores when none did, or
    /// when that step failed; nothing comes back when the engine ends.
    pub(crate) fn visit(&self, visit: Visit) -> Option<Visit> {
        // Who is along with a step has no use for the time before it.
        self.gap.leave();
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

    pub(crate) fn gap(&self) -> &Gap {
        &self.gap
    }

    /// A visit is put there or taken away whole.
    fn slot(&self) -> MutexGuard<'_, Option<(Visit, Sender<Visit>)>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visit {
    /// A text for a model that takes so many rows at once.
    pub(crate) fn new(lora: Lora, text: Vec<u32>, at_once: usize) -> Self {
        Self { lora, text, bite: LEAST_BITE.max(at_once), cache: None, scores: Vec::new() }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left() == 0
    }

    /// Rows of the next step.
    pub(crate) fn rows(&self) -> usize {
        self.left().min(self.bite)
    }

    /// Nobody asks what follows the last token.
    fn left(&self) -> usize {
        self.text.len() - 1 - self.scores.len()
    }

    /// Joins a batch as its last rows, which all ask for scores.
    pub(crate) fn join(&mut self, batch: &mut Batch, model: &BaseModel) -> Result<Range<usize>> {
        if self.cache.is_none() {
            let decoder = &model.decoder;
            self.cache = Some(KvCache::new(decoder.config(), decoder.device())?);
        }
        let done = self.scores.len();
        Ok(batch.push(&self.text[done..done + self.rows()], done).rows())
    }

    /// What its rows run with.
    pub(crate) fn company(&mut self, rows: Range<usize>) -> (AdapterRun<'_>, Option<&mut KvCache>) {
        (AdapterRun { rows, lora: Some(&self.lora) }, self.cache.as_mut())
    }

    /// Reads the scores over the vocabulary of the rows that it ran, in their order.
    pub(crate) fn read(&mut self, logits: &[f32], vocab: usize) {
        let done = self.scores.len();
        let targets = &self.text[done + 1..=done + self.rows()];
        self.scores.extend(team::map(targets.len(), |nth| {
            token_log_prob(&logits[nth * vocab..(nth + 1) * vocab], targets[nth], 1.0).0
        }));
    }
}
