//! Everything on a tiny random model, whose answers a plain loop over the decoder predicts.

mod adapters;
mod attestation;
mod batching;
mod cancelled;
mod chat;
mod company;
mod constraints;
mod lifecycle;
mod limits;
mod line;
mod many;
mod scores;
mod soak;
mod swap;
mod text;

use std::{ops::ControlFlow, path::PathBuf, sync::mpsc, time::Duration};

use understudy_inference::{
    Backend, Completion, Event, GenerateRequest, InferenceError, Prompt, Sampling, Student,
};
use understudy_model::{
    BaseModel, Batch, Device, Family, Lora, LoraSpec, ModelConfig, Targets, read_peft, write_peft,
};

use crate::{Config, Engine, KvCacheDtype};

const PATIENCE: Duration = Duration::from_mins(1);

/// What the tests run on: `UNDERSTUDY_TEST_DEVICE`, or the processor.
fn here() -> Device {
    let name = std::env::var("UNDERSTUDY_TEST_DEVICE");
    understudy_model::device(name.as_deref().unwrap_or("cpu")).unwrap()
}

/// Only the processor keeps keys and values in blocks that prompts can share.
fn shares_blocks() -> bool {
    here().is_cpu()
}

fn model() -> BaseModel {
    BaseModel::random(ModelConfig::tiny(Family::Llama), 7, &here()).unwrap()
}

fn engine(config: Config) -> Engine {
    Engine::start(model(), "tiny", config).unwrap()
}

/// An adapter that changes what the tiny model says, as a PEFT directory.
fn write_adapter(root: &tempfile::TempDir, seed: u32) -> PathBuf {
    let spec = LoraSpec::new(4, 8.0, Targets::AllLinear);
    let mut lora = Lora::init(&ModelConfig::tiny(Family::Llama), &spec, u64::from(seed)).unwrap();
    for (n, value) in lora.values_mut().iter_mut().enumerate() {
        *value += ((n as f32 + 1.0) * (seed as f32 + 2.0)).sin() * 0.2;
    }
    let path = root.path().join(format!("adapter-{seed}"));
    write_peft(&lora, &path, "tiny", &[]).unwrap();
    path
}

fn request(prompt: &[u32], adapter: Option<&str>, max_tokens: u32) -> GenerateRequest {
    GenerateRequest::new(Prompt::Tokens(prompt.to_vec()), Sampling::greedy(max_tokens))
        .with_adapter(adapter.map(str::to_owned))
}

/// The same with other sampling.
fn sampled(prompt: &[u32], sampling: Sampling) -> GenerateRequest {
    GenerateRequest::new(Prompt::Tokens(prompt.to_vec()), sampling)
}

fn ids(completion: &Completion) -> &[u32] {
    &completion.tokens.as_ref().unwrap().completion_ids
}

/// Greedy decoding without batching, caching or scheduling: the whole sequence again for each token.
fn greedy(prompt: &[u32], adapter: Option<&PathBuf>, max_tokens: usize) -> Vec<u32> {
    let model = model();
    let lora = adapter.map(|path| read_peft(path, model.decoder.config()).unwrap().lora);
    let mut tokens = prompt.to_vec();
    while tokens.len() < prompt.len() + max_tokens {
        let hidden = model.decoder.hidden(&Batch::of(&[&tokens]), lora.as_ref()).unwrap();
        let rows = model.decoder.logits(&hidden).unwrap().to_vec2::<f32>().unwrap();
        let scores = rows.last().unwrap();
        let best = (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap();
        tokens.push(best as u32);
        if model.tokenizer.is_eos(best as u32) {
            break;
        }
    }
    tokens.split_off(prompt.len())
}

/// The events of one accepted request.
struct Reply(mpsc::Receiver<Event>);

impl Reply {
    /// The next event, `None` once the engine has let go of the sink.
    fn next(&self) -> Option<Event> {
        match self.0.recv_timeout(PATIENCE) {
            Ok(event) => Some(event),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("the engine hangs"),
        }
    }

    /// All deltas joined, and the one last event.
    fn all(self) -> (String, Result<Completion, InferenceError>) {
        let (mut text, mut end) = (String::new(), None);
        while let Some(event) = self.next() {
            assert!(end.is_none(), "nothing follows the last event");
            match event {
                Event::Started(_) => {}
                Event::Delta(piece) => text += &piece.text,
                Event::Finished(completion) => end = Some(Ok(*completion)),
                Event::Failed(error) => end = Some(Err(error)),
            }
        }
        (text, end.expect("every accepted request has a last event"))
    }

    fn end(self) -> Result<Completion, InferenceError> {
        self.all().1
    }
}

fn submit(engine: &Engine, request: GenerateRequest) -> Result<Reply, InferenceError> {
    let (sender, receiver) = mpsc::channel();
    let sink = move |event| match sender.send(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    engine.submit(request, Box::new(sink))?;
    Ok(Reply(receiver))
}

fn complete(engine: &Engine, request: GenerateRequest) -> Result<Completion, InferenceError> {
    submit(engine, request)?.end()
}

/// Waits until nothing runs or waits any more.
fn settle(engine: &Engine) {
    for _ in 0..2_000 {
        let stats = engine.stats();
        if stats.running == 0 && stats.waiting == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("the engine does not come to rest: {:?}", engine.stats());
}
