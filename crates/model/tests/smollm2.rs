//! SmolLM2-135M-Instruct itself: tokenizer, template, numbers. Needs its GGUF file, named by
//! `UNDERSTUDY_TEST_BASE` or pulled into the user's cache; without it these tests say so and pass.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops at the first surprise and says aloud when it is skipped"
)]

use std::path::PathBuf;

use understudy_message::Message;
use understudy_model::{
    Activations, AdapterRun, BaseModel, Batch, Device, Lora, LoraSpec, Tensor, Term,
};

/// The model, or none with a loud word about it.
fn base() -> Option<BaseModel> {
    let named = std::env::var_os("UNDERSTUDY_TEST_BASE").map(PathBuf::from);
    let pulled = std::env::var_os("HOME").map(|home| {
        let models = PathBuf::from(home).join(".cache/understudy/models");
        models.join("smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf")
    });
    let found = named.or(pulled).filter(|path| path.is_file());
    if found.is_none() {
        eprintln!("SKIPPED: set UNDERSTUDY_TEST_BASE to SmolLM2-135M-Instruct.Q4_1.gguf");
    }
    found.map(|path| BaseModel::load(&path, &Device::Cpu).unwrap())
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Greedy completion of one user message.
fn answer(model: &BaseModel, question: &str, most: usize) -> String {
    let text = model.template.render(&[Message::user(question)], None, true).unwrap();
    let mut next = model.tokenizer.encode(&text).unwrap();
    let mut cache = model.decoder.cache().unwrap();
    let (mut stream, mut answer) = (model.tokenizer.stream(), String::new());
    for _ in 0..most {
        let mut batch = Batch::default();
        batch.push(&next, cache.len());
        let runs = AdapterRun::whole(&batch, None);
        let hidden = model.decoder.infer(&batch, &mut [&mut cache], &runs).unwrap();
        let last = hidden.narrow(0, next.len() - 1, 1).unwrap();
        let logits = values(&model.decoder.logits(&last).unwrap());
        let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
        if model.tokenizer.is_eos(best as u32) {
            break;
        }
        answer += &stream.push(best as u32).unwrap();
        next = vec![best as u32];
    }
    answer
}

#[test]
fn the_tokenizer_is_its_own_inverse_and_splits_digits() {
    let Some(model) = base() else { return };
    let tokenizer = &model.tokenizer;
    for text in [
        " leading and  double   spaces ",
        "digits 1234567890, 3.14 and x86",
        "na\u{ef}ve caf\u{e9} \u{2014} \u{201c}quotes\u{201d} \u{1f642} \u{65e5}\u{672c}\u{8a9e}",
        "tabs\tand\nnewlines\r\n\n\n  indented",
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
        "{\"a\": [1, 2, {\"b\": null}]} don't I'LL",
    ] {
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
    // Ids of the published tokenizer: no space sneaks in after a marker, every digit is a token.
    let ids = tokenizer.encode("<|im_start|>user\nHi 123<|im_end|>\n").unwrap();
    assert_eq!(ids, [1, 4093, 198, 26843, 216, 33, 34, 35, 2, 198]);
    assert_eq!((tokenizer.eos(), tokenizer.vocab_size()), ([2].as_slice(), 49152));
}

#[test]
fn the_template_adds_the_published_system_message_only_when_there_is_none() {
    let Some(model) = base() else { return };
    let render = |messages: &[Message]| model.template.render(messages, None, true).unwrap();
    let plain = render(&[Message::user("hi")]);
    assert!(plain.starts_with("<|im_start|>system\nYou are a helpful AI assistant named SmolLM"));
    assert!(plain.ends_with("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"));
    let own = render(&[Message::system("Be brief."), Message::user("hi")]);
    assert!(own.starts_with("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhi"));
}

#[test]
fn it_answers_sensibly() {
    let Some(model) = base() else { return };
    assert_eq!(
        answer(&model, "What is the capital of France?", 20),
        "The capital of France is Paris."
    );
}

#[test]
fn decoding_with_a_cache_agrees_with_the_whole_forward() {
    let Some(model) = base() else { return };
    let decoder = &model.decoder;
    let ids = model.tokenizer.encode("The mitochondria is the powerhouse of the cell.").unwrap();
    let whole = decoder.hidden(&Batch::of(&[&ids]), None).unwrap();
    let whole = values(&decoder.logits(&whole).unwrap());
    let mut cache = decoder.cache().unwrap();
    let mut stepped = Vec::new();
    for id in &ids {
        let mut batch = Batch::default();
        batch.push(&[*id], cache.len());
        let runs = AdapterRun::whole(&batch, None);
        let hidden = decoder.infer(&batch, &mut [&mut cache], &runs).unwrap();
        stepped.extend(values(&decoder.logits(&hidden).unwrap()));
    }
    let worst = whole.iter().zip(&stepped).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 1e-3, "logits differ by {worst}");
}

#[test]
fn a_few_steps_of_descent_lower_the_loss() {
    let Some(model) = base() else { return };
    let decoder = &model.decoder;
    let ids =
        model.tokenizer.encode("Ticket 4711 goes to the billing team, not to sales.").unwrap();
    let batch = Batch::of(&[&ids]);
    let terms: Vec<Term> =
        (1..ids.len()).map(|row| Term { row: row - 1, target: ids[row] }).collect();
    let coefficients = vec![-1.0 / terms.len() as f32; terms.len()];
    let mut lora = Lora::init(decoder.config(), &LoraSpec::standard(), 1).unwrap();
    let mut losses = Vec::new();
    for keep in [Activations::All, Activations::LayerInputs, Activations::All] {
        let (hidden, tape) = decoder.train_forward_keeping(&batch, Some(&lora), keep).unwrap();
        let (scores, d_hidden) =
            decoder.log_probs_grad(&hidden, &terms, &coefficients, 1.0).unwrap();
        losses.push(-scores.log_probs.iter().sum::<f32>() / terms.len() as f32);
        let mut grads = lora.zero_grads();
        decoder.backward(tape, &d_hidden, &lora, &mut grads).unwrap();
        let norm = grads.values().iter().map(|g| g * g).sum::<f32>().sqrt();
        for (value, gradient) in lora.values_mut().iter_mut().zip(grads.values()) {
            *value -= 0.1 * gradient / norm;
        }
    }
    assert!(losses[0] > losses[1] && losses[1] > losses[2], "{losses:?}");
}
