//! Branch replay: logged prompts, answered again.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use understudy_ident::Digest;
use understudy_inference::Constraint;
use understudy_manifest::{
    PromptExample, RewardSpec, RolloutConstraint, SftExample, canonical_json,
};
use understudy_message::Message;
use understudy_model::Lora;
use understudy_reward::{self as reward, Attempt as Scoring, ConstantAnswers, Rewards, Scored};
use understudy_trainer::{Attempt, Call, Group, Prompts, RolloutError, Rollouts};

use crate::{
    RolloutSetupError,
    sampler::{Draw, Limits, Sampler, seed_of},
};

/// A logged state to answer again, and the reply that is known to be good.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    pub prompt: Vec<Message>,
    /// Definitions of the tools that may be called, in the OpenAI form.
    pub tools: Vec<Value>,
    /// The reply that was accepted, corrected, or the teacher's.
    pub expected: Option<Message>,
    /// For programs that verify; `null` if there is none.
    pub record: Value,
}

impl From<&SftExample> for Question {
    fn from(example: &SftExample) -> Self {
        let expected = example.completion.first().cloned();
        let record = json!({"trajectory": example.origin.trajectory});
        Self { prompt: example.prompt.clone(), tools: example.tools.clone(), expected, record }
    }
}

impl Question {
    /// Everything that was asked, beside the answer that is known to be good where one is: rewards
    /// that compare have no opinion about the others.
    pub fn of_prompts(sft: &[SftExample], prompts: &[PromptExample]) -> Vec<Self> {
        let asked = |prompt: &[Message], tools: &[Value]| canonical_json(&(prompt, tools));
        let mut answered: BTreeMap<String, &SftExample> = BTreeMap::new();
        for example in sft {
            answered.entry(asked(&example.prompt, &example.tools)).or_insert(example);
        }
        let question = |example: &PromptExample| {
            let PromptExample { prompt, tools, origin } = example;
            let known = answered.get(&asked(prompt, tools));
            known.map_or_else(
                || Self {
                    prompt: prompt.clone(),
                    tools: tools.clone(),
                    expected: None,
                    record: json!({"trajectory": origin.trajectory}),
                },
                |example| Self::from(*example),
            )
        };
        prompts.iter().map(question).collect()
    }
}

/// Attempts at logged prompts, scored by a recipe's rewards.
#[derive(Debug)]
pub struct Replay {
    sampler: Sampler,
    questions: Vec<Question>,
    prompts: Vec<Vec<u32>>,
    rewards: Rewards,
    specs: Vec<RewardSpec>,
    group_size: usize,
}

impl Replay {
    /// `longest` prompts in tokens are left out beyond; see [`Self::prompts_of`].
    pub fn start(
        base: std::sync::Arc<understudy_model::BaseModel>,
        questions: Vec<Question>,
        settings: &understudy_manifest::GrpoSettings,
        max_tokens: usize,
    ) -> Result<Self, RolloutSetupError> {
        let rewards = Rewards::of(&settings.rewards)?;
        let new = settings.max_new_tokens as usize;
        let most = max_tokens.min(base.decoder.config().max_positions).saturating_sub(new);
        let (mut kept, mut prompts) = (Vec::new(), Vec::new());
        for question in questions {
            let tools = (!question.tools.is_empty()).then(|| json!(question.tools));
            let text = base.template.render(&question.prompt, tools.as_ref(), true)?;
            let ids = base.tokenizer.encode(&text)?;
            if ids.len() <= most {
                kept.push(question);
                prompts.push(ids);
            }
        }
        let limits = Limits {
            max_new_tokens: settings.max_new_tokens,
            temperature: settings.temperature as f32,
            constraint: settings.constraint.as_ref().map(constraint),
            longest_prompt: prompts.iter().map(Vec::len).max().unwrap_or(1),
        };
        let sampler = Sampler::start(base, limits)?;
        let (specs, group_size) = (settings.rewards.clone(), settings.group_size);
        Ok(Self { sampler, questions: kept, prompts, rewards, specs, group_size })
    }

