//! Twenty steps of SFT and of DPO (`tests/golden/make_trainer_golden.py`).

use std::fs;

use serde::Deserialize;
use serde_json::{Value, json};
use understudy_manifest::{self as manifest, PairExample, SftExample, TrainStage};
use understudy_message::Message;

use super::{Model, Step, assert_close, folder};
use crate::{
    StepMetrics, TrainOptions, TrainRequest,
    reference::{Anchor, rows_mut},
    rows::Examples,
    tests::fixtures::{origin, request, stage, train},
};

#[derive(Deserialize)]
struct Golden {
    examples: Vec<Example>,
    settings: Value,
    steps: Vec<Point>,
}

#[derive(Deserialize)]
struct Example {
    prompt: Vec<Message>,
    completion: Option<String>,
    chosen: Option<String>,
    rejected: Option<String>,
}

#[derive(Deserialize)]
struct Point {
    learning_rate: f64,
    loss: f64,
    grad_norm: f64,
}

struct Case {
    model: Model,
    golden: Golden,
    name: &'static str,
}

impl Case {
    fn load(name: &'static str) -> Self {
        let text = fs::read_to_string(folder().join(format!("trainer/{name}.json"))).unwrap();
        Self { model: Model::load("llama"), golden: serde_json::from_str(&text).unwrap(), name }
    }

    fn method(&self) -> &'static str {
        if self.name.starts_with("sft") { "sft" } else { "dpo" }
    }

    fn stage(&self) -> TrainStage {
        let mut settings = self.golden.settings.clone();
        let object = settings.as_object_mut().unwrap();
        object.insert("method".into(), json!(self.method()));
        // Every step sees everything, so that the order of examples cannot matter.
        object.insert("epochs".into(), json!(self.golden.steps.len()));
        object.insert("batch_size".into(), json!(self.golden.examples.len()));
        stage(settings)
    }

    fn lora(&self) -> manifest::Lora {
        let start = &self.model.start;
        let alpha = f64::from(start.scale()) * start.rank() as f64;
        manifest::Lora { rank: start.rank(), alpha, ..manifest::Lora::default() }
    }

    fn sft(&self) -> Vec<SftExample> {
        let example = |(index, example): (usize, &Example)| {
            let completion = vec![Message::assistant(example.completion.clone()?)];
            let (prompt, origin) = (example.prompt.clone(), origin(index));
            Some(SftExample { prompt, completion, tools: Vec::new(), origin })
        };
        self.golden.examples.iter().enumerate().filter_map(example).collect()
    }

    fn pairs(&self) -> Vec<PairExample> {
        let pair = |(index, example): (usize, &Example)| {
            Some(PairExample {
                prompt: example.prompt.clone(),
                chosen: vec![Message::assistant(example.chosen.clone()?)],
                rejected: vec![Message::assistant(example.rejected.clone()?)],
                tools: Vec::new(),
                margin: None,
                origin: origin(index),
            })
        };
        self.golden.examples.iter().enumerate().filter_map(pair).collect()
    }
}

/// The gradient of the first step and the adapter after it.
fn assert_first_step(case: &Case) {
    let (stage, model) = (case.stage(), &case.model);
    let anchor = Anchor { base: &model.base, lora: Some(&model.start), temperature: 1.0 };
    let examples = if case.method() == "sft" {
        Examples::of_sft(&model.base, &case.sft(), 256).unwrap().kept
    } else {
        let mut examples = Examples::of_pairs(&model.base, &case.pairs(), 256).unwrap().kept;
        let reference = anchor.log_probs(&examples, 64, &mut |_| Ok(())).unwrap();
        rows_mut(&mut examples).zip(reference).for_each(|(row, lps)| row.known.reference = lps);
        examples
    };
    let rate = case.golden.steps[0].learning_rate;
    let step = Step::take(model, &stage, anchor, (&examples, 64), rate);
    step.assert_tensors(&format!("{}.safetensors", case.name));
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
        start: Some(&case.model.start),
        options,
        ..request(&case.model.base, &stage, &lora)
    };
    train(&request);
    let text = fs::read_to_string(&metrics).unwrap();
    let found: Vec<StepMetrics> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(found.len(), case.golden.steps.len());
    for (found, expected) in found.iter().zip(&case.golden.steps) {
        let rate = expected.learning_rate;
        assert_close(found.learning_rate, rate, 1e-12, "learning rate");
        assert_close(found.loss, expected.loss, 1e-4, "loss");
        assert_close(found.grad_norm.unwrap(), expected.grad_norm, 1e-3, "gradient norm");
    }
}

#[test]
fn imitation_takes_the_steps_of_torch() {
    let case = Case::load("sft");
    assert_first_step(&case);
    assert_curve(&case);
}

#[test]
fn imitation_with_loraplus_takes_the_steps_of_peft() {
    assert_curve(&Case::load("sft_plus"));
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
