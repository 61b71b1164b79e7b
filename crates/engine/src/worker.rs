//! The one thread that runs the model: admit, compute a step for everybody, draw, repeat.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, TryRecvError},
    },
};

use understudy_inference::InferenceError;
use understudy_model::{AdapterRun, BaseModel, Batch, KvCache, Result, Tensor};

use crate::{
    Config,
    admission::Admission,
    prefix::PrefixCache,
    sequence::{Fate, Sequence, Submission},
};

/// Beginnings of prompts kept for reuse: one per task and generation that is in use is plenty.
const PREFIXES: usize = 16;

pub(crate) fn run(
    base: &BaseModel,
    config: Config,
    submissions: &Receiver<Submission>,
    waiting: &AtomicUsize,
) {
    let mut admission = Admission::default();
    let mut running: Vec<Sequence<'_>> = Vec::new();
    let mut prefixes = PrefixCache::new(PREFIXES);
    loop {
        let open = receive(submissions, &mut admission, running.is_empty());
        admit(base, config, &mut admission, &mut running, &mut prefixes, waiting);
        if !open && running.is_empty() && admission.is_empty() {
            return;
        }
        if !open {
            // The handle is gone: whoever is left hears why instead of waiting for ever.
            running.iter_mut().for_each(|sequence| sequence.fail(InferenceError::ShuttingDown));
            admission.drain().for_each(|left| left.fail(InferenceError::ShuttingDown));
            return;
        }
        if running.is_empty() {
            continue;
        }
        let stepped =
            catch_unwind(AssertUnwindSafe(|| step(base, config, &mut running, &mut prefixes)));
        let why = match stepped {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the model's computation panicked".to_owned(),
        };
        // Nobody can tell which sequence is at fault, and their caches may be half written.
        for mut sequence in running.drain(..) {
            sequence.fail(InferenceError::Failed(why.clone()));
        }
    }
}

/// Takes in what has been submitted, waiting for it only when there is nothing else to do. False
/// once nobody can submit any more.
fn receive(submissions: &Receiver<Submission>, admission: &mut Admission, idle: bool) -> bool {
    if idle && admission.is_empty() {
        match submissions.recv() {
            Ok(submission) => admission.push(submission),
            Err(_) => return false,
        }
    }
    loop {
        match submissions.try_recv() {
            Ok(submission) => admission.push(submission),
            Err(TryRecvError::Empty) => return true,
            Err(TryRecvError::Disconnected) => return false,
        }
    }
}

fn admit<'a>(
    base: &'a BaseModel,
    config: Config,
    admission: &mut Admission,
    running: &mut Vec<Sequence<'a>>,
    prefixes: &mut PrefixCache,
    waiting: &AtomicUsize,
) {
    let max_positions = base.decoder.config().max_positions;
    loop {
        let reserved = running.iter().map(|sequence| sequence.reserved).sum();
        let next = admission.next(running.len(), reserved, max_positions, config);
        let Some((submission, wanted)) = next else { return };
        waiting.fetch_sub(1, Ordering::Relaxed);
        let generation = submission.adapter.as_ref().map_or("", |a| a.generation.as_str());
        let cache = match prefixes.start(generation, &submission.prompt) {
            Ok(Some(cache)) => Ok(cache),
            Ok(None) => KvCache::new(base.decoder.config(), base.decoder.device()),
            Err(error) => Err(error),
        };
        match cache {
            Ok(cache) => running.extend(Sequence::begin(base, submission, cache, wanted)),
            Err(why) => submission.fail(InferenceError::Failed(why.to_string())),
        }
    }
}

/// One forward pass over everybody's pending tokens, prompts limited to the step's budget.
fn step(
    base: &BaseModel,
    config: Config,
    running: &mut Vec<Sequence<'_>>,
    prefixes: &mut PrefixCache,
) -> Result<()> {
    // A stable order by generation keeps rows of one adapter together.
    running.sort_by(|a, b| a.generation().cmp(b.generation()));
    let taken = share_out(config.prefill_tokens, running);
    let mut batch = Batch::default();
    let mut last_rows = Vec::new();
    for (sequence, count) in running.iter().zip(&taken).filter(|(_, count)| **count > 0) {
        let pending = sequence.pending();
        batch.push(&pending[..*count], sequence.cache.len());
        if *count == pending.len() {
            last_rows.push(batch.rows() as u32 - 1);
        }
    }
    let hidden = forward(base, &batch, running, &taken)?;
    let logits = match last_rows.len() {
        0 => Vec::new(),
        count => {
            let rows = Tensor::from_vec(last_rows, count, base.decoder.device())?;
            base.decoder.logits(&hidden.index_select(&rows, 0)?)?.to_vec2::<f32>()?
        }
    };
    draw(running, &taken, &logits, prefixes)
}

/// How many pending tokens each sequence computes in this step: decoding always goes on, prompts
/// share the budget in order.
fn share_out(budget: usize, running: &[Sequence<'_>]) -> Vec<usize> {
    let mut left = budget;
    let mut taken = Vec::with_capacity(running.len());
    for sequence in running {
        let pending = sequence.pending().len();
        let count = if pending == 1 { 1 } else { pending.min(left) };
        left -= count.min(left);
        taken.push(count);
    }
    taken
}

fn forward(
    base: &BaseModel,
    batch: &Batch,
    running: &mut [Sequence<'_>],
    taken: &[usize],
) -> Result<Tensor> {
    let mut adapters = Vec::new();
    let mut caches = Vec::new();
    let mut row = 0;
    let mut last_generation = None;
    for (sequence, count) in running.iter_mut().zip(taken).filter(|(_, count)| **count > 0) {
        let generation = sequence.generation().to_owned();
        let rows = row..row + count;
        row = rows.end;
        match adapters.last_mut() {
            Some((run, _)) if last_generation.as_ref() == Some(&generation) => {
                let run: &mut std::ops::Range<usize> = run;
                run.end = rows.end;
            }
            _ => adapters.push((rows, sequence.adapter.clone())),
        }
        last_generation = Some(generation);
        caches.push(&mut sequence.cache);
    }
    let runs: Vec<AdapterRun<'_>> = adapters
        .iter()
        .map(|(rows, adapter)| AdapterRun {
            rows: rows.clone(),
            lora: adapter.as_ref().map(|resident| &resident.lora),
        })
        .collect();
    base.decoder.infer(batch, &mut caches, &runs)
}

/// Draws a token for every sequence whose last pending row was computed; drops those that ended.
fn draw(
    running: &mut Vec<Sequence<'_>>,
    taken: &[usize],
    logits: &[Vec<f32>],
    prefixes: &mut PrefixCache,
) -> Result<()> {
    let mut logits = logits.iter();
    let mut fates = Vec::with_capacity(running.len());
    for (sequence, count) in running.iter_mut().zip(taken) {
        let complete = *count > 0 && sequence.pending().is_empty();
        let Some(row) = complete.then(|| logits.next()).flatten() else {
            fates.push(Fate::Running);
            continue;
        };
        if sequence.prompt_is_done() {
            prefixes.keep(sequence.generation(), sequence.prompt(), &sequence.cache)?;
        }
        fates.push(sequence.advance(row));
    }
    let mut fates = fates.into_iter();
    running.retain(|_| fates.next() != Some(Fate::Ended));
    Ok(())
}
