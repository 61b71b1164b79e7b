//! Another model's opinion.
//!
//! One attempt alone gets an absolute score. The attempts of a group are put before the judge
//! together, as in RULER (OpenPipe/ART, `src/art/rewards/ruler.py`): what they share is sent once,
//! and their scores mean something only relative to one another. Their order is shuffled, by a seed
//! and the group's own text, because judges prefer what stands in certain places; attempts that are
//! the same get the same score, and a group of nothing else gets none, there being nothing to
//! compare.
//!
//! A judge that is slow, down, or answers in another form has no opinion.

mod key;
mod prompt;
mod wire;

use std::{io, time::Duration};

use serde_json::Value;
use understudy_manifest::JudgeSpec;
use understudy_message::Message;
use ureq::{Agent, http::header};

use crate::{Attempt, Reward, RewardError};
use key::Key;
use prompt::Group;

pub use prompt::JUDGE_PROMPT_VERSION;

/// A model behind an OpenAI-compatible chat endpoint that gives scores from 0 to 1.
#[derive(Debug)]
pub struct Judge {
    name: String,
    url: String,
    model: String,
    rubric: String,
    key: Option<Key>,
    timeout: Duration,
    seed: u64,
    agent: Agent,
}

/// More than any judgement of a group needs.
const LONGEST_REPLY: u64 = 256 << 10;

impl Judge {
    /// Checks the endpoint's form and reads the key from the environment; sends nothing.
    pub fn new(name: &str, spec: &JudgeSpec) -> Result<Self, RewardError> {
        let wrong = |why| RewardError::Endpoint { url: spec.url.clone(), why };
        let base: ureq::http::Uri = spec.url.parse().map_err(|_| wrong("it is not a URL"))?;
        if !matches!(base.scheme_str(), Some("http" | "https")) || base.host().is_none() {
            return Err(wrong("it has no http or https scheme and host"));
        }
        // What the URL says ends up in logs and `Debug` prints.
        if base.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            let url = "https://…@…".to_owned();
            let why = "a secret belongs in the variable that `key_env` names";
            return Err(RewardError::Endpoint { url, why });
        }
        let timeout = Duration::try_from_secs_f64(spec.timeout_s)
            .map_err(|_| wrong("its timeout is not a number of seconds"))?;
        let mut config = Agent::config_builder();
        if matches!(base.host(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            // A proxy from the environment cannot reach this machine's own address for us.
            config = config.proxy(None);
        }
        let agent = config
            .http_status_as_error(false)
            // A redirect would carry the attempts, and maybe the key, to another host.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(timeout))
            .build()
            .new_agent();
        Ok(Self {
            name: name.to_owned(),
            url: format!("{}/chat/completions", spec.url.trim_end_matches('/')),
            model: spec.model.clone(),
            rubric: spec.rubric.clone().unwrap_or_else(|| prompt::RUBRIC.to_owned()),
            key: spec.key_env.as_deref().map(Key::from_env).transpose()?,
            timeout,
            seed: 0,
            agent,
        })
    }

    /// Another seed gives groups another order.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Relative scores of attempts at one prompt, in their order: all, or none at all. None where
    /// all attempts are the same.
    pub fn score_group(&self, attempts: &[Attempt<'_>]) -> Result<Vec<Option<f64>>, RewardError> {
        let group = Group::of(attempts, self.seed);
        if group.len() < 2 {
            return Ok(vec![None; attempts.len()]);
        }
        let reply = self.ask(&group.messages(&self.rubric))?;
        let scores = group.read(&reply).map_err(|why| self.failed(&why))?;
        Ok(scores.into_iter().map(Some).collect())
    }

    fn ask(&self, messages: &[Message]) -> Result<Value, RewardError> {
        let mut post = self.agent.post(&self.url);
        if let Some(key) = &self.key {
            post = post.header(header::AUTHORIZATION, key.bearer());
        }
        let request = wire::Request { model: &self.model, messages, temperature: 0.0 };
        let response = post.send_json(request).map_err(|error| self.unreachable(error))?;
        let status = response.status();
        let body = response.into_body().into_with_config().limit(LONGEST_REPLY).read_to_string();
        let body = body.map_err(|error| self.unreachable(error))?;
        if !status.is_success() {
            let said: String = body.chars().take(300).collect();
            return Err(self.failed(&format!("it answered {status}: {said}")));
        }
        wire::judgement(&body).map_err(|why| self.failed(&why))
    }

    fn unreachable(&self, error: ureq::Error) -> RewardError {
        let timed_out = match &error {
            ureq::Error::Timeout(_) => true,
            ureq::Error::Io(why) => why.kind() == io::ErrorKind::TimedOut,
            _ => false,
        };
        if timed_out {
            return RewardError::JudgeTimeout { url: self.url.clone(), within: self.timeout };
        }
        self.failed(&error.to_string())
    }

    fn failed(&self, why: &str) -> RewardError {
        let why = self.key.as_ref().map_or_else(|| why.to_owned(), |key| key.scrub(why));
        RewardError::Judge { url: self.url.clone(), why }
    }
}

impl Reward for Judge {
    fn name(&self) -> &str {
        &self.name
    }

    fn score(&self, attempt: &Attempt<'_>) -> Result<Option<f64>, RewardError> {
        let reply = self.ask(&prompt::alone(attempt, &self.rubric))?;
        prompt::score_of(&reply).map(Some).map_err(|why| self.failed(&why))
    }

    fn score_group(&self, attempts: &[Attempt<'_>]) -> Vec<Result<Option<f64>, RewardError>> {
        match Judge::score_group(self, attempts) {
            Ok(scores) => scores.into_iter().map(Ok).collect(),
            Err(why) => vec![Err(why); attempts.len()],
        }
    }

    fn is_quick(&self) -> bool {
        false
    }

    fn note(&self) -> Option<String> {
        Some(format!("judged by `{}` with prompt {JUDGE_PROMPT_VERSION}", self.model))
    }
}

#[cfg(test)]
mod tests;
