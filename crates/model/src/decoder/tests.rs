mod company;
mod portable;

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
    let spec = LoraSpec::new(4, 8.0, targets);
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

#[test]
fn recomputing_layers_gives_the_same_gradient() {
    let model = tiny(Family::Qwen3);
    let batch = Batch::of(&sequences());
    let lora = trained(&model.decoder, Targets::AllLinear, 3);
    let (_, kept) = objective(&model.decoder, &batch, &lora, Activations::All);
    let (_, recomputed) = objective(&model.decoder, &batch, &lora, Activations::LayerInputs);
    assert_eq!(kept.values(), recomputed.values());
}

#[test]
fn a_packed_batch_equals_its_sequences_apart() {
    for family in [Family::Llama, Family::Qwen2, Family::Qwen3] {
        let model = tiny(family);
        let lora = trained(&model.decoder, Targets::AllLinear, 3);
        let sequences = sequences();
        let together = model.decoder.hidden(&Batch::of(&sequences), Some(&lora)).unwrap();
        let apart: Vec<f32> = sequences
            .iter()
            .flat_map(|sequence| {
                let batch = Batch::of(&[sequence]);
                values(&model.decoder.hidden(&batch, Some(&lora)).unwrap())
            })
            .collect();
        assert_close(&values(&together), &apart, 1e-5);
    }
}

#[test]
fn the_gradient_of_a_packed_batch_is_the_sum_over_its_sequences() {
    let model = tiny(Family::Llama);
    let lora = trained(&model.decoder, Targets::AllLinear, 3);
    let gradient = |sequences: &[Vec<u32>]| {
        let batch = Batch::of(sequences);
        let terms = next_token_terms(&batch);
        let coefficients = vec![1.0; terms.len()];
        let (hidden, tape) = model.decoder.train_forward(&batch, Some(&lora)).unwrap();
        let (_, d_hidden) =
            model.decoder.log_probs_grad(&hidden, &terms, &coefficients, 1.0).unwrap();
        let mut grads = lora.zero_grads();
        model.decoder.backward(tape, &d_hidden, &lora, &mut grads).unwrap();
        grads.values().to_vec()
    };
    let together = gradient(&sequences());
    let mut sum = vec![0.0; together.len()];
    for sequence in sequences() {
        for (sum, part) in sum.iter_mut().zip(gradient(&[sequence])) {
            *sum += part;
        }
    }
    let largest = together.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    assert_close(&together, &sum, 1e-5 * largest);
}

#[test]
fn decoding_with_a_cache_equals_the_whole_forward() {
    for family in [Family::Llama, Family::Qwen2, Family::Qwen3] {
        let model = tiny(family);
        let decoder = &model.decoder;
        let lora = trained(decoder, Targets::AllLinear, 3);
        // Long enough that the cache grows, and cut into a prefill, a chunk and single steps.
        let tokens: Vec<u32> = (0..90).map(|at| (at * 37 + 11) % 320).collect();
        let whole = values(&decoder.hidden(&Batch::of(&[&tokens]), Some(&lora)).unwrap());
        let mut cache = decoder.cache().unwrap();
        let mut stepped = Vec::new();
        for piece in [&tokens[..50], &tokens[50..60]].into_iter().chain(tokens[60..].chunks(1)) {
            let mut batch = Batch::default();
            batch.push(piece, cache.len());
            let runs = AdapterRun::whole(&batch, Some(&lora));
            stepped.extend(values(&decoder.infer(&batch, &mut [&mut cache], &runs).unwrap()));
        }
        assert_eq!(cache.len(), 90);
        assert_close(&stepped, &whole, 2e-5);
    }
}

#[test]
fn a_forked_or_truncated_cache_continues_on_its_own() {
    let model = tiny(Family::Llama);
    let decoder = &model.decoder;
    let step = |cache: &mut KvCache, tokens: &[u32]| {
        let mut batch = Batch::default();
        batch.push(tokens, cache.len());
        let runs = AdapterRun::whole(&batch, None);
        values(&decoder.infer(&batch, &mut [cache], &runs).unwrap())
    };
    let mut first = decoder.cache().unwrap();
    step(&mut first, &[1, 2, 3]);
    let mut second = first.fork().unwrap();
    let expected = step(&mut first, &[4]);
    step(&mut second, &[200, 201]);
    second.truncate(3);
    assert_eq!(step(&mut second, &[4]), expected);
}

