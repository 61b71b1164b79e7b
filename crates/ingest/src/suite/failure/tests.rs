use understudy_ident::{OutcomeId, StepId, Timestamp, TrajectoryId};
use understudy_inference::{Served, Timing, Usage};
use understudy_manifest::Scorer;
use understudy_message::{FunctionCall, ToolCall};
use understudy_trajectory::{Outcome, Source, Step, Target};

use super::*;

fn step(name: &str, question: &str, reply: &str, said: &[Signal]) -> JudgedStep {
    let at = Timestamp::from_millisecond(1000).unwrap();
    let step = Step {
        id: StepId::derived(name),
        trajectory: TrajectoryId::derived("session"),
        task: "triage".parse().unwrap(),
        session: None,
        subject: None,
        metadata: std::collections::BTreeMap::new(),
        response_id: format!("chatcmpl-{name}"),
        at,
        prompt: vec![Message::system("Triage."), Message::user(question)],
        reply: Message::assistant(reply),
        tools: Vec::new(),
        finish_reason: FinishReason::Stop,
        assignment: None,
        served: Served { base: "b".to_owned(), adapter: None },
        usage: Usage::default(),
        timing: Timing::default(),
        tokens: None,
        error: None,
    };
    let outcome = |(nth, signal): (usize, &Signal)| Outcome {
        id: OutcomeId::derived(&format!("{name} {nth}")),
        target: Target::Response(step.response_id.clone()),
        signal: signal.clone(),
        source: Source::Explicit,
        at,
        note: None,
        details: None,
    };
    let outcomes = said.iter().enumerate().map(outcome).collect();
    JudgedStep { step, outcomes }
}

fn edit(text: &str) -> Signal {
    Signal::Edit { text: text.to_owned() }
}

fn of(steps: Vec<JudgedStep>) -> Trajectory {
    Trajectory { id: TrajectoryId::derived("session"), steps }
}

fn because() -> CaseRequest {
    CaseRequest { reason: "wrong queue".to_owned(), ..CaseRequest::default() }
}

#[test]
fn the_last_step_that_went_wrong_expects_what_a_person_made_of_it() {
    let trajectory = of(vec![
        step("a", "first", "bad", &[Signal::Abandon]),
        step(
            "b",
            "mail ada@example.org please",
            "to sales",
            &[edit("old"), edit("tell ada@example.org")],
        ),
        step("c", "third", "fine", &[Signal::Accept]),
    ]);
    let request =
        CaseRequest { risk: Risk::KnownFailure, tags: vec!["mail".to_owned()], ..because() };
    let found = case_of_failure(&trajectory, &request).unwrap();
    let case = &found.case;
    assert_eq!(case.prompt[1].text(), "mail <EMAIL_1> please");
    assert_eq!(case.expected, "tell <EMAIL_1>");
    assert_eq!((found.expectation, found.reply.as_str()), ("edit", "to sales"));
    assert_eq!(found.masked, [("email", 2)]);
    assert_eq!(
        (case.risk, case.tags.as_slice()),
        (Risk::KnownFailure, ["mail".to_owned()].as_slice())
    );
    assert_eq!(case.added_reason.as_deref(), Some("wrong queue"));
    let whence = case.provenance.as_deref().unwrap();
    assert!(whence.contains(trajectory.id.as_str()) && whence.contains(&found.step), "{whence}");
    assert!(case.id.starts_with("trace-"));
    assert_eq!(case_of_failure(&trajectory, &request).unwrap(), found);
}

#[test]
fn what_is_given_by_hand_counts_before_an_edit() {
    let trajectory = of(vec![step("a", "what?", "bad", &[edit("edited")])]);
    let given = CaseRequest { expected: Some("given".to_owned()), ..because() };
    let found = case_of_failure(&trajectory, &given).unwrap();
    assert_eq!((found.case.expected.as_str(), found.expectation), ("given", "given"));
    let checks = vec![Check::new(Scorer::Contains, Some("refund".to_owned()))];
    let found = case_of_failure(&trajectory, &CaseRequest { checks, ..because() }).unwrap();
    assert_eq!((found.case.checks.len(), found.expectation), (1, "checks"));
}

#[test]
fn nobody_knows_what_an_abandoned_reply_should_have_said() {
    let trajectory = of(vec![step("a", "what?", "bad", &[Signal::Abandon])]);
    let error = case_of_failure(&trajectory, &because()).unwrap_err();
    assert!(error.to_string().contains("--expected"), "{error}");
}

#[test]
fn a_step_may_be_named_and_must_exist() {
    let trajectory =
        of(vec![step("a", "one", "x", &[edit("1")]), step("b", "two", "y", &[edit("2")])]);
    let named = |step: &str| {
        case_of_failure(&trajectory, &CaseRequest { step: Some(step.to_owned()), ..because() })
    };
    assert_eq!(named("chatcmpl-a").unwrap().case.expected, "1");
    assert_eq!(named(StepId::derived("b").as_str()).unwrap().case.expected, "2");
    assert!(matches!(named("chatcmpl-z"), Err(FailureError::NoStep { .. })));
    assert!(matches!(case_of_failure(&of(vec![]), &because()), Err(FailureError::NoSteps(_))));
}

#[test]
fn a_trace_with_a_hole_makes_no_case() {
    let refused = |change: &dyn Fn(&mut Step)| {
        let mut judged = step("a", "what?", "bad", &[edit("good")]);
        change(&mut judged.step);
        match case_of_failure(&of(vec![judged]), &because()).unwrap_err() {
            FailureError::Truncated { why, .. } => why,
            other => panic!("{other}"),
        }
    };
    assert!(refused(&|step| step.prompt.clear()).contains("empty"));
    assert!(refused(&|step| step.prompt.push(Message::assistant("so"))).contains("ends before"));
    assert!(refused(&|step| step.finish_reason = FinishReason::Aborted).contains("broken off"));
    let image = serde_json::json!([{"type": "image_url", "image_url": {"url": "x"}}]);
    assert!(
        refused(&|step| {
            step.prompt[1].content = serde_json::from_value(image.clone()).unwrap();
        })
        .contains("other than text")
    );
    let dangling = |step: &mut Step| {
        let function = FunctionCall { name: "look".to_owned(), arguments: "{}".to_owned() };
        let call = ToolCall { id: "call_1".to_owned(), kind: "function".to_owned(), function };
        let mut calling = Message::assistant("");
        calling.tool_calls = vec![call];
        step.prompt.insert(1, calling);
    };
    assert!(refused(&dangling).contains("result is missing"));
}

#[test]
fn a_case_offers_the_tools_that_the_step_could_call() {
    let function = |about: &str| serde_json::json!({"name": "mail", "description": about});
    let tool = |about: &str| serde_json::json!({"type": "function", "function": function(about)});
    let mut failed = step("a", "write to ada@example.org", "no", &[edit("done")]);
    let without = case_of_failure(&of(vec![failed.clone()]), &because()).unwrap().case;
    failed.step.tools = vec![tool("Writes to ada@example.org.")];
    let case = case_of_failure(&of(vec![failed.clone()]), &because()).unwrap().case;
    let pseudonym = case.prompt[1].text().replace("write to ", "");
    assert_eq!(case.tools, [tool(&format!("Writes to {pseudonym}."))]);
    assert!(!pseudonym.contains('@') && case.id != without.id && without.tools.is_empty());
}
