//! The model calls of a conversation as steps that can be journalled and trained on.

use std::fmt;

use understudy_ident::{Digest, StepId, TaskName, Timestamp};
use understudy_inference::{FinishReason, Served, Timing, Usage};
use understudy_message::Part;
use understudy_trajectory::{Conversation, Fidelity, Finish, ModelCall, Span, Step};

/// What a conversation gives.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Steps {
    pub steps: Vec<Step>,
    /// Calls whose messages are not all there, and why. They stay in the conversation.
    pub left_out: Vec<(StepId, LeftOut)>,
}

/// Why a call is no step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOut {
    /// Our own server has its step.
    RecordedHere,
    Masked,
    Truncated,
    Elsewhere,
    NoContent,
    NoInput,
    NoOutput,
}

impl LeftOut {
    /// For labels of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RecordedHere => "recorded_here",
            Self::Masked => "masked",
            Self::Truncated => "truncated",
            Self::Elsewhere => "elsewhere",
            Self::NoContent => "no_content",
            Self::NoInput => "no_input",
            Self::NoOutput => "no_output",
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RecordedHere => "our own server recorded it",
            Self::Masked => "the source masked some of its content",
            Self::Truncated => "its content was cut off on the way",
            Self::Elsewhere => "its content is kept elsewhere by the source",
            Self::NoContent => "the source sent no content",
            Self::NoInput => "it has no input",
            Self::NoOutput => "it has no output",
        })
    }
}

/// A step for each call of which every word is known. Of several choices the first is the reply.
pub fn steps(conversation: &Conversation, task: &TaskName) -> Steps {
    let mut found = Steps::default();
    for (span, call) in conversation.calls() {
        match step(conversation, span, call, task) {
            Ok(step) => found.steps.push(step),
            Err(why) => found.left_out.push((span.id.clone(), why)),
        }
    }
    found
}

/// The digests of media that were inline in a step's messages, whose bytes are among the assembled
/// blobs.
pub fn media(step: &Step) -> Vec<Digest> {
    let messages = step.prompt.iter().chain([&step.reply]);
    let parts = messages.flat_map(|message| message.content.parts());
    let digests = parts.filter_map(|part| match part {
        Part::Other(part) if part["type"] == "media" => part["digest"].as_str()?.parse().ok(),
        Part::Other(_) | Part::Text(_) => None,
    });
    digests.collect()
}

fn step(
    conversation: &Conversation,
    span: &Span,
    call: &ModelCall,
    task: &TaskName,
) -> Result<Step, LeftOut> {
    if call.captured_as.is_some() {
        return Err(LeftOut::RecordedHere);
    }
    match call.content {
        Fidelity::Full => {}
        Fidelity::Hidden => return Err(LeftOut::Masked),
        Fidelity::Truncated => return Err(LeftOut::Truncated),
        Fidelity::References => return Err(LeftOut::Elsewhere),
        Fidelity::Absent => return Err(LeftOut::NoContent),
    }
    let prompt = conversation.said(&call.input);
    if prompt.is_empty() {
        return Err(LeftOut::NoInput);
    }
    let reply = conversation.said(&call.output).into_iter().next().ok_or(LeftOut::NoOutput)?;
    let model = call.responded.as_ref().or(call.requested.as_ref());
    let finish_reason = match &call.finish {
        Some(Finish::Length) => FinishReason::Length,
        Some(Finish::Error | Finish::ContentFilter) => FinishReason::Aborted,
        _ if !reply.tool_calls.is_empty() => FinishReason::ToolCalls,
        _ => FinishReason::Stop,
    };
    let tokens =
        |count: Option<u64>| count.map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX));
    let milliseconds = |ns: u64| ns as f64 / 1e6;
    Ok(Step {
        id: span.id.clone(),
        trajectory: conversation.id.clone(),
        task: task.clone(),
        session: conversation.session.clone(),
        subject: conversation.subject.clone(),
        metadata: std::collections::BTreeMap::new(),
        response_id: call.response_id.clone().unwrap_or_else(|| format!("span-{}", span.id)),
        at: Timestamp::from_nanosecond(i128::from(span.started_ns)).unwrap_or(Timestamp::MAX),
        prompt,
        tools: call.tools.clone(),
        reply,
        finish_reason,
        assignment: None,
        served: Served {
            base: model.cloned().unwrap_or_else(|| "unknown".to_owned()),
            adapter: None,
        },
        usage: Usage {
            prompt_tokens: tokens(call.usage.input),
            completion_tokens: tokens(call.usage.output),
            cached_tokens: tokens(call.usage.cache_read),
        },
        timing: Timing {
            queued_ms: 0.0,
            first_token_ms: milliseconds(call.first_token_ns.unwrap_or(0)),
            total_ms: milliseconds(span.ended_ns.saturating_sub(span.started_ns)),
        },
        tokens: None,
        error: span.error.clone(),
    })
}
