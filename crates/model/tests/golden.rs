//! Tiny Llama, Qwen2 and Qwen3 models against transformers, PEFT and torch, through fixtures that
//! `tests/golden/make_model_golden.py` wrote.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{fs, path::PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use understudy_message::Message;
use understudy_model::{
    Activations, BaseModel, Batch, ChatTemplate, Conversation, Device, Ending, Lora, Tensor, Term,
    read_peft, write_peft,
};

/// Of `odd` no width is a multiple of 8; `llama3` turns heads as Llama 3.1 does.
const FAMILIES: [&str; 5] = ["llama", "qwen2", "qwen3", "odd", "llama3"];

struct Golden {
    model: BaseModel,
    lora: Lora,
    bytes: Vec<u8>,
    sequences: Vec<Vec<u32>>,
}

impl Golden {
    fn load(family: &str) -> Self {
        let directory = fixtures().join(family);
        let model = BaseModel::load(&directory, &here()).unwrap();
        let lora = read_peft(&directory.join("adapter"), model.decoder.config()).unwrap().lora;
        let bytes = fs::read(directory.join("golden.safetensors")).unwrap();
        let mut golden = Self { model, lora, bytes, sequences: Vec::new() };
        let mut tokens = golden.ids("tokens").into_iter();
        for length in golden.ids("lengths") {
            golden.sequences.push(tokens.by_ref().take(length as usize).collect());
        }
        golden
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(name).unwrap();
        assert_eq!(view.dtype(), Dtype::I64);
        let id = |bytes: &[u8]| i64::from_le_bytes(bytes.try_into().unwrap());
        view.data().chunks_exact(8).map(|bytes| u32::try_from(id(bytes)).unwrap()).collect()
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let file = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = file.tensor(name).unwrap();
        assert_eq!(view.dtype(), Dtype::F32, "{name}");
        let float = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
        view.data().chunks_exact(4).map(float).collect()
    }

    fn batch(&self) -> Batch {
        Batch::of(&self.sequences)
    }

    fn logits(&self, lora: Option<&Lora>) -> Vec<f32> {
        let decoder = &self.model.decoder;
        let hidden = decoder.hidden(&self.batch(), lora).unwrap();
        values(&decoder.logits(&hidden).unwrap())
    }

    /// Loss and adapter gradient of completion-masked fine-tuning.
    fn sft(&self, keep: Activations) -> (f32, Vec<f32>) {
        let (decoder, batch) = (&self.model.decoder, self.batch());
        let mask = self.floats("mask");
        let trained = |span: &understudy_model::Span| {
            let rows = span.rows().skip(1).filter(|row| mask[*row] > 0.0).collect::<Vec<_>>();
            rows.into_iter().map(|row| Term { row: row - 1, target: batch.tokens[row] })
        };
        let terms: Vec<Term> = batch.spans.iter().flat_map(trained).collect();
        let coefficients = vec![-1.0 / terms.len() as f32; terms.len()];
        let (hidden, tape) = decoder.train_forward_keeping(&batch, Some(&self.lora), keep).unwrap();
        let (scores, d_hidden) =
            decoder.log_probs_grad(&hidden, &terms, &coefficients, 1.0).unwrap();
        let mut grads = self.lora.zero_grads();
        decoder.backward(tape, &d_hidden, &self.lora, &mut grads).unwrap();
        let loss = -scores.log_probs.iter().sum::<f32>() / terms.len() as f32;
        (loss, grads.values().to_vec())
    }
}

/// What the tests run on: `UNDERSTUDY_TEST_DEVICE`, or the processor.
fn here() -> Device {
    let name = std::env::var("UNDERSTUDY_TEST_DEVICE");
    understudy_model::device(name.as_deref().unwrap_or("cpu")).unwrap()
}

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/model")
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_close(what: &str, left: &[f32], right: &[f32], tolerance: f32) {
    assert_eq!(left.len(), right.len(), "{what}");
    let worst = left.iter().zip(right).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= tolerance, "{what}: differs by {worst}, more than {tolerance}");
}

/// Relative error and cosine of a gradient against its reference.
fn compare(gradient: &[f32], reference: &[f32]) -> (f64, f64) {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let difference: Vec<f32> = gradient.iter().zip(reference).map(|(a, b)| a - b).collect();
    let norm = dot(reference, reference).sqrt();
    let relative = dot(&difference, &difference).sqrt() / norm;
    (relative, dot(gradient, reference) / (norm * dot(gradient, gradient).sqrt()))
}

#[test]
fn logits_agree_with_transformers_and_peft() {
    for family in FAMILIES {
        let golden = Golden::load(family);
        assert_close(family, &golden.logits(None), &golden.floats("base_logits"), 1e-4);
        let adapted = golden.logits(Some(&golden.lora));
        assert_close(family, &adapted, &golden.floats("logits"), 1e-4);
        let moved = adapted.iter().zip(golden.floats("base_logits"));
        let moved = moved.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(moved > 0.1, "{family}: the adapter must act for this test to mean anything");
    }
}

#[test]
fn log_probs_agree_with_torch() {
    for family in FAMILIES {
        let golden = Golden::load(family);
        let (decoder, batch) = (&golden.model.decoder, golden.batch());
        let expected = golden.floats("log_probs");
        let rows: Vec<usize> = batch.spans.iter().flat_map(|span| span.rows().skip(1)).collect();
        let terms: Vec<Term> =
            rows.iter().map(|row| Term { row: row - 1, target: batch.tokens[*row] }).collect();
        let hidden = decoder.hidden(&batch, Some(&golden.lora)).unwrap();
        let scores = decoder.log_probs(&hidden, &terms, 1.0).unwrap();
        let expected: Vec<f32> = rows.iter().map(|row| expected[*row]).collect();
        assert_close(family, &scores.log_probs, &expected, 1e-5);
    }
}

