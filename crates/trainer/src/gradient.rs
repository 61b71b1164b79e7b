//! The loss and the gradient of one optimiser step, summed over micro-batches.
//!
//! Every micro-batch is already divided by the counts of the **whole** step, so how a step is cut
//! changes nothing but rounding.

use understudy_model::{Activations, BaseModel, LogProbs, Lora, LoraGrads};

use crate::{
    batching::{MicroBatch, split},
    error::Result,
    objective::{
        Counts, Objective,
        dpo::{PairLogProbs, Preference, PreferenceMetrics},
        sft,
    },
    rows::Example,
};

/// Log-probabilities are trained as they are sampled from the raw distribution.
const TEMPERATURE: f32 = 1.0;

/// What one step measured of itself.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct StepStats {
    pub loss: f64,
    /// Tokens of all rows, prompts included.
    pub tokens: u64,
    /// Mean entropy of the predictions of trained tokens, in nats.
    pub entropy: f64,
    /// Share of trained tokens that were already the likeliest.
    pub token_accuracy: f64,
    /// DPO only.
    pub preference: Option<PreferenceMetrics>,
}

/// Computes the steps of one stage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepGradient<'a> {
    pub base: &'a BaseModel,
    pub objective: &'a Objective,
    pub examples: &'a [Example],
    pub micro_batch_tokens: usize,
}

impl StepGradient<'_> {
    /// Adds the gradient of the step over `members` to `grads`.
    pub(crate) fn accumulate(
        &self,
        members: &[usize],
        lora: &Lora,
        grads: &mut LoraGrads,
    ) -> Result<StepStats> {
        let examples: Vec<&Example> = members.iter().map(|index| &self.examples[*index]).collect();
        let counts = Counts {
            examples: examples.len(),
            wanted: examples.iter().map(|example| example.wanted().completion().len()).sum(),
            trained: examples.iter().map(|example| example.trained_tokens()).sum(),
        };
        let tokens = examples.iter().map(|example| example.tokens() as u64).sum();
        let mut stats = StepStats { tokens, ..StepStats::default() };
        for run in split(&examples, self.micro_batch_tokens) {
            let micro = MicroBatch::of(examples[run.clone()].iter().flat_map(|e| e.rows()));
            self.add_micro_batch(&micro, &members[run], counts, (lora, grads), &mut stats)?;
        }
        Ok(stats)
    }

    fn add_micro_batch(
        &self,
        micro: &MicroBatch,
        members: &[usize],
        counts: Counts,
        (lora, grads): (&Lora, &mut LoraGrads),
        stats: &mut StepStats,
    ) -> Result<()> {
        let decoder = &self.base.decoder;
        // An example larger than the budget still has to fit: keep less of it and recompute.
        let oversized = micro.batch.rows() > self.micro_batch_tokens;
        let keep = if oversized { Activations::LayerInputs } else { Activations::All };
        let (hidden, tape) = decoder.train_forward_keeping(&micro.batch, Some(lora), keep)?;
        let coefficients = match self.objective {
            Objective::Sft => vec![sft::coefficient(counts.wanted); micro.terms.len()],
            Objective::Dpo(preference) => {
                // How much a token moves depends on its whole completion: look first, then push.
                let seen = decoder.log_probs(&hidden, &micro.terms, TEMPERATURE)?;
                push_pairs(preference, micro, members, counts, &seen.log_probs, stats)
            }
        };
        let (seen, d_hidden) =
            decoder.log_probs_grad(&hidden, &micro.terms, &coefficients, TEMPERATURE)?;
        drop(hidden);
        if let Objective::Sft = self.objective {
            let sum = seen.log_probs.iter().map(|lp| f64::from(*lp)).sum();
            stats.loss += sft::loss_share(sum, counts.wanted);
        }
        stats.note_predictions(&seen, counts);
        Ok(decoder.backward(tape, &d_hidden, lora, grads)?)
    }
}

/// Adds a micro-batch of pairs to the step's loss and metrics; returns `∂loss/∂lp` of every term.
fn push_pairs(
    preference: &Preference,
    micro: &MicroBatch,
    members: &[usize],
    counts: Counts,
    log_probs: &[f32],
    stats: &mut StepStats,
) -> Vec<f32> {
    let mut coefficients = vec![0.0; micro.terms.len()];
    for (member, sides) in members.iter().zip(micro.terms_of_row.chunks_exact(2)) {
        let (chosen, rejected) = (sides[0].clone(), sides[1].clone());
        let policy = PairLogProbs::sum(&log_probs[chosen.clone()], &log_probs[rejected.clone()]);
        let push = preference.push(*member, policy, counts);
        coefficients[chosen].fill(push.chosen);
        coefficients[rejected].fill(push.rejected);
        stats.loss += push.loss;
        let reference = preference.reference[*member];
        let metrics = stats.preference.get_or_insert_default();
        metrics.add(preference.beta, policy, reference, counts.examples);
    }
    coefficients
}

impl StepStats {
    fn note_predictions(&mut self, seen: &LogProbs, counts: Counts) {
        let share = 1.0 / counts.trained.max(1) as f64;
        self.entropy += share * seen.entropy.iter().map(|e| f64::from(*e)).sum::<f64>();
        self.token_accuracy += share * seen.is_greedy.iter().filter(|right| **right).count() as f64;
    }
}
