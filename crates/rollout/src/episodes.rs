//! Episodes in an environment: the model calls tools, turn by turn, many episodes at a time.

use std::sync::Arc;

use serde_json::json;
use understudy_environment::{Environment, Episode, Split, Task, Turn};
use understudy_ident::Digest;
use understudy_manifest::{GrpoSettings, canonical_json};
use understudy_message::{Message, Role};
use understudy_model::{BaseModel, Lora};
use understudy_trainer::{Attempt, Call, Group, Prompts, RolloutError, Rollouts};

use crate::{
    RolloutSetupError,
    sampler::{Draw, Limits, Sampler, seed_of},
};

/// An episode's prompt grows turn by turn; this much room is kept for it, in tokens.
const ROOM: usize = 768;

/// Attempts at an environment's tasks.
#[derive(Debug)]
pub struct Episodes {
    sampler: Sampler,
    environment: Box<dyn Environment>,
    tasks: Vec<Task>,
    group_size: usize,
    room: usize,
    origin: String,
}

/// One episode under way.
struct Playing {
    task: usize,
    attempt: usize,
    episode: Box<dyn Episode>,
    messages: Vec<Message>,
    calls: Vec<Call>,
    /// What the model reads next; `None` once the episode is over.
    next: Option<Vec<u32>>,
    failed: bool,
}

impl Episodes {
    /// The first `count` tasks of a split.
    pub fn start(
        base: Arc<BaseModel>,
        settings: &GrpoSettings,
        (split, seed, count): (Split, u64, usize),
    ) -> Result<Self, RolloutSetupError> {
        let name = settings.environment.as_deref().unwrap_or_default();
        let environment = understudy_environment::named(name)?;
        let tasks = environment.tasks(split, seed, count);
        let new = settings.max_new_tokens as usize;
        let room = ROOM.min(base.decoder.config().max_positions.saturating_sub(new));
        let limits = Limits {
            max_new_tokens: settings.max_new_tokens,
            temperature: settings.temperature as f32,
            constraint: None,
            longest_prompt: room,
        };
        let sampler = Sampler::start(base, limits)?;
        let origin = canonical_json(&json!({
            "environment": name, "split": split, "seed": seed, "count": count,
        }));
        let group_size = settings.group_size;
        let episodes = Self { sampler, environment, tasks, group_size, room, origin };
        let longest = episodes.longest_prompt()?;
        if longest > room {
            let context = episodes.sampler.base().decoder.config().max_positions;
            return Err(RolloutSetupError::TooLong { prompt: longest, max_new: new, context });
        }
        Ok(episodes)
    }

    fn longest_prompt(&self) -> Result<usize, RolloutSetupError> {
        let base = self.sampler.base();
        let mut longest = 0;
        for task in &self.tasks {
            let text = base.template.render(&task.prompt, None, true)?;
            longest = longest.max(base.tokenizer.encode(&text)?.len());
        }
        Ok(longest)
    }

    /// What the trainer needs to know of the tasks.
    pub fn describe(&self) -> Result<Prompts, RolloutError> {
        let lengths: Vec<usize> = self
            .tasks
            .iter()
            .map(|task| Ok(self.render(&task.prompt)?.len()))
            .collect::<Result<_, RolloutError>>()?;
        Ok(Prompts {
            digest: Digest::of(self.origin.as_bytes()).to_hex(),
            count: self.tasks.len(),
            tokens: lengths.iter().sum(),
            longest: lengths.iter().copied().max().unwrap_or(0),
        })
    }

    /// The reward of playing every task once by the likeliest replies.
    pub fn greedy_rewards(&mut self, policy: &Lora) -> Result<Vec<Option<f64>>, RolloutError> {
        self.sampler.follow(policy)?;
        let mut playing: Vec<Playing> =
            (0..self.tasks.len()).map(|task| self.open(task, 0)).collect::<Result<_, _>>()?;
        while playing.iter().any(|one| one.next.is_some()) {
            let prompts: Vec<Vec<u32>> =
                playing.iter().filter_map(|one| one.next.clone()).collect();
            self.advance(&mut playing, self.sampler.greedy(&prompts)?)?;
        }
        playing.iter().map(reward).collect()
    }

    fn open(&self, task: usize, attempt: usize) -> Result<Playing, RolloutError> {
        let broke = |error: &dyn std::error::Error| RolloutError(error.to_string());
        let episode = self.environment.start(&self.tasks[task]).map_err(|error| broke(&error))?;
        let messages = episode.prompt();
        let next = Some(self.render(&messages)?);
        Ok(Playing { task, attempt, episode, messages, calls: Vec::new(), next, failed: false })
    }

    fn render(&self, messages: &[Message]) -> Result<Vec<u32>, RolloutError> {
        let base = self.sampler.base();
        let ids = base
            .template
            .render(messages, None, true)
            .and_then(|text| base.tokenizer.encode(&text));
        ids.map_err(|error| RolloutError(error.to_string()))
    }

