//! The loss and the gradient of one optimiser step, summed over micro-batches.
//!
//! Every micro-batch is already divided by the counts of the **whole** step, so how a step is cut
//! changes nothing but rounding.

use understudy_manifest::{self as manifest, GrpoSettings, LabelLoss, LabelSettings};
use understudy_model::{Activations, BaseModel, Dropout, LogProbs, Lora, LoraGrads};
use understudy_objective::{
    ObjectiveError, Side,
    label::{self, Label, LabelCounts, LabelMetrics},
    policy::{self, PolicyCounts, PolicyTally, Sample},
    preference::{self, PairCounts, PreferenceMetrics},
};

use crate::{
    batching::{MicroBatch, split},
    error::Result,
    reference::Anchor,
    rows::{Advantage, Example, Kind, Row},
};

/// What one step measured of itself.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct StepStats {
    pub loss: f64,
    /// Tokens that ran through the model, prompts included.
    pub tokens: u64,
    /// Mean entropy of the predictions of trained tokens, in nats.
    pub entropy: f64,
    /// Share of trained tokens that were already the likeliest.
    pub token_accuracy: f64,
    pub pairs: Option<PreferenceMetrics>,
    pub labels: Option<LabelMetrics>,
    pub policy: Option<PolicyTally>,
}

/// What the sums of one optimiser step are divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    examples: usize,
    rows: usize,
    /// Tokens that are to become likelier: every completion of SFT, the chosen ones of DPO.
    wanted: usize,
    /// Tokens with a coefficient: the same, and the rejected ones.
    trained: usize,
    desirable: usize,
    micro_batches: usize,
}

/// Computes the steps of one stage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepGradient<'a> {
    pub base: &'a BaseModel,
    pub objective: &'a manifest::Objective,
    /// What KTO's baseline is measured against.
    pub anchor: Anchor<'a>,
    pub micro_batch_tokens: usize,
    /// An example of more tokens keeps only what enters a layer, and computes the rest again.
    pub recompute_above: usize,
    /// Of the LoRA branch; the seed is this step's own.
    pub dropout: (f64, u64),
}

