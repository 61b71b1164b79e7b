//! Attempts for the measured GRPO step, drawn as `understudy train` draws them.

use std::{sync::Arc, time::Instant};

use understudy_model::{BaseModel, Lora};
use understudy_rollout::{Draw, Limits, Sampler};
use understudy_trainer::{Attempt, Call, Group, RolloutError, Rollouts};

use super::work::Work;

/// Samples every prompt's completions, and remembers what that took.
#[derive(Debug)]
pub(super) struct Timed {
    sampler: Sampler,
    prompts: Vec<Vec<u32>>,
    completions: usize,
    /// Of every round: tokens sampled, and seconds.
    pub(super) rounds: Vec<(usize, f64)>,
}

impl Timed {
    pub(super) fn start(base: Arc<BaseModel>, work: &Work) -> anyhow::Result<Self> {
        let limits = Limits {
            max_new_tokens: work.new_tokens as u32,
            temperature: 1.0,
            constraint: None,
            longest_prompt: work.grpo.iter().map(Vec::len).max().unwrap_or(1),
        };
        Ok(Self {
            sampler: Sampler::start(base, limits)?,
            prompts: work.grpo.clone(),
            completions: work.completions,
            rounds: Vec::new(),
        })
    }
}

impl Rollouts for Timed {
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
        self.sampler.follow(policy)?;
        let draw = |prompt: &usize, nth: usize| Draw {
            prompt_ids: self.prompts[*prompt].clone(),
            seed: seed.wrapping_add(nth as u64),
        };
        let draws: Vec<Draw> = prompts
            .iter()
            .flat_map(|prompt| (0..self.completions).map(move |nth| draw(prompt, nth)))
            .collect();
        let calls = self.sampler.draw(&draws)?;
        let tokens = calls.iter().map(|call| call.completion_ids.len()).sum();
        self.rounds.push((tokens, begun.elapsed().as_secs_f64()));
        Ok(calls.chunks(self.completions).map(group).collect())
    }
}

/// Every other attempt is rewarded: what a verifier would cost is not measured.
fn group(calls: &[Call]) -> Group {
    let attempt = |(nth, call): (usize, &Call)| Attempt {
        // A benchmark's completions all end at their limit, which is no reason to leave them out.
        calls: vec![Call { truncated: false, ..call.clone() }],
        reward: Some((nth % 2) as f64),
        ..Attempt::default()
    };
    Group { attempts: calls.iter().enumerate().map(attempt).collect() }
}
