//! What must not change the loss or the gradient, and what the two must agree on.

use serde_json::{Value, json};
use understudy_manifest::Objective;
use understudy_model::{BaseModel, Lora, LoraGrads};

use super::fixtures::{base, labels, lora, moved, pairs, request, sft, stage};
use crate::{
    gradient::{StepGradient, StepStats},
    reference::{Anchor, rows_mut},
    rows::{Advantage, Example, Examples, Kind, Row},
};

/// An objective over a few uneven examples.
struct Case {
    base: BaseModel,
    objective: Objective,
    examples: Vec<Example>,
}

fn imitation() -> Case {
    let base = base();
    let examples = Examples::of_sft(&base, &sft(6), 1024).unwrap().kept;
    Case { base, objective: stage(json!({"method": "sft"})).objective, examples }
}

fn preference(reference: Option<&Lora>, settings: Value) -> Case {
    let base = base();
    let examples = Examples::of_pairs(&base, &pairs(5), 1024).unwrap().kept;
    let mut written = json!({"method": "dpo", "beta": 0.5});
    written.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    Case { base, objective: stage(written).objective, examples }.anchored(reference)
}

fn judgement(loss: &str) -> Case {
    let base = base();
    let examples = Examples::of_labels(&base, &labels(5), 1024).unwrap().kept;
    let objective = stage(json!({"method": "kto", "loss": loss})).objective;
    Case { base, objective, examples }.anchored(None)
}

/// Two groups of attempts of different lengths; one has an advantage for every token.
fn comparison(settings: Value) -> Case {
    let base = base();
    let group = |prompt: &[u32], shift: u32| {
        let attempts = [vec![7, 8, 9 + shift], vec![7, 30], vec![50 + shift, 2, 3, 4, 5]];
        let advantages =
            vec![Advantage::Row(1.0), Advantage::Tokens(vec![-0.5, 0.25]), Advantage::Row(-0.8)];
        let rows = attempts.iter().map(|attempt| {
            let mut row = Row::new(prompt, attempt);
            row.known.sampler = (0..attempt.len()).map(|at| -4.0 - 0.3 * at as f32).collect();
            row
        });
        Example { rows: rows.collect(), kind: Kind::Compare { advantages } }
    };
    let examples = vec![group(&[1, 2, 3, 4, 5, 6], 0), group(&[11, 12, 13, 14, 15], 1)];
    let mut written = json!({"method": "grpo", "rewards": ["exact"], "temperature": 0.7});
    written.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    Case { base, objective: stage(written).objective, examples }.anchored(None)
}

/// Cases of every kind of loss.
fn all_kinds() -> Vec<Case> {
    vec![
        imitation(),
        preference(None, json!({})),
        preference(None, json!({"sft_weight": 0.3})),
        preference(None, json!({"loss": "orpo"})),
        judgement("kto"),
        judgement("apo_zero_unpaired"),
        comparison(json!({})),
        comparison(json!({
            "loss": "gspo", "epsilon_low": 0.2, "epsilon_high": 0.28, "kl": {"beta": 0.0},
        })),
        comparison(json!({"aggregation": "dr_grpo", "correction": {"mode": "off"}})),
    ]
}

impl Case {
    /// With what a reference says of every row.
    fn anchored(mut self, reference: Option<&Lora>) -> Self {
        let temperature = crate::gradient::temperature(&self.objective);
        let anchor = Anchor { base: &self.base, lora: reference, temperature };
        let rows = anchor.log_probs(&self.examples, 200, &mut |_| Ok(())).unwrap();
        rows_mut(&mut self.examples).zip(rows).for_each(|(row, lps)| row.known.reference = lps);
        self
    }

    fn gradient(&self, adapter: &Lora, members: &[usize], budget: usize) -> (StepStats, LoraGrads) {
        let step = StepGradient {
            base: &self.base,
            objective: &self.objective,
            anchor: Anchor { base: &self.base, lora: None, temperature: 1.0 },
            micro_batch_tokens: budget,
            recompute_above: budget,
            dropout: (0.0, 0),
        };
        let examples: Vec<&Example> = members.iter().map(|index| &self.examples[*index]).collect();
        let mut grads = adapter.zero_grads();
        let stats = step.accumulate(&examples, adapter, &mut grads).unwrap();
        (stats, grads)
    }

    fn all(&self) -> Vec<usize> {
        (0..self.examples.len()).collect()
    }
}

fn norm(values: impl IntoIterator<Item = f32>) -> f64 {
    values.into_iter().map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt()
}

/// ‖a − b‖ / ‖b‖
fn distance(a: &[f32], b: &[f32]) -> f64 {
    norm(a.iter().zip(b).map(|(a, b)| a - b)) / norm(b.iter().copied())
}

#[test]
fn the_cut_into_micro_batches_changes_nothing() {
    for case in all_kinds() {
        let adapter = moved(&case.base);
        let (whole, expected) = case.gradient(&adapter, &case.all(), 1 << 20);
        // A budget of one token also takes the path that keeps less and recomputes.
        for budget in [1, 60, 150] {
            let (stats, grads) = case.gradient(&adapter, &case.all(), budget);
            let close = 1e-5 * whole.loss.abs().max(0.1);
            assert!((stats.loss - whole.loss).abs() < close, "{:?} {budget}", case.objective);
            assert!((stats.entropy - whole.entropy).abs() < 1e-5);
            assert!(distance(grads.values(), expected.values()) < 1e-5, "{budget}");
        }
    }
}