impl StepGradient<'_> {
    /// Adds the gradient of the step over `examples` to `grads`. Where the model's numbers are no
    /// longer finite the loss is not either, and there is no gradient to trust.
    pub(crate) fn accumulate(
        &self,
        examples: &[&Example],
        lora: &Lora,
        grads: &mut LoraGrads,
    ) -> Result<StepStats> {
        let runs = split(examples, self.micro_batch_tokens);
        let counts = Counts::of(examples, runs.len());
        let mut stats = StepStats::default();
        let baseline = match self.objective {
            manifest::Objective::Kto(settings) if settings.loss == LabelLoss::Kto => {
                self.baseline(examples, lora, &mut stats)?
            }
            _ => 0.0,
        };
        for (index, run) in runs.into_iter().enumerate() {
            let part = Part { examples: &examples[run], index, counts, baseline };
            self.add_micro_batch(&part, (lora, grads), &mut stats)?;
            if !stats.loss.is_finite() {
                break;
            }
        }
        Ok(stats)
    }

    fn add_micro_batch(
        &self,
        part: &Part<'_>,
        (lora, grads): (&Lora, &mut LoraGrads),
        stats: &mut StepStats,
    ) -> Result<()> {
        let decoder = &self.base.decoder;
        let micro = MicroBatch::of(part.examples.iter().copied());
        stats.tokens += part.examples.iter().map(|example| example.tokens() as u64).sum::<u64>();
        // An example that is too large still has to fit: keep less of it and recompute.
        let oversized = micro.batch.rows() > self.recompute_above;
        let keep = if oversized { Activations::LayerInputs } else { Activations::All };
        let (rate, seed) = self.dropout;
        let dropout = Dropout::new(rate as f32, seed.wrapping_add(part.index as u64))?;
        let batch = &micro.batch;
        let (hidden, tape) = decoder.train_forward_dropping(batch, Some(lora), keep, dropout)?;
        let temperature = temperature(self.objective);
        let (seen, d_hidden) = if let manifest::Objective::Sft { .. } = self.objective {
            // Every token counts the same, whatever the others are: one look is enough.
            let coefficients = vec![part.counts.imitation(); micro.terms.len()];
            decoder.log_probs_grad(&hidden, &micro.terms, &coefficients, temperature)?
        } else {
            // How much a token moves depends on its whole completion: look first, then push.
            let seen = decoder.log_probs(&hidden, &micro.terms, temperature)?;
            let Some(coefficients) = self.push(part, &micro, &seen.log_probs, stats)? else {
                stats.loss = f64::NAN;
                return Ok(());
            };
            decoder.log_probs_grad(&hidden, &micro.terms, &coefficients, temperature)?
        };
        drop(hidden);
        if let manifest::Objective::Sft { .. } = self.objective {
            let sum: f64 = seen.log_probs.iter().map(|lp| f64::from(*lp)).sum();
            stats.loss -= sum / part.counts.wanted.max(1) as f64;
        }
        stats.note_predictions(&seen, part.counts);
        Ok(decoder.backward(tape, &d_hidden, lora, grads)?)
    }

    /// Adds a micro-batch to the step's loss and metrics; returns `∂loss/∂lp` of every term, or
    /// nothing when a log-probability is not a finite number.
    fn push(
        &self,
        part: &Part<'_>,
        micro: &MicroBatch,
        log_probs: &[f32],
        stats: &mut StepStats,
    ) -> Result<Option<Vec<f32>>> {
        let mut coefficients = vec![0.0; micro.terms.len()];
        let mut places = micro.terms_of_row.iter().cloned();
        for example in part.examples {
            let own: Vec<_> = places.by_ref().take(example.rows.len()).collect();
            let rows: Vec<Seen<'_>> = example
                .rows
                .iter()
                .zip(&own)
                .map(|(row, place)| Seen { row, log_probs: &log_probs[place.clone()] })
                .collect();
            let pushed = match self.push_example(part, micro, example, &rows, stats) {
                Ok(pushed) => pushed,
                Err(ObjectiveError::NotFinite { .. }) => return Ok(None),
                Err(other) => return Err(other.into()),
            };
            for (place, pushed) in own.into_iter().zip(pushed) {
                for (to, from) in coefficients[place].iter_mut().zip(pushed) {
                    *to = from as f32;
                }
            }
        }
        Ok(Some(coefficients))
    }

    /// `∂loss/∂lp` of every trained token of every row of one example.
    fn push_example(
        &self,
        part: &Part<'_>,
        micro: &MicroBatch,
        example: &Example,
        rows: &[Seen<'_>],
        stats: &mut StepStats,
    ) -> Result<Vec<Vec<f64>>, ObjectiveError> {
        match (self.objective, &example.kind, rows) {
            (manifest::Objective::Dpo(settings), Kind::Prefer, [chosen, rejected]) => {
                let counts =
                    PairCounts { pairs: part.counts.examples, chosen_tokens: part.counts.wanted };
                let pushed = preference::pair(settings, chosen.side(), rejected.side(), counts)?;
                stats.loss += pushed.loss;
                *stats.pairs.get_or_insert_default() += pushed.metrics;
                Ok(vec![pushed.chosen, pushed.rejected])
            }
            (manifest::Objective::Kto(settings), Kind::Judge { wanted, weight }, [row]) => {
                let label = Label { desirable: *wanted, weight: *weight };
                let pushed = push_label(settings, label, row, part)?;
                stats.loss += pushed.loss;
                *stats.labels.get_or_insert_default() += pushed.metrics;
                Ok(vec![pushed.coefficients])
            }
            (manifest::Objective::Grpo(settings), Kind::Compare { advantages }, rows) => {
                let counts = PolicyCounts {
                    replies: part.counts.rows,
                    tokens: part.counts.trained,
                    micro_batch_tokens: micro.terms.len(),
                    micro_batches: part.counts.micro_batches,
                };
                rows.iter()
                    .zip(advantages)
                    .map(|(row, advantage)| {
                        let sample = row.sample(advantage, settings);
                        let pushed = policy::sample(&settings.policy, sample, counts)?;
                        stats.loss += pushed.loss;
                        *stats.policy.get_or_insert_default() += pushed.tally;
                        Ok(pushed.coefficients)
                    })
                    .collect()
            }
            // A stage's examples are made by its own method, so this is another's: it moves nothing.
            _ => Ok(rows.iter().map(|row| vec![0.0; row.log_probs.len()]).collect()),
        }
    }

    /// KTO's baseline: how far the policy has drifted on replies that belong to other prompts.
    fn baseline(&self, examples: &[&Example], lora: &Lora, stats: &mut StepStats) -> Result<f64> {
        let next = |index: usize| &examples[(index + 1) % examples.len()].rows[0];
        let mismatched: Vec<Example> = examples
            .iter()
            .enumerate()
            .map(|(index, example)| {
                let row = &example.rows[0];
                let prompt = &row.ids()[..row.prompt_len()];
                Example::imitate(vec![Row::new(prompt, &next(index).said())])
            })
            .collect();
        let ask = |lora: Option<&Lora>| -> Result<Vec<f64>> {
            let anchor = Anchor { base: self.base, lora, temperature: 1.0 };
            let rows = anchor.log_probs(&mismatched, self.micro_batch_tokens, &mut |_| Ok(()))?;
            Ok(rows.iter().map(|row| row.iter().map(|lp| f64::from(*lp)).sum()).collect())
        };
        stats.tokens += mismatched.iter().map(|example| example.tokens() as u64).sum::<u64>();
        let (policy, reference) = (ask(Some(lora))?, ask(self.anchor.lora)?);
        let ratios: Vec<f64> = policy.iter().zip(reference).map(|(p, r)| p - r).collect();
        Ok(label::baseline(&ratios))
    }
}