#[test]
fn adapters_of_a_mixed_batch_act_as_if_alone() {
    let model = tiny(Family::Llama);
    let decoder = &model.decoder;
    let loras = [trained(decoder, Targets::AllLinear, 3), trained(decoder, Targets::Mlp, 4)];
    let plan: [(&[u32], Option<&Lora>); 4] = [
        (&[1, 2, 3], Some(&loras[0])),
        (&[4], None),
        (&[5, 6], Some(&loras[1])),
        (&[7, 8, 9, 10], Some(&loras[0])),
    ];
    let mut caches: Vec<KvCache> = plan.iter().map(|_| decoder.cache().unwrap()).collect();
    let (mut batch, mut runs) = (Batch::default(), Vec::new());
    for (tokens, lora) in plan {
        let span = batch.push(tokens, 0);
        runs.push(AdapterRun { rows: span.rows(), lora });
    }
    let mut refs: Vec<&mut KvCache> = caches.iter_mut().collect();
    let mixed = values(&decoder.infer(&batch, &mut refs, &runs).unwrap());
    let alone: Vec<f32> = plan
        .iter()
        .flat_map(|(tokens, lora)| values(&decoder.hidden(&Batch::of(&[tokens]), *lora).unwrap()))
        .collect();
    assert_close(&mixed, &alone, 1e-5);
}

#[test]
fn a_fresh_adapter_is_the_base_and_first_moves_only_b() {
    let model = tiny(Family::Llama);
    let decoder = &model.decoder;
    let batch = Batch::of(&sequences());
    let spec = LoraSpec { rank: 4, ..LoraSpec::standard() };
    let fresh = Lora::init(decoder.config(), &spec, 9).unwrap();
    let base = values(&decoder.hidden(&batch, None).unwrap());
    assert_eq!(values(&decoder.hidden(&batch, Some(&fresh)).unwrap()), base);
    let (_, grads) = objective(decoder, &batch, &fresh, Activations::All);
    for (parameter, gradient) in grads.tensors() {
        let moves = gradient.iter().any(|value| *value != 0.0);
        assert_eq!(moves, parameter.is_b, "{}", parameter.name);
    }
    let again = Lora::init(decoder.config(), &spec, 9).unwrap();
    assert_eq!(fresh.values(), again.values());
    assert_eq!(values(&decoder.hidden(&batch, None).unwrap()), base, "nobody wrote to the base");
}

#[test]
fn one_row_alone_still_has_its_gradient() {
    let model = tiny(Family::Llama);
    let lora = trained(&model.decoder, Targets::AllLinear, 3);
    let batch = Batch::of(&[[17_u32]]);
    let (hidden, tape) = model.decoder.train_forward(&batch, Some(&lora)).unwrap();
    let terms = [Term { row: 0, target: 5 }];
    let (_, d_hidden) = model.decoder.log_probs_grad(&hidden, &terms, &[1.0], 1.0).unwrap();
    let mut grads = lora.zero_grads();
    model.decoder.backward(tape, &d_hidden, &lora, &mut grads).unwrap();
    // A single position attends only to itself, so queries and keys cannot matter.
    for (parameter, gradient) in grads.tensors() {
        let moves = gradient.iter().any(|value| value.abs() > 1e-5);
        let matters = !matches!(parameter.module, crate::Module::Q | crate::Module::K);
        assert_eq!(moves, matters, "{}", parameter.name);
    }
}

#[test]
fn mistakes_are_refused_with_their_reason() {
    let model = tiny(Family::Llama);
    let decoder = &model.decoder;
    let lora = trained(decoder, Targets::AllLinear, 3);
    let other = trained(decoder, Targets::Mlp, 3);
    let refused = |result: Result<Tensor>, reason: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    };
    refused(decoder.hidden(&Batch::default(), None), "no tokens");
    refused(decoder.hidden(&Batch::of(&[[320_u32]]), None), "not in a vocabulary");
    refused(decoder.hidden(&Batch::of(&[vec![1_u32; 1025]]), None), "reaches position 1025");
    let mut continued = Batch::default();
    continued.push(&[1], 3);
    refused(decoder.hidden(&continued, None), "need their caches");
    let mut cache = decoder.cache().unwrap();
    let runs = AdapterRun::whole(&continued, None);
    refused(decoder.infer(&continued, &mut [&mut cache], &runs), "0 are cached");
    let batch = Batch::of(&[[1_u32, 2]]);
    let gap = [AdapterRun { rows: 1..2, lora: None }];
    refused(decoder.infer(&batch, &mut [&mut cache], &gap), "row 0 is missing");
    assert!(cache.is_empty(), "a refused step leaves the cache as it was");

    let (hidden, tape) = decoder.train_forward(&batch, Some(&lora)).unwrap();
    let mut grads = other.zero_grads();
    let error = decoder.backward(tape, &hidden, &lora, &mut grads).unwrap_err();
    assert!(error.to_string().contains("another adapter layout"));
    let (hidden, tape) = decoder.train_forward(&batch, None).unwrap();
    let error = decoder.backward(tape, &hidden, &lora, &mut lora.zero_grads()).unwrap_err();
    assert!(error.to_string().contains("without an adapter"));
    let terms = [Term { row: 2, target: 0 }];
    assert!(decoder.log_probs(&hidden, &terms, 1.0).is_err());
    assert!(decoder.log_probs(&hidden, &[], 0.0).is_err());
}

