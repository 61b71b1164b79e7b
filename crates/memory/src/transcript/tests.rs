use serde_json::json;
use understudy_ident::{SystemClock, TrajectoryId};
use understudy_inference::{FinishReason, Served, Timing, Usage};
use understudy_message::{FunctionCall, ToolCall};
use understudy_trajectory::{Source, Step, Target};

use super::*;

fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    let function = FunctionCall { name: name.to_owned(), arguments: arguments.to_owned() };
    ToolCall { id: id.to_owned(), kind: "function".to_owned(), function }
}

fn answered(id: &str, text: &str) -> Message {
    Message { tool_call_id: Some(id.to_owned()), ..Message::new(Role::Tool, text) }
}

#[test]
fn a_served_session_becomes_calls_with_their_failures_and_its_reward() {
    let id = TrajectoryId::generate();
    let asks = Message {
        tool_calls: vec![call("1", "find", r#"{"id": 7}"#), call("2", "quote", "{}")],
        ..Message::assistant("")
    };
    let step = Step {
        id: understudy_ident::StepId::generate(),
        trajectory: id.clone(),
        task: "desk".parse().unwrap(),
        session: None,
        subject: Some("ada".to_owned()),
        metadata: std::collections::BTreeMap::new(),
        response_id: "r".to_owned(),
        at: understudy_ident::Clock::now(&SystemClock),
        prompt: vec![
            Message::user("refund me"),
            asks,
            answered("1", r#"{"error": "no order 7"}"#),
            answered("2", "12.00"),
        ],
        reply: Message::assistant("done"),
        tools: Vec::new(),
        finish_reason: FinishReason::Stop,
        assignment: None,
        served: Served { base: "b".to_owned(), adapter: None },
        usage: Usage::default(),
        timing: Timing::default(),
        tokens: None,
        error: None,
    };
    let outcome = |signal| Outcome {
        id: understudy_ident::OutcomeId::generate(),
        target: Target::Response("r".to_owned()),
        signal,
        source: Source::Explicit,
        at: step.at,
        note: None,
        details: None,
    };
    let outcomes = vec![outcome(Signal::Accept)];
    let trajectory = Trajectory { id, steps: vec![JudgedStep { step, outcomes }] };
    let transcript = Transcript::of_trajectory(&trajectory).unwrap();
    assert_eq!(transcript.goal, "refund me");
    assert_eq!(transcript.reward, Some(1.0));
    assert_eq!(transcript.calls.len(), 2);
    assert_eq!(transcript.calls[0].batch, transcript.calls[1].batch);
    assert_eq!(transcript.calls[0].arguments, json!({"id": 7}));
    assert_eq!(transcript.calls[0].result.as_ref().unwrap_err().message, "no order 7");
    assert_eq!(transcript.calls[1].result, Ok("12.00".to_owned()));
}

#[test]
fn what_was_recalled_is_not_heard_again() {
    let text = "Be kind.\n<memory release=\"r\">\n- (m1) When x, prefer y.\n</memory> Ask first.";
    assert_eq!(without_blocks(text), "Be kind.\n Ask first.");
    assert_eq!(without_blocks("a <memory release=\"r\"> cut"), "a ");
    assert_eq!(without_blocks("plain"), "plain");
}
