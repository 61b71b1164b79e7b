//! Five steps of SFT and of DPO against torch, transformers and PEFT
//! (`tests/golden/make_trainer_golden.py`).

use std::{collections::BTreeMap, fs, path::PathBuf};

use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::{Value, json};
use understudy_manifest::{self as manifest, PairExample, SftExample, TrainStage};
use understudy_message::Message;
use understudy_model::{BaseModel, Device, Lora, read_peft};

use super::fixtures::{origin, request, stage, train};
use crate::{
    StepMetrics, TrainOptions, TrainRequest,
    gradient::StepGradient,
    optimizer::{AdamW, clip_scale, global_norm},
    reference::{Anchor, rows_mut},
    rows::{Example as Tokenised, Examples},
};

#[derive(Deserialize)]
struct Golden {
    examples: Vec<Example>,
    settings: Value,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Example {
    prompt: Vec<Message>,
    completion: Option<String>,
    chosen: Option<String>,
    rejected: Option<String>,
}

#[derive(Deserialize)]
struct Step {
    learning_rate: f64,
    loss: f64,
    grad_norm: f64,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

struct Case {
    base: BaseModel,
    start: Lora,
    golden: Golden,
    name: &'static str,
}

impl Case {
    fn load(name: &'static str) -> Self {
        let model = folder().join("model/llama");
        let base = BaseModel::load(&model, &Device::Cpu).unwrap();
        let start = read_peft(&model.join("adapter"), base.decoder.config()).unwrap().lora;
        let text = fs::read_to_string(folder().join(format!("trainer/{name}.json"))).unwrap();
        Self { base, start, golden: serde_json::from_str(&text).unwrap(), name }
    }

    fn stage(&self) -> TrainStage {
        let mut settings = self.golden.settings.clone();
        let object = settings.as_object_mut().unwrap();
        object.insert("method".into(), json!(if self.name == "sft" { "sft" } else { "dpo" }));
        // Every step sees everything, so that the order of examples cannot matter.
        object.insert("epochs".into(), json!(self.golden.steps.len()));
        object.insert("batch_size".into(), json!(self.golden.examples.len()));
        stage(settings)
    }

    fn lora(&self) -> manifest::Lora {
        let alpha = f64::from(self.start.scale()) * self.start.rank() as f64;
        manifest::Lora { rank: self.start.rank(), alpha, ..manifest::Lora::default() }
    }

    fn sft(&self) -> Vec<SftExample> {
        let example = |(index, example): (usize, &Example)| {
            let completion = vec![Message::assistant(example.completion.clone()?)];
            Some(SftExample { prompt: example.prompt.clone(), completion, origin: origin(index) })
        };
        self.golden.examples.iter().enumerate().filter_map(example).collect()
    }

    fn pairs(&self) -> Vec<PairExample> {
        let pair = |(index, example): (usize, &Example)| {
            Some(PairExample {
                prompt: example.prompt.clone(),
                chosen: vec![Message::assistant(example.chosen.clone()?)],
                rejected: vec![Message::assistant(example.rejected.clone()?)],
                origin: origin(index),
            })
        };
        self.golden.examples.iter().enumerate().filter_map(pair).collect()
    }

