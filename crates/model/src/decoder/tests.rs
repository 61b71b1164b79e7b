use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{BaseModel, Family, LoraSpec, Targets};

fn tiny(family: Family) -> BaseModel {
    BaseModel::random(ModelConfig::tiny(family), 7, &Device::Cpu).unwrap()
}

/// An adapter whose B is not zero, so that it changes something.
fn trained(decoder: &Decoder, targets: Targets, seed: u64) -> Lora {
    let spec = LoraSpec { rank: 4, alpha: 8.0, rank_stabilised: false, targets };
    let mut lora = Lora::init(decoder.config(), &spec, seed).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(seed + 1);
    lora.values_mut().iter_mut().for_each(|value| *value += random.random_range(-0.1..0.1));
    lora
}

fn sequences() -> Vec<Vec<u32>> {
    vec![vec![1, 5, 9, 200, 31, 7, 8], vec![300], vec![40, 41, 42, 40, 41]]
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_close(left: &[f32], right: &[f32], tolerance: f32) {
    assert_eq!(left.len(), right.len());
    for (index, (a, b)) in left.iter().zip(right).enumerate() {
        assert!((a - b).abs() <= tolerance, "at {index}: {a} is not {b}");
    }
}

/// Σ coefficient · log-probability over next-token terms of every sequence.
fn objective(decoder: &Decoder, batch: &Batch, lora: &Lora, keep: Activations) -> (f64, LoraGrads) {
    let terms = next_token_terms(batch);
    let coefficients: Vec<f32> = (0..terms.len()).map(|i| 0.5 - 0.1 * i as f32).collect();
    let (hidden, tape) = decoder.train_forward_keeping(batch, Some(lora), keep).unwrap();
    let (scores, d_hidden) = decoder.log_probs_grad(&hidden, &terms, &coefficients, 0.8).unwrap();
    let mut grads = lora.zero_grads();
    decoder.backward(tape, &d_hidden, lora, &mut grads).unwrap();
    let sum = scores.log_probs.iter().zip(&coefficients);
    (sum.map(|(lp, c)| f64::from(*lp) * f64::from(*c)).sum(), grads)
}

fn next_token_terms(batch: &Batch) -> Vec<Term> {
    let next = |span: &crate::Span| {
        span.rows().skip(1).map(|row| Term { row: row - 1, target: batch.tokens[row] }).collect()
    };
    batch.spans.iter().flat_map(|span| -> Vec<Term> { next(span) }).collect()
}

#[test]
fn gradient_agrees_with_finite_differences() {
    for family in [Family::Llama, Family::Qwen2, Family::Qwen3] {
        let model = tiny(family);
        let batch = Batch::of(&sequences());
        let mut lora = trained(&model.decoder, Targets::AllLinear, 3);
        let (_, grads) = objective(&model.decoder, &batch, &lora, Activations::All);
        let mut random = ChaCha8Rng::seed_from_u64(11);
        // One random direction per tensor, so that no tensor's gradient can be missing.
        for parameter in lora.layout().parameters().to_vec() {
            let direction: Vec<f32> =
                parameter.range.clone().map(|_| random.random_range(-1.0..1.0)).collect();
            let expected: f64 = grads.values()[parameter.range.clone()]
                .iter()
                .zip(&direction)
                .map(|(g, d)| f64::from(*g) * f64::from(*d))
                .sum();
            let step = 1e-2;
            let mut at = |sign: f32| {
                let before = lora.values().to_vec();
                for (value, d) in
                    lora.values_mut()[parameter.range.clone()].iter_mut().zip(&direction)
                {
                    *value += sign * step * d;
                }
                let (sum, _) = objective(&model.decoder, &batch, &lora, Activations::All);
                lora.values_mut().copy_from_slice(&before);
                sum
            };
            let measured = (at(1.0) - at(-1.0)) / (2.0 * f64::from(step));
            let tolerance = 2e-2 * expected.abs().max(0.05);
            assert!(
                (measured - expected).abs() < tolerance,
                "{family:?} {}: measured {measured}, computed {expected}",
                parameter.name
            );
        }
    }
}
