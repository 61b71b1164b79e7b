//! A tiny model, a few examples and the settings tests train with.

use std::ops::ControlFlow;

use understudy_manifest::{
    self as manifest, LabelExample, Origin, PairExample, SftExample, TrainStage,
};
use understudy_message::Message;
use understudy_model::{BaseModel, Device, Family, Lora, ModelConfig};

use crate::{TrainOptions, TrainRequest, TrainedStage, train_stage};

/// What the tests run on: `UNDERSTUDY_TEST_DEVICE`, or the processor.
pub(crate) fn here() -> Device {
    let name = std::env::var("UNDERSTUDY_TEST_DEVICE");
    understudy_model::device(name.as_deref().unwrap_or("cpu")).unwrap()
}

pub(super) fn base() -> BaseModel {
    BaseModel::random(ModelConfig::tiny(Family::Llama), 7, &here()).unwrap()
}

pub(super) fn origin(index: usize) -> Origin {
    Origin { trajectory: format!("traj_{index}"), steps: Vec::new(), because: Vec::new() }
}

pub(super) fn sft(count: usize) -> Vec<SftExample> {
    let intents = ["weather", "booking", "music", "refund"];
    let example = |index: usize| SftExample {
        prompt: vec![Message::user(format!("request {index} {}", "please ".repeat(index % 4)))],
        completion: vec![Message::assistant(format!("{} {index}", intents[index % 4]))],
        tools: Vec::new(),
        origin: origin(index),
    };
    (0..count).map(example).collect()
}

pub(super) fn pairs(count: usize) -> Vec<PairExample> {
    let pair = |(index, example): (usize, SftExample)| PairExample {
        prompt: example.prompt,
        chosen: example.completion,
        rejected: vec![Message::assistant("no idea".repeat(1 + index % 3))],
        tools: Vec::new(),
        margin: None,
        origin: example.origin,
    };
    sft(count).into_iter().enumerate().map(pair).collect()
}

/// Every other reply was wanted.
pub(super) fn labels(count: usize) -> Vec<LabelExample> {
    let label = |(index, example): (usize, SftExample)| LabelExample {
        prompt: example.prompt,
        completion: example.completion,
        label: index % 2 == 0,
        reward: f64::from(u8::from(index % 2 == 0)),
        weight: 1.0 - 0.1 * (index % 3) as f64,
        tools: Vec::new(),
        origin: example.origin,
    };
    sft(count).into_iter().enumerate().map(label).collect()
}

pub(super) fn lora() -> manifest::Lora {
    manifest::Lora { rank: 4, alpha: 8.0, ..manifest::Lora::default() }
}

/// The settings a recipe with only `method` gets, with some of them replaced.
pub(super) fn stage(json: serde_json::Value) -> TrainStage {
    serde_json::from_value(json).unwrap()
}

/// A fresh adapter that was then changed everywhere, so that both A and B act.
pub(super) fn moved(base: &BaseModel) -> Lora {
    let (stage, lora) = (stage(serde_json::json!({"method": "sft"})), lora());
    let mut adapter = request(base, &stage, &lora).starting_adapter().unwrap();
    for (index, value) in adapter.values_mut().iter_mut().enumerate() {
        *value += 0.05 * (index as f32 * 0.7).sin();
    }
    adapter
}

pub(super) fn request<'a>(
    base: &'a BaseModel,
    stage: &'a TrainStage,
    lora: &'a manifest::Lora,
) -> TrainRequest<'a> {
    let options = TrainOptions::default();
    TrainRequest {
        base,
        stage,
        lora,
        start: None,
        sft: &[],
        pairs: &[],
        labels: &[],
        groups: &[],
        prompts: None,
        seed: 17,
        options,
    }
}

pub(super) fn train(request: &TrainRequest<'_>) -> TrainedStage {
    train_stage(request, &mut |_| ControlFlow::Continue(())).unwrap()
}
