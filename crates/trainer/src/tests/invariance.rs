//! What must not change the loss or the gradient, and what the two must agree on.

use serde_json::json;
use understudy_model::{BaseModel, Lora, LoraGrads};

use super::fixtures::{base, lora, moved, pairs, request, sft, stage};
use crate::{
    gradient::{StepGradient, StepStats},
    objective::{
        Objective,
        dpo::{PairLogProbs, Preference},
    },
    reference,
    rows::{Example, Examples},
};

/// Two objectives over a few uneven examples each.
struct Case {
    base: BaseModel,
    objective: Objective,
    examples: Vec<Example>,
}

fn imitation() -> Case {
    let base = base();
    let examples = Examples::of_sft(&base, &sft(6), 1024).unwrap().kept;
    Case { base, objective: Objective::Sft, examples }
}

fn preference(reference: Option<&Lora>, sft_weight: f64) -> Case {
    let base = base();
    let examples = Examples::of_pairs(&base, &pairs(5), 1024).unwrap().kept;
    let reference =
        reference::log_probs(&base, reference, &examples, 200, &mut |_| Ok(())).unwrap();
    let objective = Objective::Dpo(Preference { beta: 0.5, sft_weight, reference });
    Case { base, objective, examples }
}

impl Case {
    fn gradient(&self, adapter: &Lora, members: &[usize], budget: usize) -> (StepStats, LoraGrads) {
        let step = StepGradient {
            base: &self.base,
            objective: &self.objective,
            examples: &self.examples,
            micro_batch_tokens: budget,
        };
        let mut grads = adapter.zero_grads();
        let stats = step.accumulate(members, adapter, &mut grads).unwrap();
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
    for case in [imitation(), preference(None, 0.0), preference(None, 0.3)] {
        let adapter = moved(&case.base);
        let (whole, expected) = case.gradient(&adapter, &case.all(), 1 << 20);
        // A budget of one token also takes the path that keeps less and recomputes.
        for budget in [1, 60, 150] {
            let (stats, grads) = case.gradient(&adapter, &case.all(), budget);
            assert!((stats.loss - whole.loss).abs() < 1e-6 * whole.loss.abs(), "{budget}");
            assert!((stats.entropy - whole.entropy).abs() < 1e-5);
            assert!(distance(grads.values(), expected.values()) < 1e-5, "{budget}");
        }
    }
}

#[test]
fn the_order_of_examples_in_a_step_changes_nothing() {
    for case in [imitation(), preference(None, 0.3)] {
        let adapter = moved(&case.base);
        let (whole, expected) = case.gradient(&adapter, &case.all(), 150);
        let backwards: Vec<usize> = case.all().into_iter().rev().collect();
        let (stats, grads) = case.gradient(&adapter, &backwards, 150);
        assert!((stats.loss - whole.loss).abs() < 1e-6 * whole.loss.abs());
        assert!(distance(grads.values(), expected.values()) < 1e-5);
    }
}

#[test]
fn the_loss_of_imitation_is_the_mean_over_completion_tokens_and_no_others() {
    let case = imitation();
    let adapter = moved(&case.base);
    let (mut sum, mut count) = (0.0, 0);
    for example in &case.examples {
        let row = example.wanted();
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
fn the_gradient_predicts_how_the_loss_changes() {
    for case in [imitation(), preference(None, 0.0), preference(None, 0.3)] {
        let adapter = moved(&case.base);
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
        assert!((slope - size).abs() < 5e-3 * size, "{slope} {size}");
    }
}

#[test]
fn a_fresh_adapter_loses_ln_2_and_moves_only_b() {
    let case = preference(None, 0.0);
    let (stage, lora) = (stage(json!({"method": "dpo"})), lora());
    let adapter = request(&case.base, &stage, &lora).starting_adapter().unwrap();
    let (stats, grads) = case.gradient(&adapter, &case.all(), 150);
    assert!((stats.loss - std::f64::consts::LN_2).abs() < 1e-6, "{}", stats.loss);
    assert!(stats.preference.unwrap().margin.abs() < 1e-4);
    for (parameter, gradient) in grads.tensors() {
        let moves = gradient.iter().any(|value| *value != 0.0);
        assert_eq!(moves, parameter.is_b, "{}", parameter.name);
    }
}

#[test]
fn swapping_chosen_and_rejected_turns_the_gradient_around() {
    let adapter = moved(&base());
    // Against itself as reference the margin is zero, and the push the same either way.
    let case = preference(Some(&adapter), 0.0);
    let (_, grads) = case.gradient(&adapter, &case.all(), 150);
    let mut swapped = preference(Some(&adapter), 0.0);
    for example in &mut swapped.examples {
        if let Example::Prefer { chosen, rejected } = example {
            std::mem::swap(chosen, rejected);
        }
    }
    if let Objective::Dpo(preference) = &mut swapped.objective {
        for PairLogProbs { chosen, rejected } in &mut preference.reference {
            std::mem::swap(chosen, rejected);
        }
    }
    let (_, turned) = swapped.gradient(&adapter, &swapped.all(), 150);
    let negated: Vec<f32> = turned.values().iter().map(|value| -value).collect();
    assert!(distance(&negated, grads.values()) < 1e-4);
}
