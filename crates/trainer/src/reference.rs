//! What a stage holds on to: a policy that does not move, asked for its log-probabilities.

use understudy_manifest::ReferencePolicy;
use understudy_model::{BaseModel, Lora};

use crate::{
    batching::{MicroBatch, split},
    error::Result,
    gradient::temperature,
    request::TrainRequest,
    rows::Example,
};

/// A policy that stands still.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Anchor<'a> {
    pub base: &'a BaseModel,
    /// `None` is the base.
    pub lora: Option<&'a Lora>,
    pub temperature: f32,
}

impl<'a> Anchor<'a> {
    /// The reference a request names. A fresh adapter changes nothing yet, so that the policy it
    /// starts from is the base.
    pub(crate) fn of(request: &TrainRequest<'a>) -> Self {
        let lora = match request.stage.reference {
            ReferencePolicy::Start => request.start,
            ReferencePolicy::AdapterOff => None,
        };
        let temperature = temperature(&request.stage.objective);
        Self { base: request.base, lora, temperature }
    }

    /// Log-probabilities of the trained tokens of every row of the examples, in order. `advance` is
    /// told how many examples are done and says whether to go on.
    pub(crate) fn log_probs(
        &self,
        examples: &[Example],
        micro_batch_tokens: usize,
        advance: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<Vec<Vec<f32>>> {
        let every: Vec<&Example> = examples.iter().collect();
        let decoder = &self.base.decoder;
        let (mut rows, mut done) = (Vec::new(), 0);
        for run in split(&every, micro_batch_tokens) {
            done = run.end;
            let micro = MicroBatch::of(&examples[run]);
            let hidden = decoder.hidden(&micro.batch, self.lora)?;
            let seen = decoder.log_probs(&hidden, &micro.terms, self.temperature)?;
            let places = micro.terms_of_row.into_iter();
            rows.extend(places.map(|place| seen.log_probs[place].to_vec()));
            advance(done)?;
        }
        debug_assert_eq!(done, examples.len(), "runs cover every example");
        Ok(rows)
    }
}

/// Every row of some examples, in order.
pub(crate) fn rows_mut(examples: &mut [Example]) -> impl Iterator<Item = &mut crate::rows::Row> {
    examples.iter_mut().flat_map(|example| &mut example.rows)
}
