//! The engine as a sampler of the adapter being trained.

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    sync::{Arc, mpsc},
};

use understudy_engine::{Config, Engine, KvCacheDtype};
use understudy_ident::Digest;
use understudy_inference::{
    Backend, Completion, Constraint, Event, FinishReason, GenerateRequest, InferenceError, Prompt,
    Sampling, Sink,
};
use understudy_model::{BaseModel, Lora};
use understudy_trainer::{Call, RolloutError};

use crate::RolloutSetupError;

/// What the adapter being trained is called in the engine.
const POLICY: &str = "policy";

/// Sequences decoded together. More than this no longer makes a token cheaper on few cores.
const TOGETHER: usize = 32;

/// How attempts are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// At most so many tokens in one completion.
    pub max_new_tokens: u32,
    pub temperature: f32,
    /// What every completion must be. What it leaves no choice about is not drawn.
    pub constraint: Option<Constraint>,
    /// The longest prompt there will be, later turns included.
    pub longest_prompt: usize,
}

/// Samples completions of token prompts, each with a seed of its own.
#[derive(Debug)]
pub struct Sampler {
    base: Arc<BaseModel>,
    engine: Engine,
    limits: Limits,
}

/// One completion to draw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draw {
    pub prompt_ids: Vec<u32>,
    pub seed: u64,
}

impl Sampler {
    /// Starts an engine over a base that the trainer holds, too.
    pub fn start(base: Arc<BaseModel>, limits: Limits) -> Result<Self, RolloutSetupError> {
        let context = base.decoder.config().max_positions;
        let (prompt, max_new) = (limits.longest_prompt, limits.max_new_tokens as usize);
        if prompt + max_new > context {
            return Err(RolloutSetupError::TooLong { prompt, max_new, context });
        }
        let sequence = prompt + max_new + 1;
        let config = Config {
            max_running: TOGETHER,
            max_waiting: 1 << 16,
            max_waiting_tokens: usize::MAX,
            step_tokens: 512,
            // Nobody waits for a single token here.
            beside_decoding: 512,
            kv_tokens: TOGETHER * sequence,
            // One trunk for every prompt of a round, and what later turns continue.
            prefix_tokens: 2 * TOGETHER * sequence,
            // What is learnt from must score as the training pass scores it.
            kv_cache_dtype: KvCacheDtype::F32,
            ..Config::default()
        };
        let engine = Engine::start(Arc::clone(&base), "base", config)?;
        Ok(Self { base, engine, limits })
    }

    pub(crate) fn base(&self) -> &BaseModel {
        &self.base
    }

    /// Makes an adapter the one that is sampled from.
    pub fn follow(&self, policy: &Lora) -> Result<(), RolloutError> {
        self.engine.load_lora(POLICY, policy).map(drop).map_err(failed)
    }

    /// Draws all completions, in order. Each distinct prompt is read once.
    pub fn draw(&self, draws: &[Draw]) -> Result<Vec<Call>, RolloutError> {
        self.read_ahead(draws)?;
        let sampled = self.run(draws, self.limits.max_new_tokens, self.limits.temperature)?;
        sampled.into_iter().map(call).collect()
    }

    /// The likeliest completions, for measuring and not for training.
    pub(crate) fn greedy(&self, prompts: &[Vec<u32>]) -> Result<Vec<Call>, RolloutError> {
        let draw = |ids: &Vec<u32>| Draw { prompt_ids: ids.clone(), seed: 0 };
        let draws: Vec<Draw> = prompts.iter().map(draw).collect();
        let sampled = self.run(&draws, self.limits.max_new_tokens, 0.0)?;
        sampled.into_iter().map(call).collect()
    }

    /// What a call said, as text.
    pub(crate) fn text(&self, call: &Call) -> Result<String, RolloutError> {
        let tokenizer = &self.base.tokenizer;
        let mut ids = call.completion_ids.as_slice();
        while let [rest @ .., last] = ids
            && tokenizer.is_eos(*last)
        {
            ids = rest;
        }
        tokenizer.decode(ids).map_err(|error| RolloutError(error.to_string()))
    }

    /// Reads every prompt that several completions continue, so that they find it cached.
    fn read_ahead(&self, draws: &[Draw]) -> Result<(), RolloutError> {
        let mut seen = BTreeSet::new();
        let again: BTreeSet<&[u32]> = draws
            .iter()
            .map(|draw| draw.prompt_ids.as_slice())
            .filter(|prompt| !seen.insert(*prompt))
            .collect();
        let prompts: Vec<Draw> =
            again.into_iter().map(|ids| Draw { prompt_ids: ids.to_vec(), seed: 0 }).collect();
        self.run(&prompts, 1, 0.0).map(drop)
    }

    fn run(
        &self,
        draws: &[Draw],
        max_tokens: u32,
        temperature: f32,
    ) -> Result<Vec<Completion>, RolloutError> {
        let (sender, receiver) = mpsc::channel();
        let request = |(nth, draw): (usize, &Draw)| {
            let sampling = Sampling {
                temperature,
                seed: Some(draw.seed),
                constraint: self.limits.constraint.clone(),
                ..Sampling::greedy(max_tokens)
            };
            let prompt = Prompt::Tokens(draw.prompt_ids.clone());
            let request = GenerateRequest::new(prompt, sampling);
            (request.with_adapter(Some(POLICY.to_owned())), sink(nth, sender.clone()))
        };
        let requests = draws.iter().enumerate().map(request).collect();
        self.engine.submit_all(requests).map_err(failed)?;
        drop(sender);
        let mut completions: Vec<Option<Completion>> = draws.iter().map(|_| None).collect();
        for (nth, ended) in receiver {
            completions[nth] = Some(ended.map_err(failed)?);
        }
        completions
            .into_iter()
            .map(|completion| completion.ok_or_else(|| failed(InferenceError::ShuttingDown)))
            .collect()
    }
}

/// The seed of one draw: of a round, a prompt and an attempt at it, whatever is drawn beside it.
pub(crate) fn seed_of(round: u64, prompt: usize, attempt: usize, turn: usize) -> u64 {
    let numbers = [round, prompt as u64, attempt as u64, turn as u64].map(u64::to_le_bytes);
    let digest = Digest::of_parts(numbers.iter().map(|bytes| &bytes[..]));
    let (words, _) = digest.as_bytes().as_chunks();
    words.first().map_or(round, |word| u64::from_le_bytes(*word))
}

fn sink(nth: usize, sender: mpsc::Sender<(usize, Result<Completion, InferenceError>)>) -> Sink {
    let tell = move |ended| match sender.send((nth, ended)) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    };
    Box::new(move |event| match event {
        Event::Started(_) | Event::Delta(_) => ControlFlow::Continue(()),
        Event::Finished(completion) => tell(Ok(*completion)),
        Event::Failed(error) => tell(Err(error)),
    })
}

fn call(completion: Completion) -> Result<Call, RolloutError> {
    let truncated = completion.finish_reason == FinishReason::Length;
    let record = completion
        .tokens
        .ok_or_else(|| RolloutError("the engine recorded no token ids".to_owned()))?;
    Ok(Call {
        prompt_ids: record.prompt_ids,
        completion_ids: record.completion_ids,
        log_probs: record.sampling_logprobs,
        forced: record.forced.iter().map(|place| *place as usize).collect(),
        truncated,
    })
}

fn failed(error: InferenceError) -> RolloutError {
    RolloutError(error.to_string())
}
