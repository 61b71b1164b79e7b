//! A run as it was told, words included: what an episode is read from, and what is then let go of.

use std::fmt;

use serde_json::Value;
use understudy_ident::{Digest, Timestamp, TrajectoryId};
use understudy_message::{Message, Role};
use understudy_trajectory::{Conversation, JudgedStep, Outcome, RewardPolicy, Signal, Trajectory};

/// What an injected block begins and ends with. What lies between is never learnt from: a lesson
/// that was recalled must not come back as a new one.
pub(crate) const BLOCK_OPEN: &str = "<memory release=";
pub(crate) const BLOCK_CLOSE: &str = "</memory>";

/// One run of an agent with everything that was said. It is not kept: see [`crate::Episode`].
#[derive(Clone, PartialEq)]
pub struct Transcript {
    pub source: TrajectoryId,
    /// The run or case whose request was attempted again, where this is such an attempt.
    pub attempt_of: Option<TrajectoryId>,
    pub agent: Option<String>,
    pub subject: Option<String>,
    pub at: Timestamp,
    pub goal: String,
    pub calls: Vec<Called>,
    pub answer: String,
    /// Everything else that was said or shown: system prompts, documents, titles.
    pub heard: Vec<String>,
    /// From 0 to 1, when anybody said how good it was.
    pub reward: Option<f64>,
    /// Somebody reported it as harmful.
    pub harmful: bool,
    pub run: Run,
}

/// One call of a tool, and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Called {
    pub tool: String,
    pub arguments: Value,
    pub result: Result<String, Failure>,
    /// Calls of one batch were asked for at once.
    pub batch: u32,
    pub latency_ms: u32,
    pub tokens: u32,
}

/// What a tool said when it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub message: String,
    pub code: Option<u16>,
}

/// Under which conditions a run was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    pub part: Part,
    /// Of the model, memory release, tools and limits.
    pub config: Digest,
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A user's request.
    Production,
    /// A repetition under the conditions of production.
    Student,
    /// A stronger model, with more tools and time.
    Teacher,
}

impl Run {
    pub fn production() -> Self {
        Self { part: Part::Production, config: Digest::of(b"production"), seed: 0 }
    }
}

impl fmt::Debug for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transcript").field("source", &self.source).finish_non_exhaustive()
    }
}

impl Transcript {
    /// Of a conversation that telemetry told of; `None` when nobody asked for anything.
    pub fn of_conversation(conversation: &Conversation, outcomes: &[Outcome]) -> Option<Self> {
        let goal = conversation.messages.iter().find(|message| message.role == Role::User)?.text();
        let last = conversation.messages.iter().rev();
        let answer = last.clone().find(|m| m.role == Role::Assistant && !m.text().is_empty());
        let answer = answer.map(Message::text).unwrap_or_default();
        let mut calls: Vec<Called> = Vec::new();
        let (mut batch, mut batch_ends) = (0, 0);
        for (span, run) in conversation.runs() {
            if span.started_ns >= batch_ends {
                batch += 1;
            }
            batch_ends = batch_ends.max(span.ended_ns);
            let arguments = run.arguments.as_deref().unwrap_or("{}");
            let result = run.result.clone().unwrap_or_default();
            let failed = span.error.clone().or_else(|| failure_in(&result));
            calls.push(Called {
                tool: run.name.clone(),
                arguments: serde_json::from_str(arguments).unwrap_or(Value::Null),
                result: match failed {
                    Some(message) => Err(Failure { message, code: None }),
                    None => Ok(result),
                },
                batch,
                latency_ms: (span.ended_ns.saturating_sub(span.started_ns) / 1_000_000) as u32,
                tokens: 0,
            });
        }
        let started = conversation.spans.iter().map(|span| span.started_ns).min().unwrap_or(0);
        let (reward, harmful) = judged(&answer, outcomes);
        let mut heard: Vec<String> = conversation.messages.iter().map(Message::text).collect();
        for span in &conversation.spans {
            heard.push(span.name.clone());
            heard.extend(span.extra.values().map(Value::to_string));
            if let understudy_trajectory::SpanBody::Retrieval(retrieval) = &span.body {
                heard.extend(retrieval.query.clone());
                heard.extend(retrieval.documents.iter().map(Value::to_string));
            }
        }
        Some(Self {
            source: conversation.id.clone(),
            attempt_of: None,
            agent: conversation.agent.clone(),
            subject: conversation.subject.clone(),
            at: Timestamp::from_nanosecond(i128::from(started)).unwrap_or(Timestamp::UNIX_EPOCH),
            goal,
            calls,
            answer,
            heard,
            reward,
            harmful,
            run: Run::production(),
        })
    }

