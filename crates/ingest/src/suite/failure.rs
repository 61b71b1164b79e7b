//! A case from what went wrong in production.
//!
//! The case asks what was asked at the step that failed, with personal data masked, and expects what
//! a person made of the reply: their edit, or what is given by hand. A trace that does not hold the
//! whole question makes no case, since a case with a hole tests something else.

use serde_json::Value;
use understudy_ident::Digest;
use understudy_inference::FinishReason;
use understudy_manifest::{Case, Check, Risk, canonical_json};
use understudy_message::{Message, Role};
use understudy_redact::{Masker, Policy, Redactor};
use understudy_trajectory::{JudgedStep, Signal, Trajectory};

/// What is asked for beside the trajectory.
#[derive(Debug, Clone, Default)]
pub struct CaseRequest {
    /// The step, by its id; the last that went wrong unless given, or else the last.
    pub step: Option<String>,
    /// What would have been right. Without it and checks, the latest edit of the reply is.
    pub expected: Option<String>,
    pub checks: Vec<Check>,
    pub reason: String,
    pub risk: Risk,
    pub tags: Vec<String>,
}

/// A case, masked, and what there is to say about it.
#[derive(Debug, Clone, PartialEq)]
pub struct FailedCase {
    pub case: Case,
    pub step: String,
    /// What was masked, and how often.
    pub masked: Vec<(&'static str, u64)>,
    /// The reply that went wrong, masked as well.
    pub reply: String,
    /// Where the expected answer is from: `given`, `checks` or `edit`.
    pub expectation: &'static str,
}

/// Why a trajectory makes no case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FailureError {
    #[error("trajectory {trajectory} has no step `{step}`; it has {known}")]
    NoStep { trajectory: String, step: String, known: String },
    #[error("trajectory {0} has no steps")]
    NoSteps(String),
    #[error("cannot make a case of step {step}: {why}; a case with a hole tests something else")]
    Truncated { step: String, why: &'static str },
    #[error(
        "cannot tell what step {step} should have said: nobody edited its reply; give --expected or --checks"
    )]
    NoExpectation { step: String },
}

/// Makes a case of one step of a trajectory. Pure: the same trajectory and request give the same
/// case, whose id is a digest of the masked question.
pub fn case_of_failure(
    trajectory: &Trajectory,
    request: &CaseRequest,
) -> Result<FailedCase, FailureError> {
    let judged = chosen(trajectory, request.step.as_deref())?;
    let step = judged.step.id.to_string();
    whole(judged).map_err(|why| FailureError::Truncated { step: step.clone(), why })?;
    let (expected, expectation) = expectation(judged, request)
        .ok_or_else(|| FailureError::NoExpectation { step: step.clone() })?;

    // One masker, so that an address in the question and in the answer stays the same one.
    let mut masker = Redactor::new(Policy::Standard).masker();
    let prompt: Vec<Message> =
        judged.step.prompt.iter().map(|message| masked(message, &mut masker)).collect();
    let expected = masker.mask(&expected);
    let checks = request
        .checks
        .iter()
        .cloned()
        .map(|check| Check { value: check.value.map(|value| masker.mask(&value)), ..check });
    let checks: Vec<Check> = checks.collect();
    let reply = masker.mask(&judged.step.reply.text());
    let tools: Vec<Value> = judged.step.tools.iter().map(|tool| masker.mask_json(tool)).collect();
    let question = if tools.is_empty() {
        Digest::of(canonical_json(&prompt).as_bytes())
    } else {
        Digest::of(canonical_json(&(&prompt, &tools)).as_bytes())
    };
    let case = Case {
        id: format!("trace-{}", question.short()),
        prompt,
        expected,
        tools,
        tags: request.tags.clone(),
        checks,
        risk: request.risk,
        provenance: Some(format!("trajectory {} step {step}", trajectory.id)),
        added_reason: Some(masker.mask(&request.reason)),
        ..Case::default()
    };
    let masked = masker.counts().iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
    Ok(FailedCase { case, step, masked, reply, expectation })
}

fn chosen<'a>(
    trajectory: &'a Trajectory,
    step: Option<&str>,
) -> Result<&'a JudgedStep, FailureError> {
    let steps = &trajectory.steps;
    let last = steps.last().ok_or_else(|| FailureError::NoSteps(trajectory.id.to_string()))?;
    let Some(wanted) = step else {
        return Ok(steps.iter().rev().find(|judged| went_wrong(judged)).unwrap_or(last));
    };
    let named = |judged: &&JudgedStep| {
        judged.step.id.as_str() == wanted || judged.step.response_id == wanted
    };
    steps.iter().find(named).ok_or_else(|| FailureError::NoStep {
        trajectory: trajectory.id.to_string(),
        step: wanted.to_owned(),
        known: steps.iter().map(|judged| judged.step.id.as_str()).collect::<Vec<_>>().join(", "),
    })
}

/// What somebody or something said against a reply.
fn went_wrong(judged: &JudgedStep) -> bool {
    judged.step.error.is_some()
        || judged.outcomes.iter().any(|outcome| match &outcome.signal {
            Signal::Accept | Signal::Remark { .. } => false,
            Signal::Rating { value } | Signal::Verifier { score: value, .. } => *value < 0.5,
            Signal::Edit { .. }
            | Signal::Regenerate { .. }
            | Signal::Abandon
            | Signal::Flag { .. } => true,
        })
}

/// Whether everything that was asked is there.
fn whole(judged: &JudgedStep) -> Result<(), &'static str> {
    let prompt = &judged.step.prompt;
    let Some(last) = prompt.last() else { return Err("its prompt is empty") };
    if !matches!(last.role, Role::User | Role::Tool) {
        return Err("its prompt ends before anything was asked");
    }
    if judged.step.finish_reason == FinishReason::Aborted && judged.step.error.is_none() {
        return Err("its reply was broken off, so nobody knows what it would have been");
    }
    let mut answered = std::collections::BTreeSet::new();
    for message in prompt {
        if !message.content.is_text_only() {
            return Err("its prompt holds content other than text");
        }
        answered.extend(message.tool_call_id.as_deref());
    }
    let called = prompt.iter().flat_map(|message| &message.tool_calls);
    if called.map(|call| call.id.as_str()).all(|id| answered.contains(id)) {
        Ok(())
    } else {
        Err("a tool was called whose result is missing")
    }
}

fn expectation(judged: &JudgedStep, request: &CaseRequest) -> Option<(String, &'static str)> {
    if let Some(expected) = &request.expected {
        return Some((expected.clone(), "given"));
    }
    if !request.checks.is_empty() {
        return Some((String::new(), "checks"));
    }
    let edit = judged.outcomes.iter().rev().find_map(|outcome| match &outcome.signal {
        Signal::Edit { text } => Some(text.clone()),
        _ => None,
    });
    edit.map(|text| (text, "edit"))
}

fn masked(message: &Message, masker: &mut Masker) -> Message {
    message.map_text(|text| masker.mask(text))
}

#[cfg(test)]
mod tests;