/// One micro-batch of a step.
struct Part<'a> {
    examples: &'a [&'a Example],
    index: usize,
    counts: Counts,
    baseline: f64,
}

/// A row and what the policy says of its trained tokens.
struct Seen<'a> {
    row: &'a Row,
    log_probs: &'a [f32],
}

impl<'a> Seen<'a> {
    fn side(&self) -> Side<'a> {
        Side { log_probs: self.log_probs, reference: known(&self.row.known.reference) }
    }

    fn sample(&self, advantage: &'a Advantage, settings: &GrpoSettings) -> Sample<'a> {
        let known_of = &self.row.known;
        // The policy that was sampled from is the one the ratio is to: as the trainer computed it
        // when it looked before the first update, else as it is right now.
        let old = known(&known_of.old);
        let sampler = known(&known_of.sampler);
        let reference = known(&known_of.reference).filter(|_| settings.policy.kl.beta > 0.0);
        let advantage = match advantage {
            Advantage::Row(advantage) => policy::Advantage::Reply(*advantage),
            Advantage::Tokens(advantages) => policy::Advantage::Tokens(advantages),
        };
        Sample { log_probs: self.log_probs, old, sampler, reference, mask: None, advantage }
    }
}

fn known(values: &[f32]) -> Option<&[f32]> {
    (!values.is_empty()).then_some(values)
}

fn push_label(
    settings: &LabelSettings,
    label: Label,
    row: &Seen<'_>,
    part: &Part<'_>,
) -> Result<label::LabelGradient, ObjectiveError> {
    let counts = LabelCounts {
        desirable: part.counts.desirable,
        undesirable: part.counts.examples - part.counts.desirable,
    };
    label::label(settings, label, row.side(), part.baseline, counts)
}

/// What logits are divided by: that of the sampler, for what was sampled.
pub(crate) fn temperature(objective: &manifest::Objective) -> f32 {
    match objective {
        manifest::Objective::Grpo(settings) => settings.temperature as f32,
        _ => 1.0,
    }
}

impl Counts {
    fn of(examples: &[&Example], micro_batches: usize) -> Self {
        let mut counts = Self { examples: examples.len(), micro_batches, ..Self::default() };
        for example in examples {
            counts.rows += example.rows.len();
            counts.wanted += example.wanted_tokens();
            counts.trained += example.trained_tokens();
            counts.desirable +=
                usize::from(matches!(example.kind, Kind::Judge { wanted: true, .. }));
        }
        counts
    }

    /// `∂loss/∂lp` of every imitated token, where `loss = −(Σ lp) / tokens` and `tokens` counts the
    /// **whole optimiser step**. Dividing by a micro-batch's own count and averaging afterwards is
    /// another loss as soon as the lengths differ.
    fn imitation(&self) -> f32 {
        (-1.0 / self.wanted.max(1) as f64) as f32
    }
}

impl StepStats {
    fn note_predictions(&mut self, seen: &LogProbs, counts: Counts) {
        let share = 1.0 / counts.trained.max(1) as f64;
        self.entropy += share * seen.entropy.iter().map(|e| f64::from(*e)).sum::<f64>();
        self.token_accuracy += share * seen.is_greedy.iter().filter(|right| **right).count() as f64;
    }
}
