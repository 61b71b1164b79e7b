//! The trainer against torch, transformers, PEFT and TRL, on tiny random models in f32.

mod coverage;
mod curves;
mod digest;
mod fixture;
mod variants;

use std::{collections::BTreeMap, fs, path::PathBuf};

use safetensors::SafeTensors;
use understudy_manifest::TrainStage;
use understudy_model::{BaseModel, Lora, LoraGrads, read_peft};

use super::fixtures::here;
use crate::{
    gradient::StepGradient,
    guard,
    optimizer::{AdamW, clip_scale, global_norm},
    reference::Anchor,
    rows::Example,
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

/// A tiny model of one family and the adapter that PEFT wrote for it.
struct Model {
    base: BaseModel,
    start: Lora,
}

impl Model {
    fn load(family: &str) -> Self {
        let model = folder().join("model").join(family);
        let base = BaseModel::load(&model, &here()).unwrap();
        let start = read_peft(&model.join("adapter"), base.decoder.config()).unwrap().lora;
        Self { base, start }
    }
}

/// One optimiser step from a model's adapter.
struct Step {
    loss: f64,
    /// Before clipping.
    grad_norm: f64,
    gradient: LoraGrads,
    stepped: Lora,
}

impl Step {
    fn take(
        model: &Model,
        stage: &TrainStage,
        anchor: Anchor<'_>,
        (examples, micro_batch_tokens): (&[Example], usize),
        learning_rate: f64,
    ) -> Self {
        let step = StepGradient {
            base: &model.base,
            objective: &stage.objective,
            anchor,
            micro_batch_tokens,
            recompute_above: micro_batch_tokens,
            dropout: (0.0, 0),
        };
        let mut stepped = model.start.clone();
        let mut gradient = stepped.zero_grads();
        let examples: Vec<&Example> = examples.iter().collect();
        let stats = step.accumulate(&examples, &stepped, &mut gradient).unwrap();
        guard::check(&stepped, &gradient).unwrap();

        let grad_norm = global_norm(gradient.values());
        let scale = clip_scale(grad_norm, stage.clip);
        assert!(scale < 1.0, "the fixture must exercise clipping");
        let zeros = vec![0.0; gradient.values().len()];
        let decay = (stage.weight_decay, stage.adam_beta2);
        let mut optimizer = AdamW::new(decay, 0, zeros.clone(), zeros);
        let rates = [(0..gradient.values().len(), learning_rate)];
        optimizer.update(&rates, stepped.values_mut(), gradient.values(), scale);
        Self { loss: stats.loss, grad_norm, gradient, stepped }
    }

    /// Compares the gradient and the adapter after the step with the tensors of a file, in full.
    fn assert_tensors(&self, file: &str) {
        let bytes = fs::read(folder().join("trainer").join(file)).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        for (kind, values) in
            [("gradient.", self.gradient.values()), ("stepped.", self.stepped.values())]
        {
            let named = file.iter().filter_map(|(name, view)| {
                let words = view.data().as_chunks().0.iter().map(|word| f32::from_le_bytes(*word));
                Some((name.strip_prefix(kind)?, words.collect()))
            });
            assert_tensors(&self.stepped, values, &named.collect());
        }
    }
}

/// Asserts ‖found − expected‖ ≤ 1e-4 ‖expected‖, tensor by tensor, and that none is missing.
fn assert_tensors(found: &Lora, values: &[f32], expected: &BTreeMap<&str, Vec<f32>>) {
    assert_eq!(found.layout().parameters().len(), expected.len());
    for parameter in found.layout().parameters() {
        let found = &values[parameter.range.clone()];
        let expected = &expected[&parameter.name[..]];
        assert_eq!(found.len(), expected.len(), "{}", parameter.name);
        let square = |x: f32| f64::from(x).powi(2);
        let error: f64 = found.iter().zip(expected).map(|(f, e)| square(f - e)).sum();
        let size: f64 = expected.iter().map(|e| square(*e)).sum();
        assert!(error.sqrt() <= 1e-4 * size.sqrt(), "{}: {error} {size}", parameter.name);
    }
}

/// Asserts |found − expected| ≤ tolerance · |expected|.
fn assert_close(found: f64, expected: f64, tolerance: f64, what: &str) {
    let error = (found - expected).abs() / expected.abs();
    assert!(error <= tolerance, "{what}: {found} is not {expected}");
}