    /// What the trainer needs to know of the prompts.
    pub fn describe(&self) -> Prompts {
        let prompts: Vec<Value> = self.questions.iter().map(|q| json!(q.prompt)).collect();
        let expected: Vec<Value> = self.questions.iter().map(|q| json!(q.expected)).collect();
        let all = canonical_json(&(prompts, expected, &self.specs));
        Prompts {
            digest: Digest::of(all.as_bytes()).to_hex(),
            count: self.prompts.len(),
            tokens: self.prompts.iter().map(Vec::len).sum(),
            longest: self.prompts.iter().map(Vec::len).max().unwrap_or(0),
        }
    }

    /// What an answer that ignores its question would earn.
    pub fn constant_answers(&self) -> ConstantAnswers {
        let questions: Vec<reward::Question<'_>> = self
            .questions
            .iter()
            .filter_map(|question| {
                let expected = question.expected.as_ref()?;
                let (prompt, record) = (question.prompt.as_slice(), &question.record);
                Some(reward::Question { prompt, expected, record })
            })
            .collect();
        self.rewards.constant_answers(&questions, Rewards::CONSTANT_SHARE)
    }

    /// What a run should record about its rewards.
    pub fn notes(&self) -> Vec<(String, String)> {
        self.rewards.notes()
    }

    /// The reward of the likeliest answer to every prompt.
    pub fn greedy_rewards(&mut self, policy: &Lora) -> Result<Vec<Option<f64>>, RolloutError> {
        self.sampler.follow(policy)?;
        let calls = self.sampler.greedy(&self.prompts)?;
        let score = |(nth, call): (usize, Call)| {
            let attempts = self.score(nth, vec![call])?;
            Ok(attempts[0].reward)
        };
        calls.into_iter().enumerate().map(score).collect()
    }

    fn score(&self, prompt: usize, calls: Vec<Call>) -> Result<Vec<Attempt>, RolloutError> {
        let question = &self.questions[prompt];
        let texts: Vec<String> =
            calls.iter().map(|call| self.sampler.text(call)).collect::<Result<_, _>>()?;
        let replies: Vec<Message> = texts.iter().map(Message::assistant).collect();
        let scoring: Vec<Scoring<'_>> = replies
            .iter()
            .zip(&calls)
            .map(|(reply, call)| Scoring {
                prompt: &question.prompt,
                completion: std::slice::from_ref(reply),
                expected: question.expected.as_ref(),
                record: &question.record,
                completion_tokens: call.completion_ids.len(),
            })
            .collect();
        let scored = self.rewards.score_group(&scoring);
        let attempts = calls.into_iter().zip(texts).zip(scored);
        Ok(attempts.map(|((call, text), scored)| attempt(call, text, scored)).collect())
    }
}

fn attempt(call: Call, text: String, scored: Scored) -> Attempt {
    Attempt {
        calls: vec![call],
        reward: scored.total,
        components: scored.components,
        text,
        ..Attempt::default()
    }
}

impl Rollouts for Replay {
    fn prompts(&self) -> usize {
        self.prompts.len()
    }

    fn groups(
        &mut self,
        policy: &Lora,
        prompts: &[usize],
        seed: u64,
    ) -> Result<Vec<Group>, RolloutError> {
        self.sampler.follow(policy)?;
        let draws: Vec<Draw> = prompts
            .iter()
            .flat_map(|prompt| {
                (0..self.group_size).map(|attempt| Draw {
                    prompt_ids: self.prompts[*prompt].clone(),
                    seed: seed_of(seed, *prompt, attempt, 0),
                })
            })
            .collect();
        let mut calls = self.sampler.draw(&draws)?.into_iter();
        prompts
            .iter()
            .map(|prompt| {
                let own: Vec<Call> = calls.by_ref().take(self.group_size).collect();
                Ok(Group { attempts: self.score(*prompt, own)? })
            })
            .collect()
    }
}

fn constraint(asked: &RolloutConstraint) -> Constraint {
    match asked {
        RolloutConstraint::JsonObject => Constraint::JsonObject,
        RolloutConstraint::JsonSchema(schema) => Constraint::JsonSchema(schema.clone()),
        RolloutConstraint::Regex(pattern) => Constraint::Regex(pattern.clone()),
        RolloutConstraint::Choice(texts) => Constraint::Choice(texts.clone()),
    }
}
