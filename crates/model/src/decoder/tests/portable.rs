//! The body that accelerators run, on the processor, against the kernels: all of it at once.

use super::*;
use crate::{device::Place, linear::Precision};

const FAMILIES: [Family; 3] = [Family::Llama, Family::Qwen2, Family::Qwen3];

fn on_tensors(family: Family, precision: Precision) -> BaseModel {
    BaseModel::random_at(ModelConfig::tiny(family), 7, Place::portable(precision)).unwrap()
}

/// Logits of a prompt in two parts and two more tokens, each part over what the cache holds.
fn decoded(decoder: &Decoder, mut caches: [KvCache; 2], loras: [&Lora; 2]) -> Vec<f32> {
    let mut logits = Vec::new();
    for (first, second) in [(&[1, 5, 9][..], &[300][..]), (&[200, 31], &[8, 7, 6]), (&[7], &[40])] {
        let mut batch = Batch::default();
        batch.push(first, caches[0].len());
        batch.push(second, caches[1].len());
        let runs = [
            AdapterRun { rows: 0..first.len(), lora: Some(loras[0]) },
            AdapterRun { rows: first.len()..batch.rows(), lora: Some(loras[1]) },
        ];
        let [a, b] = &mut caches;
        let hidden = decoder.infer(&batch, &mut [a, b], &runs).unwrap();
        logits.extend(values(&decoder.logits(&hidden).unwrap()));
    }
    logits
}

#[test]
fn decoding_with_two_adapters_agrees_with_the_kernels() {
    for family in FAMILIES {
        let (fused, tensors) = (tiny(family), on_tensors(family, Precision::F32));
        let (fused, tensors) = (&fused.decoder, &tensors.decoder);
        let [a, b] = [3, 5].map(|seed| trained(fused, Targets::AllLinear, seed));
        let blocks = [(); 2].map(|()| fused.cache().unwrap());
        let plain = [(); 2].map(|()| KvCache::on_tensors(fused.config(), &Device::Cpu).unwrap());
        let expected = decoded(fused, blocks, [&a, &b]);
        assert_close(&decoded(tensors, plain, [&a, &b]), &expected, 1e-3);
    }
}

#[test]
fn the_gradient_agrees_with_the_kernels() {
    for family in FAMILIES {
        let (fused, tensors) = (tiny(family), on_tensors(family, Precision::F32));
        let lora = trained(&fused.decoder, Targets::AllLinear, 3);
        let batch = Batch::of(&sequences());
        for keep in [Activations::All, Activations::LayerInputs] {
            let (expected, kernels) = objective(&fused.decoder, &batch, &lora, keep);
            let (found, ours) = objective(&tensors.decoder, &batch, &lora, keep);
            assert!((expected - found).abs() < 1e-4, "{family:?}: {found} is not {expected}");
            assert_close(ours.values(), kernels.values(), 1e-3);
        }
    }
}

#[test]
fn bf16_weights_change_scores_a_little_and_gradients_keep_their_direction() {
    let batch = Batch::of(&sequences());
    for family in FAMILIES {
        let (exact, rounded) =
            (on_tensors(family, Precision::F32), on_tensors(family, Precision::Bf16));
        let lora = trained(&exact.decoder, Targets::AllLinear, 3);
        let (left, gradient) = objective(&exact.decoder, &batch, &lora, Activations::All);
        let (right, near) = objective(&rounded.decoder, &batch, &lora, Activations::All);
        assert_ne!(left, right, "the weights must be rounded for this test to mean anything");
        assert!((left - right).abs() < 0.05, "{family:?}: {right} is not {left}");
        let dot = |a: &LoraGrads, b: &LoraGrads| -> f64 {
            a.values().iter().zip(b.values()).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let cosine = dot(&gradient, &near) / (dot(&gradient, &gradient) * dot(&near, &near)).sqrt();
        assert!(cosine > 0.995, "{family:?}: cosine {cosine}");
    }
}