/// Two trunks; the first has a branch of a branch, and a branch that is one token.
fn tree() -> (Batch, Vec<Vec<u32>>) {
    let mut batch = Batch::default();
    batch.push(&[1, 5, 9, 200], 0);
    batch.branch(&[31, 7], 0);
    batch.branch(&[8], 0);
    batch.branch(&[2, 3, 4], 1);
    batch.push(&[40, 41], 0);
    batch.branch(&[42], 4);
    let leaves = vec![vec![1, 5, 9, 200, 31, 7, 2, 3, 4], vec![1, 5, 9, 200, 8], vec![40, 41, 42]];
    (batch, leaves)
}

/// The batch row of every position of every leaf of [`tree`].
const LEAF_ROWS: [&[usize]; 3] = [&[0, 1, 2, 3, 4, 5, 7, 8, 9], &[0, 1, 2, 3, 6], &[10, 11, 12]];

#[test]
fn a_tree_equals_its_branches_apart_forward_and_backward() {
    for family in [Family::Llama, Family::Qwen2, Family::Qwen3] {
        for keep in [Activations::All, Activations::LayerInputs] {
            let model = tiny(family);
            let lora = trained(&model.decoder, Targets::AllLinear, 3);
            let (batch, leaves) = tree();
            let mut terms = Vec::new();
            for (leaf, rows) in leaves.iter().zip(LEAF_ROWS) {
                let next = rows.iter().zip(&leaf[1..]);
                terms.extend(next.map(|(row, target)| Term { row: *row, target: *target }));
            }
            let apart = Batch::of(&leaves);
            let plain_terms = next_token_terms(&apart);
            let gradient = |batch: &Batch, terms: &[Term]| {
                let coefficients: Vec<f32> =
                    (0..terms.len()).map(|i| 0.5 - 0.1 * i as f32).collect();
                let decoder = &model.decoder;
                let (hidden, tape) =
                    decoder.train_forward_keeping(batch, Some(&lora), keep).unwrap();
                let (scores, d_hidden) =
                    decoder.log_probs_grad(&hidden, terms, &coefficients, 1.0).unwrap();
                let mut grads = lora.zero_grads();
                decoder.backward(tape, &d_hidden, &lora, &mut grads).unwrap();
                (scores.log_probs, grads.values().to_vec())
            };
            let (shared_scores, shared_grads) = gradient(&batch, &terms);
            let (scores, grads) = gradient(&apart, &plain_terms);
            assert_close(&shared_scores, &scores, 5e-6);
            let largest = grads.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
            assert_close(&shared_grads, &grads, 1e-5 * largest);
        }
    }
}

#[test]
fn a_branch_that_does_not_join_is_refused() {
    let model = tiny(Family::Llama);
    let (mut batch, _) = tree();
    batch.spans[1].past = 3;
    let error = model.decoder.hidden(&batch, None).unwrap_err().to_string();
    assert!(error.contains("does not begin where"), "{error}");
    let (mut batch, _) = tree();
    batch.spans[0].after = Some(2);
    assert!(model.decoder.hidden(&batch, None).is_err());
}