    /// Of a session that our gateway served: the calls are read off its messages.
    pub fn of_trajectory(trajectory: &Trajectory) -> Option<Self> {
        let JudgedStep { step: last, .. } = trajectory.steps.last()?;
        let first = &trajectory.steps.first()?.step;
        let mut messages = last.prompt.clone();
        messages.push(last.reply.clone());
        let goal = messages.iter().find(|message| message.role == Role::User)?.text();
        let answer = last.reply.text();
        let outcomes: Vec<Outcome> =
            trajectory.steps.iter().flat_map(|step| step.outcomes.iter().cloned()).collect();
        let (reward, harmful) = judged(&answer, &outcomes);
        Some(Self {
            source: trajectory.id.clone(),
            attempt_of: None,
            agent: Some(last.task.to_string()),
            subject: last.subject.clone(),
            at: first.at,
            goal,
            calls: calls_of(&messages),
            answer,
            heard: messages.iter().map(Message::text).collect(),
            reward,
            harmful,
            run: Run::production(),
        })
    }

    /// Every text anybody could recognise themselves in.
    pub(crate) fn contents(&self) -> Vec<String> {
        let mut all = vec![without_blocks(&self.goal), without_blocks(&self.answer)];
        all.extend(self.subject.clone());
        all.extend(self.heard.iter().map(|text| without_blocks(text)));
        for call in &self.calls {
            all.push(call.arguments.to_string());
            strings_in(&call.arguments, &mut all);
            match &call.result {
                Ok(text) => all.push(text.clone()),
                Err(failure) => all.push(failure.message.clone()),
            }
        }
        all.retain(|text| !text.is_empty());
        all
    }
}

/// The calls an assistant asked for in its messages, with the answers that name them.
fn calls_of(messages: &[Message]) -> Vec<Called> {
    let asked = messages
        .iter()
        .enumerate()
        .flat_map(|(at, message)| message.tool_calls.iter().map(move |call| (at as u32, call)));
    let answer_to = |id: &str| {
        let answer = messages.iter().find(|message| message.tool_call_id.as_deref() == Some(id));
        answer.map(Message::text)
    };
    asked
        .map(|(batch, call)| {
            let result = answer_to(&call.id).unwrap_or_default();
            Called {
                tool: call.function.name.clone(),
                arguments: serde_json::from_str(&call.function.arguments).unwrap_or(Value::Null),
                result: match failure_in(&result) {
                    Some(message) => Err(Failure { message, code: None }),
                    None => Ok(result),
                },
                batch,
                latency_ms: 0,
                tokens: 0,
            }
        })
        .collect()
}

/// The message of a result that says it is an error: `{"error": …}`, or a text that begins so.
pub fn failure_in(result: &str) -> Option<String> {
    if let Ok(Value::Object(fields)) = serde_json::from_str(result) {
        return match fields.get("error")? {
            Value::Null | Value::Bool(false) => None,
            Value::String(message) => Some(message.clone()),
            other => Some(other.to_string()),
        };
    }
    let begins = result.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("error:"));
    begins.then(|| result.to_owned())
}

fn judged(answer: &str, outcomes: &[Outcome]) -> (Option<f64>, bool) {
    let reward = RewardPolicy::DefaultV1.reward(answer, outcomes).map(|reward| reward.value);
    (reward, outcomes.iter().any(|outcome| matches!(outcome.signal, Signal::Flag { .. })))
}

pub(crate) fn strings_in(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| strings_in(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| strings_in(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A text without what our own injection put into it.
pub(crate) fn without_blocks(text: &str) -> String {
    let mut rest = text;
    let mut kept = String::new();
    while let Some(start) = rest.find(BLOCK_OPEN) {
        kept.push_str(&rest[..start]);
        match rest[start..].find(BLOCK_CLOSE) {
            Some(end) => rest = &rest[start + end + BLOCK_CLOSE.len()..],
            // A block that was cut off reaches to the end.
            None => rest = "",
        }
    }
    kept + rest
}

#[cfg(test)]
mod tests;
