//! What DPO holds on to: the policy before the stage, as log-probabilities computed once.

use understudy_model::{BaseModel, Lora};

use crate::{
    batching::{MicroBatch, split},
    error::Result,
    objective::dpo::PairLogProbs,
    rows::Example,
};

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