#[test]
fn sft_loss_and_every_gradient_tensor_agree_with_peft() {
    for (family, keep) in FAMILIES
        .iter()
        .flat_map(|family| [Activations::All, Activations::LayerInputs].map(|keep| (family, keep)))
    {
        let golden = Golden::load(family);
        let (loss, gradient) = golden.sft(keep);
        assert_close(family, &[loss], &golden.floats("loss"), 1e-5);
        for parameter in golden.lora.layout().parameters() {
            let name = format!("grad.base_model.model.model.{}.weight", parameter.name);
            let (relative, cosine) =
                compare(&gradient[parameter.range.clone()], &golden.floats(&name));
            assert!(relative <= 1e-4 && cosine >= 0.99999, "{family} {name}: {relative} {cosine}");
        }
    }
}

#[test]
fn one_adamw_step_on_our_gradient_lands_where_torchs_does() {
    let (rate, epsilon, decay) = (1e-2_f64, 1e-8, 0.01);
    for family in FAMILIES {
        let golden = Golden::load(family);
        let (_, gradient) = golden.sft(Activations::All);
        for (parameter, before) in golden.lora.tensors() {
            let name = format!("stepped.base_model.model.model.{}.weight", parameter.name);
            // At the first step both bias-corrected moments are the gradient and its square.
            let step = |(p, g): (&f32, &f32)| {
                let (p, g) = (f64::from(*p), f64::from(*g));
                (p * (1.0 - rate * decay) - rate * g / (g.abs() + epsilon)) as f32
            };
            let after: Vec<f32> =
                before.iter().zip(&gradient[parameter.range.clone()]).map(step).collect();
            assert_close(&name, &after, &golden.floats(&name), 1e-5);
        }
    }
}

#[test]
fn our_adapter_directory_acts_as_the_one_peft_wrote() {
    for family in FAMILIES {
        let golden = Golden::load(family);
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("adapter");
        write_peft(&golden.lora, &directory, family, &[]).unwrap();
        let again = read_peft(&directory, golden.model.decoder.config()).unwrap().lora;
        assert_eq!(golden.logits(Some(&again)), golden.logits(Some(&golden.lora)));
    }
}

#[test]
fn templates_render_what_transformers_renders() {
    let text = fs::read_to_string(fixtures().join("template.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() >= 18);
    for case in &cases {
        let template =
            ChatTemplate::new(case["template"].as_str().unwrap(), serde_json::Map::new()).unwrap();
        let tools = case.get("tools").filter(|tools| !tools.is_null());
        let messages = case["messages"].as_array().unwrap();
        let prompt = case["add_generation_prompt"].as_bool().unwrap();
        let text = template.render_values(messages, tools, prompt).unwrap();
        assert_eq!(text, case["text"].as_str().unwrap(), "{}", case["name"]);
    }
}

/// A conversation as clients send it: arguments of calls are text there.
fn messages(values: &Value) -> Vec<Message> {
    let mut values = values.clone();
    for message in values.as_array_mut().unwrap() {
        for call in message["tool_calls"].as_array_mut().into_iter().flatten() {
            let arguments = call["function"]["arguments"].to_string();
            call["function"]["arguments"] = arguments.into();
        }
    }
    serde_json::from_value(values).unwrap()
}

/// What is served and trained on, special tokens, tools, variables and every ending included.
#[test]
fn conversations_are_written_as_transformers_writes_them() {
    let text = fs::read_to_string(fixtures().join("families.json")).unwrap();
    let golden: Value = serde_json::from_str(&text).unwrap();
    let base = Golden::load("llama").model;
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 32);
    for case in cases {
        let source = golden["templates"][case["template"].as_str().unwrap()].as_str().unwrap();
        let special = golden["special"].as_object().unwrap().clone();
        let template = ChatTemplate::new(source, special).unwrap();
        let conversation = &golden["conversations"][case["conversation"].as_str().unwrap()];
        let messages = messages(&conversation["messages"]);
        let chat = Conversation {
            messages: &messages,
            tools: conversation["tools"].as_array().unwrap(),
            variables: case["variables"].as_object(),
            ending: match case["ending"].as_str().unwrap() {
                "closed" => Ending::Closed,
                "reply" => Ending::Reply,
                _ => Ending::Continued,
            },
        };
        let text = base.render_chat_with(&template, &chat).unwrap().text();
        assert_eq!(text, case["text"].as_str().unwrap(), "{}", case["name"]);
    }
}

#[test]
fn a_directory_brings_its_tokenizer_and_stop_ids() {
    let golden = Golden::load("llama");
    let tokenizer = &golden.model.tokenizer;
    assert_eq!(tokenizer.eos(), [257]);
    let text = "<|im_start|>user\nnaïve 42<|im_end|>\n";
    let ids = tokenizer.encode(text).unwrap();
    assert_eq!((ids[0], tokenizer.decode(&ids).unwrap().as_str()), (256, text));
    let twin = Golden::load("qwen2").model.digests;
    assert_eq!(golden.model.digests.tokenizer, twin.tokenizer);
    assert_ne!(golden.model.digests.base, twin.base);
}