    /// The tensors `<kind>.…` of the fixture, by the adapter's own names.
    fn tensors(&self, kind: &str) -> BTreeMap<String, Vec<f32>> {
        let bytes = fs::read(folder().join(format!("trainer/{}.safetensors", self.name))).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let prefix = format!("{kind}.base_model.model.model.");
        let named = file.iter().filter_map(|(name, view)| {
            let name = name.strip_prefix(&prefix)?.strip_suffix(".weight")?.to_owned();
            let words = view.data().as_chunks().0.iter();
            Some((name, words.map(|word| f32::from_le_bytes(*word)).collect()))
        });
        named.collect()
    }
}

/// Asserts ‖found − expected‖ ≤ 1e-4 ‖expected‖, tensor by tensor, and that none is missing.
fn assert_tensors(found: &Lora, values: &[f32], expected: &BTreeMap<String, Vec<f32>>) {
    assert_eq!(found.layout().parameters().len(), expected.len());
    for parameter in found.layout().parameters() {
        let (found, expected) = (&values[parameter.range.clone()], &expected[&parameter.name]);
        let square = |x: f32| f64::from(x).powi(2);
        let error: f64 = found.iter().zip(expected).map(|(f, e)| square(f - e)).sum();
        let size: f64 = expected.iter().map(|e| square(*e)).sum();
        assert!(error.sqrt() <= 1e-4 * size.sqrt(), "{}: {error} {size}", parameter.name);
    }
}

/// The gradient of the first step and the adapter after it.
fn assert_first_step(case: &Case) {
    let stage = case.stage();
    let anchor = Anchor { base: &case.base, lora: Some(&case.start), temperature: 1.0 };
    let examples = if case.name == "sft" {
        Examples::of_sft(&case.base, &case.sft(), 256).unwrap().kept
    } else {
        let mut examples = Examples::of_pairs(&case.base, &case.pairs(), 256).unwrap().kept;
        let reference = anchor.log_probs(&examples, 64, &mut |_| Ok(())).unwrap();
        rows_mut(&mut examples).zip(reference).for_each(|(row, lps)| row.known.reference = lps);
        examples
    };
    let step = StepGradient {
        base: &case.base,
        objective: &stage.objective,
        anchor,
        micro_batch_tokens: 64,
        dropout: (0.0, 0),
    };
    let mut adapter = case.start.clone();
    let mut grads = adapter.zero_grads();
    let examples: Vec<&Tokenised> = examples.iter().take(2).collect();
    step.accumulate(&examples, &adapter, &mut grads).unwrap();
    assert_tensors(&adapter, grads.values(), &case.tensors("grad"));

    let scale = clip_scale(global_norm(grads.values()), stage.clip);
    assert!(scale < 1.0, "the fixture must exercise clipping");
    let zeros = vec![0.0; grads.values().len()];
    let mut optimizer = AdamW::new((stage.weight_decay, stage.adam_beta2), 0, zeros.clone(), zeros);
    let rate = case.golden.steps[0].learning_rate;
    let whole = 0..grads.values().len();
    optimizer.update(&[(whole, rate)], adapter.values_mut(), grads.values(), scale);
    assert_tensors(&case.start, adapter.values(), &case.tensors("stepped"));
}

/// Loss, learning rate and gradient norm of every step of a whole stage.
fn assert_curve(case: &Case) {
    let out = tempfile::tempdir().unwrap();
    let metrics = out.path().join("metrics.jsonl");
    let (stage, lora, sft, pairs) = (case.stage(), case.lora(), case.sft(), case.pairs());
    let options =
        TrainOptions { metrics: Some(&metrics), micro_batch_tokens: 64, ..TrainOptions::default() };
    let request = TrainRequest {
        sft: &sft,
        pairs: &pairs,
        start: Some(&case.start),
        options,
        ..request(&case.base, &stage, &lora)
    };
    train(&request);
    let text = fs::read_to_string(&metrics).unwrap();
    let found: Vec<StepMetrics> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(found.len(), case.golden.steps.len());
    for (found, expected) in found.iter().zip(&case.golden.steps) {
        let close = |found: f64, expected: f64, tolerance: f64| {
            let error = (found - expected).abs() / expected.abs();
            assert!(error <= tolerance, "{found} is not {expected}");
        };
        close(found.learning_rate, expected.learning_rate, 1e-12);
        close(found.loss, expected.loss, 1e-4);
        close(found.grad_norm.unwrap(), expected.grad_norm, 1e-3);
    }
}

#[test]
fn imitation_takes_the_steps_of_torch() {
    let case = Case::load("sft");
    assert_first_step(&case);
    assert_curve(&case);
}

#[test]
fn preference_against_the_starting_adapter_takes_the_steps_of_torch() {
    let case = Case::load("dpo");
    assert_first_step(&case);
    assert_curve(&case);
}

#[test]
fn preference_against_the_base_with_imitation_takes_the_steps_of_torch() {
    assert_curve(&Case::load("dpo_off_sft"));
}
