//! What DPO holds on to: the policy before the stage, as log-probabilities computed once.

use std::{ops::ControlFlow, time::Instant};

use understudy_manifest::Method;
use understudy_model::{BaseModel, Lora};

use crate::{
    batching::{MicroBatch, split},
    error::{Result, TrainError},
    objective::dpo::PairLogProbs,
    pace::Pace,
    request::{OnProgress, Phase, Progress, Reference, TrainRequest},
    rows::Example,
};

/// Asks a DPO stage's reference about every pair; there is nothing to ask for SFT.
pub(crate) fn ask(
    request: &TrainRequest<'_>,
    start: &Lora,
    examples: &[Example],
    on_progress: &mut OnProgress<'_>,
) -> Result<Vec<PairLogProbs>> {
    if request.stage.method == Method::Sft {
        return Ok(Vec::new());
    }
    let adapter = match request.options.reference {
        Reference::Start => request.start.map(|_| start),
        Reference::AdapterOff => None,
    };
    let begun = Instant::now();
    let mut advance = |done: usize| {
        let tokens: usize = examples[..done].iter().map(Example::tokens).sum();
        let pace = Pace { units: done as u64, tokens: tokens as u64, time: begun.elapsed() };
        let progress = Progress {
            method: request.stage.method,
            phase: Phase::Reference,
            done: done as u64,
            total: examples.len() as u64,
            loss: None,
            tokens_per_second: pace.tokens_per_second(),
            remaining: pace.remaining((examples.len() - done) as u64),
        };
        match on_progress(&progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(TrainError::Interrupted { step: 0 }),
        }
    };
    let budget = request.options.micro_batch_tokens;
    log_probs(request.base, adapter, examples, budget, &mut advance)
}

/// The log-probabilities a stage's reference gives its pairs, in the order of the examples.
/// `advance` is told how many examples are done and says whether to go on.
pub(crate) fn log_probs(
    base: &BaseModel,
    reference: Option<&Lora>,
    examples: &[Example],
    micro_batch_tokens: usize,
    advance: &mut dyn FnMut(usize) -> Result<()>,
) -> Result<Vec<PairLogProbs>> {
    let every: Vec<&Example> = examples.iter().collect();
    let mut pairs = Vec::with_capacity(examples.len());
    for run in split(&every, micro_batch_tokens) {
        let micro = MicroBatch::of(examples[run].iter().flat_map(Example::rows));
        let hidden = base.decoder.hidden(&micro.batch, reference)?;
        let seen = base.decoder.log_probs(&hidden, &micro.terms, 1.0)?;
        pairs.extend(micro.terms_of_row.chunks_exact(2).map(|sides| {
            let side = |index: usize| &seen.log_probs[sides[index].clone()];
            PairLogProbs::sum(side(0), side(1))
        }));
        advance(pairs.len())?;
    }
    Ok(pairs)
}
