//! Attempts for the measured GRPO step, sampled by our own engine over the weights being trained.

use std::{
    ops::ControlFlow,
    sync::{Arc, mpsc},
    time::Instant,
};

use understudy_engine::Engine;
use understudy_inference::{Backend, Completion, Event, GenerateRequest, Prompt, Sampling};
use understudy_model::{BaseModel, Lora};
use understudy_trainer::{Attempt, Call, Group, RolloutError, Rollouts};

use super::work::Work;

const ALIAS: &str = "policy";

/// Samples every prompt's completions, and remembers what that took.
#[derive(Debug)]
pub(super) struct Sampler {
    engine: Engine,
    prompts: Vec<Vec<u32>>,
    completions: usize,
    new_tokens: u32,
    /// Of every round: tokens sampled, and seconds.
    pub(super) rounds: Vec<(usize, f64)>,
}

impl Sampler {
    pub(super) fn start(base: Arc<BaseModel>, work: &Work) -> anyhow::Result<Self> {
        Ok(Self {
            engine: Engine::start(base, "base", understudy_engine::Config::default())?,
            prompts: work.grpo.clone(),
            completions: work.completions,
            new_tokens: work.new_tokens as u32,
            rounds: Vec::new(),
        })
    }

    /// Completions of these prompts, in order, all in flight together.
    fn complete(
        &self,
        asked: Vec<(usize, u64)>,
        tokens: u32,
    ) -> Result<Vec<Completion>, RolloutError> {
        let (sender, answers) = mpsc::channel();
        let count = asked.len();
        for (at, (prompt, seed)) in asked.into_iter().enumerate() {
            let sampling =
                Sampling { temperature: 1.0, seed: Some(seed), ..Sampling::greedy(tokens) };
            let request = GenerateRequest {
                prompt: Prompt::Tokens(self.prompts[prompt].clone()),
                adapter: Some(ALIAS.to_owned()),
                sampling,
            };
            let sender = sender.clone();
            let sink = move |event| {
                let answer = match event {
                    Event::Started(_) | Event::Delta(_) => return ControlFlow::Continue(()),
                    Event::Finished(completion) => Ok(*completion),
                    Event::Failed(error) => Err(error.to_string()),
                };
                // Whoever asked has gone away only if another answer was an error already.
                sender.send((at, answer)).ok();
                ControlFlow::Break(())
            };
            self.engine.submit(request, Box::new(sink)).map_err(|e| RolloutError(e.to_string()))?;
        }
        drop(sender);
        let mut completions: Vec<Option<Completion>> = (0..count).map(|_| None).collect();
        for (at, answer) in answers {
            completions[at] = Some(answer.map_err(RolloutError)?);
        }
        let missing = || RolloutError("the engine ended before every completion did".to_owned());
        completions.into_iter().map(|completion| completion.ok_or_else(missing)).collect()
    }
}

impl Rollouts for Sampler {
    fn prompts(&self) -> usize {
        self.prompts.len()
    }

    fn groups(
        &mut self,
        policy: &Lora,
        prompts: &[usize],
        seed: u64,
    ) -> Result<Vec<Group>, RolloutError> {
        let begun = Instant::now();
        self.engine.load_lora(ALIAS, policy).map_err(|e| RolloutError(e.to_string()))?;
        // One token of each prompt first: the completions then find the prompt read already.
        self.complete(prompts.iter().map(|prompt| (*prompt, seed)).collect(), 1)?;
        let asked = prompts.iter().flat_map(|prompt| {
            (0..self.completions).map(move |nth| (*prompt, seed.wrapping_add(nth as u64)))
        });
        let sampled = self.complete(asked.collect(), self.new_tokens)?;
        let calls: Vec<Call> = sampled.into_iter().map(call).collect::<Result<_, _>>()?;
        let tokens = calls.iter().map(|call| call.completion_ids.len()).sum();
        self.rounds.push((tokens, begun.elapsed().as_secs_f64()));
        let groups = calls.chunks(self.completions).map(|calls| Group {
            // Every other attempt is rewarded: what a verifier would cost is not measured.
            attempts: calls
                .iter()
                .enumerate()
                .map(|(nth, call)| Attempt {
                    calls: vec![call.clone()],
                    reward: Some((nth % 2) as f64),
                    ..Attempt::default()
                })
                .collect(),
        });
        Ok(groups.collect())
    }
}

fn call(completion: Completion) -> Result<Call, RolloutError> {
    let record = completion
        .tokens
        .ok_or_else(|| RolloutError("the engine did not record its tokens".to_owned()))?;
    Ok(Call {
        prompt_ids: record.prompt_ids,
        completion_ids: record.completion_ids,
        log_probs: record.sampling_logprobs,
        truncated: false,
    })
}