    /// Gives every episode that waits for one its next call, in order.
    fn advance(&self, playing: &mut [Playing], calls: Vec<Call>) -> Result<(), RolloutError> {
        let waiting = playing.iter_mut().filter(|one| one.next.is_some());
        for (one, call) in waiting.zip(calls) {
            let reply = Message::assistant(self.sampler.text(&call)?);
            let turn = one.episode.act(&reply);
            one.messages.push(reply);
            // A reply without an end can't be continued: the model had more to say.
            let cut = call.truncated;
            one.calls.push(call);
            one.next = match turn {
                Turn::Observe(seen) if !cut => self.continued(one, seen)?,
                Turn::Observe(_) | Turn::Done => None,
                Turn::Failed(_) => {
                    one.failed = true;
                    None
                }
            };
        }
        Ok(())
    }

    /// The ids of the next turn: exactly those read and said so far, and then what the template
    /// writes between the last reply's end and the next reply's beginning. Encoding the whole
    /// conversation again might cut it into other tokens than were sampled.
    fn continued(
        &self,
        one: &mut Playing,
        seen: Vec<Message>,
    ) -> Result<Option<Vec<u32>>, RolloutError> {
        let base = self.sampler.base();
        let render = |messages: &[Message], open: bool| {
            let text = base.template.render(messages, None, open);
            text.map_err(|error| RolloutError(error.to_string()))
        };
        let before = render(&one.messages, false)?;
        let first_new = one.messages.len();
        one.messages.extend(seen);
        debug_assert!(
            one.messages[first_new..].iter().all(|message| message.role != Role::Assistant),
            "an environment does not speak for the model"
        );
        let after = render(&one.messages, true)?;
        let Some(last) = one.calls.last() else { return Ok(None) };
        let ids = match between(base, &before, &after) {
            Some(text) => {
                let suffix = base.tokenizer.encode(&text);
                let suffix = suffix.map_err(|error| RolloutError(error.to_string()))?;
                [last.prompt_ids.as_slice(), &last.completion_ids, &suffix].concat()
            }
            // A template that rewrites history begins a new row; the trainer counts it.
            None => self.render(&one.messages)?,
        };
        Ok((ids.len() <= self.room).then_some(ids))
    }
}

/// What the template writes after the last reply's stop token, when it leaves what came before as
/// it was.
fn between(base: &BaseModel, before: &str, after: &str) -> Option<String> {
    let rest = after.strip_prefix(before)?;
    let ids = base.tokenizer.encode(before).ok()?;
    let stop = ids.iter().rposition(|id| base.tokenizer.is_eos(*id))?;
    let tail = base.tokenizer.decode(&ids[stop + 1..]).ok()?;
    Some(tail + rest)
}

fn reward(one: &Playing) -> Result<Option<f64>, RolloutError> {
    if one.failed {
        return Ok(None);
    }
    let reward = one.episode.reward().map_err(|error| RolloutError(error.to_string()))?;
    // An episode that ran out of room or was cut short has earned nothing yet, and never will.
    Ok(Some(reward.unwrap_or(0.0)))
}

fn attempt(one: Playing) -> Result<Attempt, RolloutError> {
    let reward = reward(&one)?;
    let said = one.messages.iter().filter(|message| message.role == Role::Assistant);
    let text = said.map(Message::text).collect::<Vec<_>>().join("\n");
    let turns = one.calls.len();
    // The environment rewards the end; earlier turns are rewarded by what they led to.
    let call_rewards = reward.map(|reward| {
        (0..turns).map(|turn| if turn + 1 == turns { reward } else { 0.0 }).collect()
    });
    Ok(Attempt {
        calls: one.calls,
        reward,
        components: vec![("environment".to_owned(), reward)],
        call_rewards,
        failed: one.failed,
        text,
    })
}

impl Rollouts for Episodes {
    fn prompts(&self) -> usize {
        self.tasks.len()
    }

    fn groups(
        &mut self,
        policy: &Lora,
        prompts: &[usize],
        seed: u64,
    ) -> Result<Vec<Group>, RolloutError> {
        self.sampler.follow(policy)?;
        let mut playing = Vec::new();
        for task in prompts {
            for attempt in 0..self.group_size {
                playing.push(self.open(*task, attempt)?);
            }
        }
        let mut turn = 0;
        while playing.iter().any(|one| one.next.is_some()) {
            let draws: Vec<Draw> = playing
                .iter()
                .filter_map(|one| {
                    let prompt_ids = one.next.clone()?;
                    Some(Draw { prompt_ids, seed: seed_of(seed, one.task, one.attempt, turn) })
                })
                .collect();
            self.advance(&mut playing, self.sampler.draw(&draws)?)?;
            turn += 1;
        }
        let mut attempts = playing.into_iter().map(attempt);
        let group = |_: &usize| {
            let own = attempts.by_ref().take(self.group_size);
            Ok(Group { attempts: own.collect::<Result<_, _>>()? })
        };
        prompts.iter().map(group).collect()
    }
}