#[test]
fn dropout_has_the_gradient_of_what_it_computes_and_is_the_same_when_recomputed() {
    let model = tiny(Family::Qwen3);
    let decoder = &model.decoder;
    let batch = Batch::of(&sequences());
    let terms = next_token_terms(&batch);
    let dropout = Dropout::new(0.3, 5).unwrap();
    let objective = |lora: &Lora, keep: Activations, dropout: Option<Dropout>| {
        let coefficients = vec![1.0; terms.len()];
        let (hidden, tape) =
            decoder.train_forward_dropping(&batch, Some(lora), keep, dropout).unwrap();
        let (scores, d_hidden) =
            decoder.log_probs_grad(&hidden, &terms, &coefficients, 1.0).unwrap();
        let mut grads = lora.zero_grads();
        decoder.backward(tape, &d_hidden, lora, &mut grads).unwrap();
        (scores.log_probs.iter().map(|lp| f64::from(*lp)).sum::<f64>(), grads.values().to_vec())
    };
    let lora = trained(decoder, Targets::AllLinear, 3);
    let (sum, grads) = objective(&lora, Activations::All, dropout);
    assert_ne!(sum, objective(&lora, Activations::All, None).0, "something is dropped");
    assert_eq!(grads, objective(&lora, Activations::LayerInputs, dropout).1);
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let direction: Vec<f32> = grads.iter().map(|_| random.random_range(-1.0..1.0)).collect();
    let at = |step: f32| {
        let mut moved = lora.clone();
        moved.values_mut().iter_mut().zip(&direction).for_each(|(v, d)| *v += step * d);
        objective(&moved, Activations::All, dropout).0
    };
    let measured = (at(1e-3) - at(-1e-3)) / 2e-3;
    let computed: f64 = grads.iter().zip(&direction).map(|(g, d)| f64::from(g * d)).sum();
    assert!((measured - computed).abs() < 2e-2 * computed.abs(), "{measured} {computed}");
}

#[test]
fn dropout_drops_its_share_and_keeps_the_mean() {
    let dropout = Dropout::new(0.25, 9).unwrap().unwrap();
    let ones = Tensor::ones((200, 100), candle_core::DType::F32, &Device::Cpu).unwrap();
    let mask = values(&dropout.mask(&ones, (1, crate::lora::Group::Down)).unwrap());
    let dropped = mask.iter().filter(|value| **value == 0.0).count();
    assert!((4700..5300).contains(&dropped), "{dropped}");
    assert!((mask.iter().sum::<f32>() / 20_000.0 - 1.0).abs() < 0.02);
    assert!(Dropout::new(0.0, 1).unwrap().is_none());
    assert!(Dropout::new(1.0, 1).is_err());
}

#[test]
fn patterns_give_modules_their_own_rank_and_scale() {
    let model = tiny(Family::Llama);
    let spec = LoraSpec {
        rank_pattern: vec![("q_proj".to_owned(), 2), ("layers.1.mlp.up_proj".to_owned(), 8)],
        alpha_pattern: vec![("down_proj".to_owned(), 24.0)],
        ..LoraSpec::new(4, 8.0, Targets::AllLinear)
    };
    let mut lora = Lora::init(model.decoder.config(), &spec, 3).unwrap();
    assert_eq!(lora.rank(), 8, "everything is stored as wide as the widest");
    let batch = Batch::of(&sequences());
    // Whatever is trained, the rows a module does not own stay zero.
    for _ in 0..3 {
        let (_, grads) = objective(&model.decoder, &batch, &lora, Activations::All);
        let moved = lora.values_mut().iter_mut().zip(grads.values());
        moved.for_each(|(value, gradient)| *value += 0.01 * gradient);
    }
    let live = |name: &str| {
        let (place, values) =
            lora.tensors().find(|(place, _)| place.name == format!("{name}.lora_A")).unwrap();
        values.chunks(place.shape.1).filter(|row| row.iter().any(|v| *v != 0.0)).count()
    };
    assert_eq!(live("layers.0.self_attn.q_proj"), 2);
    assert_eq!(live("layers.0.mlp.up_proj"), 4);
    assert_eq!(live("layers.1.mlp.up_proj"), 8);
    let hidden = |lora: &Lora| values(&model.decoder.hidden(&batch, Some(lora)).unwrap());
    assert_close(&hidden(&lora), &hidden(&lora.folded()), 1e-5);
    assert!(!lora.same_scales(&lora.folded()), "down_proj has a scale of its own");

    let unmatched = LoraSpec { rank_pattern: vec![("lm_head".to_owned(), 2)], ..spec };
    let error = Lora::init(model.decoder.config(), &unmatched, 3).unwrap_err().to_string();
    assert!(error.contains("lm_head matches no module"), "{error}");
}
