//! Texts that are scored along with a step of others.
//!
//! What a new adapter says to its probes has to be seen before it is served. A pass of its own for
//! that reads every weight of the base once more, beside those who decode; as a few more rows of some
//! steps they take next to nothing. What its rows come to is taken along, and scored between steps by
//! whoever brought them. A row's scores do not depend on its company.

use std::{
    ops::Range,
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};

use understudy_model::{
    AdapterRun, BaseModel, Batch, KvCache, Lora, Result, Tensor, token_log_prob,
};
use understudy_team as team;

use crate::gap::Gap;

/// How long one waits for a step to begin, before doing without.
const PATIENCE: Duration = Duration::from_millis(500);

/// Rows of a step where each takes its time: twice what a prompt gets, because a load is as long as
/// its visits, and no step with a guest is given to a load's loops as well.
const BITE: usize = 8;

/// An adapter and texts of at least two tokens each, some tokens with every step: everybody waits for
/// the rows of a step, and so no more than take next to no longer.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) lora: Lora,
    texts: Vec<Text>,
    /// Rows of a step at most.
    bite: usize,
}

#[derive(Debug)]
struct Text {
    tokens: Vec<u32>,
    /// Of the tokens that have been run.
    cache: Option<KvCache>,
    /// How many those are.
    done: usize,
    /// Their hidden states after the final norm, one after the other.
    hidden: Vec<f32>,
}

/// A visit, and where it is to be sent back.
pub(crate) type Guest = (Visit, Sender<Visit>);

/// Where a visit waits for the next step, and whoever brings it for the time between steps.
#[derive(Debug, Default)]
pub(crate) struct Door {
    slot: Mutex<Option<Guest>>,
    gap: Gap,
}

impl Door {
    /// Waits for steps to take the visit along, until it is over. It comes back before when none did
    /// for long, or when a step failed; nothing comes back when the engine ends.
    pub(crate) fn visit(&self, visit: Visit) -> Option<Visit> {
        let (told, answer) = channel();
        *self.slot() = Some((visit, told));
        loop {
            match answer.recv_timeout(PATIENCE) {
                Ok(visit) => return Some(visit),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some((visit, _)) = self.slot().take() {
                        return Some(visit);
                    }
                }
            }
        }
    }

    /// After a step before which so many rows were left: the next one takes the guest along without
    /// anybody having to wake up for that. Who is over, or got no further, goes home.
    pub(crate) fn see_off(&self, (visit, told): Guest, before: usize) {
        if visit.is_over() || visit.left() == before {
            // Whoever asked may have ended since.
            let _gone = told.send(visit);
        } else {
            *self.slot() = Some((visit, told));
        }
    }

    pub(crate) fn take(&self) -> Option<Guest> {
        self.slot().take()
    }

    pub(crate) fn gap(&self) -> &Gap {
        &self.gap
    }

    /// A visit is put there or taken away whole.
    fn slot(&self) -> MutexGuard<'_, Option<Guest>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Visit {
    /// Texts for a model that takes so many rows at once: as many more make a step no longer.
    pub(crate) fn new(lora: Lora, texts: &[Vec<u32>], at_once: usize) -> Self {
        let text = |tokens: &Vec<u32>| Text::of(tokens.clone());
        let bite = if at_once > 1 { at_once } else { BITE };
        Self { lora, texts: texts.iter().map(text).collect(), bite }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left() == 0
    }

    /// Rows of the next step.
    pub(crate) fn rows(&self) -> usize {
        self.left().min(self.bite)
    }

    pub(crate) fn left(&self) -> usize {
        self.texts.iter().map(Text::left).sum()
    }

    /// The adapter, of a visit that led nowhere.
    pub(crate) fn into_lora(self) -> Lora {
        self.lora
    }

    /// The adapter, and log p(next token | those before) for the tokens of every text after its first.
    pub(crate) fn into_scores(mut self, model: &BaseModel) -> Result<(Lora, Vec<Vec<f32>>)> {
        let (width, vocab) = (model.decoder.config().hidden, model.decoder.config().vocab);
        let hidden: Vec<f32> =
            self.texts.iter_mut().flat_map(|text| text.hidden.drain(..)).collect();
        let rows = hidden.len() / width;
        let hidden = Tensor::from_vec(hidden, (rows, width), model.decoder.device())?;
        let mut logits = Vec::new();
        model.decoder.logits_into(&hidden, &mut logits)?;
        let targets: Vec<u32> =
            self.texts.iter().flat_map(|text| text.tokens.iter().skip(1).copied()).collect();
        let all = team::map(rows, |row| {
            token_log_prob(&logits[row * vocab..(row + 1) * vocab], targets[row], 1.0).0
        });
        let mut rest = &all[..];
        let mut of_text = |text: &Text| {
            let (scores, later) = rest.split_at(text.done);
            rest = later;
            scores.to_vec()
        };
        let scores = self.texts.iter().map(&mut of_text).collect();
        Ok((self.lora, scores))
    }

    /// Joins a batch as its last rows.
    pub(crate) fn join(&mut self, batch: &mut Batch, model: &BaseModel) -> Result<Range<usize>> {
        let first = batch.rows();
        for (text, rows) in self.seats() {
            if text.cache.is_none() {
                text.cache = Some(model.decoder.cache()?);
            }
            batch.push(&text.tokens[text.done..text.done + rows], text.done);
        }
        Ok(first..batch.rows())
    }

    /// What its rows run with.
    pub(crate) fn company(&mut self, rows: Range<usize>) -> (AdapterRun<'_>, Vec<&mut KvCache>) {
        let mut left = self.bite;
        let caches = self.texts.iter_mut().filter(|text| text.bite(&mut left) > 0);
        let caches = caches.filter_map(|text| text.cache.as_mut()).collect();
        (AdapterRun { rows, lora: Some(&self.lora) }, caches)
    }

    /// Takes the hidden states `[rows, hidden]` of the rows that it ran, in their order.
    pub(crate) fn keep(&mut self, hidden: &Tensor) -> Result<()> {
        let width = hidden.dim(1)?;
        let hidden = hidden.flatten_all()?.to_vec1::<f32>()?;
        let mut rest = &hidden[..];
        for (text, rows) in self.seats() {
            let (own, later) = rest.split_at(rows * width);
            rest = later;
            text.hidden.extend_from_slice(own);
            text.done += rows;
        }
        Ok(())
    }

    /// The texts that run in the next step, and how many rows each.
    fn seats(&mut self) -> impl Iterator<Item = (&mut Text, usize)> {
        let mut left = self.bite;
        let texts = self.texts.iter_mut().map(move |text| {
            let rows = text.bite(&mut left);
            (text, rows)
        });
        texts.filter(|(_, rows)| *rows > 0)
    }
}

impl Text {
    fn of(tokens: Vec<u32>) -> Self {
        Self { tokens, cache: None, done: 0, hidden: Vec::new() }
    }

    /// Nobody asks what follows the last token.
    fn left(&self) -> usize {
        self.tokens.len() - 1 - self.done
    }

    /// Its rows of a step that has room for so many, which are fewer then.
    fn bite(&self, room: &mut usize) -> usize {
        let rows = self.left().min(*room);
        *room -= rows;
        rows
    }
}