#[test]
fn the_order_of_examples_in_a_step_changes_nothing() {
    // KTO's baseline pairs every prompt with the reply of its neighbour, so there order counts.
    let is_free = |case: &Case| !matches!(case.objective, Objective::Kto(_));
    for case in all_kinds().into_iter().filter(is_free) {
        let adapter = moved(&case.base);
        let (whole, expected) = case.gradient(&adapter, &case.all(), 150);
        let backwards: Vec<usize> = case.all().into_iter().rev().collect();
        let (stats, grads) = case.gradient(&adapter, &backwards, 150);
        assert!((stats.loss - whole.loss).abs() < 1e-5 * whole.loss.abs().max(0.1));
        assert!(distance(grads.values(), expected.values()) < 1e-5);
    }
}

#[test]
fn the_loss_of_imitation_is_the_mean_over_completion_tokens_and_no_others() {
    let case = imitation();
    let adapter = moved(&case.base);
    let (mut sum, mut count) = (0.0, 0);
    for example in &case.examples {
        let row = &example.rows[0];
        let batch = understudy_model::Batch::of(&[row.ids()]);
        let hidden = case.base.decoder.hidden(&batch, Some(&adapter)).unwrap();
        let logits = case.base.decoder.logits(&hidden).unwrap().to_vec2::<f32>().unwrap();
        for position in row.prompt_len()..row.ids().len() {
            let scores = &logits[position - 1];
            let target = row.ids()[position] as usize;
            let total: f64 = scores.iter().map(|score| f64::from(*score).exp()).sum();
            sum -= f64::from(scores[target]) - total.ln();
            count += 1;
        }
    }
    let (stats, _) = case.gradient(&adapter, &case.all(), 150);
    let expected = sum / f64::from(count);
    assert!((stats.loss - expected).abs() < 1e-5 * expected, "{} {expected}", stats.loss);
}

#[test]
fn what_rows_share_may_run_once_or_apart() {
    for case in all_kinds() {
        let adapter = moved(&case.base);
        let rows = |examples: &[Example]| -> usize {
            let micro = crate::batching::MicroBatch::of(examples);
            micro.batch.rows()
        };
        let apart: usize =
            case.examples.iter().flat_map(|e| &e.rows).map(|row| row.ids().len() - 1).sum();
        if case.examples[0].rows.len() > 1 {
            assert!(rows(&case.examples) < apart, "something is shared");
        }
        let anchor = Anchor { base: &case.base, lora: Some(&adapter), temperature: 1.0 };
        let together = anchor.log_probs(&case.examples, 1 << 20, &mut |_| Ok(())).unwrap();
        let alone = |row: &Row| {
            let example = Example::imitate(vec![row.clone()]);
            anchor.log_probs(&[example], 1 << 20, &mut |_| Ok(())).unwrap().remove(0)
        };
        let each = case.examples.iter().flat_map(|example| &example.rows).map(alone);
        for (together, alone) in together.iter().zip(each) {
            for (a, b) in together.iter().zip(&alone) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
    }
}

#[test]
fn the_gradient_predicts_how_the_loss_changes() {
    for mut case in all_kinds() {
        let adapter = moved(&case.base);
        if let Objective::Kto(settings) = &mut case.objective {
            // No gradient flows through KTO's baseline, so its loss is not the integral of it.
            settings.loss = understudy_manifest::LabelLoss::ApoZeroUnpaired;
        }
        // A ratio to the policy of the moment has a derivative but no slope: give it a past.
        let temperature = crate::gradient::temperature(&case.objective);
        let anchor = Anchor { base: &case.base, lora: Some(&adapter), temperature };
        let old = anchor.log_probs(&case.examples, 200, &mut |_| Ok(())).unwrap();
        rows_mut(&mut case.examples).zip(old).for_each(|(row, lps)| row.known.old = lps);
        let (_, grads) = case.gradient(&adapter, &case.all(), 150);
        let size = norm(grads.values().iter().copied());
        let loss_at = |distance: f64| {
            let mut adapter = adapter.clone();
            for (value, gradient) in adapter.values_mut().iter_mut().zip(grads.values()) {
                *value += (distance * f64::from(*gradient) / size) as f32;
            }
            case.gradient(&adapter, &case.all(), 150).0.loss
        };
        // Along the gradient itself the slope is its norm.
        let slope = (loss_at(1e-3) - loss_at(-1e-3)) / 2e-3;
        let objective = &case.objective;
        assert!((slope - size).abs() < 5e-3 * size, "{slope} {size} {objective:?}");
    }
}

#[test]
fn a_fresh_adapter_loses_ln_2_and_moves_only_b() {
    let case = preference(None, json!({}));
    let (stage, lora) = (stage(json!({"method": "dpo"})), lora());
    let adapter = request(&case.base, &stage, &lora).starting_adapter().unwrap();
    let (stats, grads) = case.gradient(&adapter, &case.all(), 150);
    assert!((stats.loss - std::f64::consts::LN_2).abs() < 1e-6, "{}", stats.loss);
    assert!(stats.pairs.unwrap().margin.abs() < 1e-4);
    for (parameter, gradient) in grads.tensors() {
        let moves = gradient.iter().any(|value| *value != 0.0);
        assert_eq!(moves, parameter.is_b, "{}", parameter.name);
    }
}

#[test]
fn swapping_chosen_and_rejected_turns_the_gradient_around() {
    let adapter = moved(&base());
    // Against itself as reference the margin is zero, and the push the same either way.
    let case = preference(Some(&adapter), json!({}));
    let (_, grads) = case.gradient(&adapter, &case.all(), 150);
    let mut swapped = preference(Some(&adapter), json!({}));
    swapped.examples.iter_mut().for_each(|example| example.rows.swap(0, 1));
    let (_, turned) = swapped.gradient(&adapter, &swapped.all(), 150);
    let negated: Vec<f32> = turned.values().iter().map(|value| -value).collect();
    assert!(distance(&negated, grads.values()) < 1e-4);
}
