//! The teacher's three parts, its budget, and who steps in when somebody fails.

use std::{
    ops::ControlFlow,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use understudy_ident::SystemClock;
use understudy_inference::{
    Backend, Completion, Event, FinishReason, GenerateRequest, InferenceError, MockConfig, Served,
    Sink, Timing, Usage,
};
use understudy_journal::Query;
use understudy_manifest::{Cue, Escalate, Exhausted, Fallback, Observe};
use understudy_router::{Canary, Exposure, Observed, Route, Salt, Support, Tap, Target};
use understudy_teacher::{Budget, Metered, MicroUsd, Price};
use understudy_trajectory::{Arm, Signal, Step, TapMode};

use super::{CHAT, Server, chat, start_taught, with};

/// Says one thing, or fails, after a while.
#[derive(Debug)]
pub(super) struct Teacher {
    pub(super) says: Result<&'static str, &'static str>,
    pub(super) delay: Duration,
}

impl Backend for Teacher {
    fn base(&self) -> &'static str {
        "frontier"
    }

    fn submit(&self, _: GenerateRequest, mut sink: Sink) -> Result<(), InferenceError> {
        let (says, delay) = (self.says, self.delay);
        thread::spawn(move || {
            thread::sleep(delay);
            let text = match says {
                Ok(text) => text,
                Err(why) => {
                    let _: ControlFlow<()> =
                        sink(Event::Failed(InferenceError::Failed(why.into())));
                    return;
                }
            };
            let served = Served { base: "frontier".to_owned(), adapter: None };
            let usage = Usage { prompt_tokens: 10, completion_tokens: 5, cached_tokens: 0 };
            let (stop, timing) = (FinishReason::Stop, Timing::default());
            let said = Completion::of_text(served.clone(), text.to_owned(), stop, usage, timing);
            let events = [
                Event::Started(served),
                Event::Delta(text.into()),
                Event::Finished(Box::new(said)),
            ];
            for event in events {
                if sink(event).is_break() {
                    return;
                }
            }
        });
        Ok(())
    }
}

pub(super) fn teacher(says: Result<&'static str, &'static str>) -> Arc<dyn Backend> {
    Arc::new(Teacher { says, delay: Duration::ZERO })
}

fn poor_teacher() -> Arc<dyn Backend> {
    let price = Price {
        input_per_million: MicroUsd::from_usd(1),
        output_per_million: MicroUsd::from_usd(1),
    };
    let budget = Budget::new(MicroUsd::new(1));
    Arc::new(Metered::new(teacher(Ok("rich")), price, budget, Arc::new(SystemClock)))
}

fn support(support: Support) -> Route {
    Route { support, ..Route::to(Target::Base) }
}

pub(super) fn escalating(rules: Escalate) -> Route {
    support(Support { escalate: Some(rules), ..Support::default() })
}

pub(super) fn refusing() -> Escalate {
    Escalate { on: [Cue::Refusal, Cue::Asked].into(), ..Escalate::default() }
}

fn ask(server: &Server, text: &str) -> super::Reply {
    server.post(CHAT, &with(chat(text), json!({"model": "triage"})))
}

fn said(body: &Value) -> &str {
    body["choices"][0]["message"]["content"].as_str().unwrap_or_else(|| panic!("{body}"))
}

fn course(step: &Step) -> &understudy_trajectory::Course {
    &step.assignment.as_ref().unwrap().course
}

#[test]
fn an_observer_answers_beside_and_delays_nobody() {
    let slow = Teacher { says: Ok("better"), delay: Duration::from_millis(700) };
    let server = start_taught(MockConfig::default(), Arc::new(slow));
    let observe =
        Observed { rules: Observe { share: 1.0, on_cue: None }, salt: Salt::new([1; 16]) };
    server.publish("triage", support(Support { observe: Some(observe), ..Support::default() }));
    let begun = Instant::now();
    let reply = ask(&server, "hello");
    assert!(begun.elapsed() < Duration::from_millis(600), "the reply waited for its observer");
    assert_eq!(said(&reply.json()), "hello");
    let steps = server.steps_of(2);
    let told = steps.iter().find(|step| step.response_id == reply.json()["id"]).unwrap();
    let beside = steps.iter().find(|step| step.id != told.id).unwrap();
    let assignment = beside.assignment.as_ref().unwrap();
    assert_eq!((assignment.arm, assignment.analysed), (Arm::Teacher, false));
    assert_eq!(course(beside).beside.as_ref(), Some(&told.id));
    let tap = course(beside).tap.unwrap();
    assert_eq!((tap.mode, tap.share), (TapMode::Observe, 1.0));
    assert_eq!((beside.reply.text().as_str(), &beside.prompt), ("better", &told.prompt));
    assert_ne!(beside.trajectory, told.trajectory, "no outcome may take it for what was said");
    assert_eq!(server.metric("understudy:beside_total", "kind=\"observe\""), 1.0);
    let differ = "kind=\"observe\",agrees=\"false\"";
    assert_eq!(server.metric("understudy:beside_compared_total", differ), 1.0);

    let untapped = server.post_with(
        CHAT,
        &with(chat("secret"), json!({"model": "triage"})),
        &[("x-no-tap", "true")],
    );
    assert_eq!(untapped.status, 200);
    thread::sleep(Duration::from_millis(900));
    assert_eq!(server.steps().len(), 3, "what is not to be tapped is not");
}

#[test]
fn a_refusal_is_escalated_and_the_draft_kept_as_a_pair() {
    let server = start_taught(MockConfig::default(), teacher(Ok("certainly: done")));
    server.publish("triage", escalating(refusing()));
    let reply = ask(&server, "I can't help with that");
    let body = reply.json();
    assert_eq!(said(&body), "certainly: done");
    assert_eq!(body["model"], "frontier");
    assert_eq!(reply.header("x-understudy-escalation"), Some("answered"));
    assert_eq!(reply.header("x-understudy-arm"), Some("stable"), "it counts for its own arm");
    let steps = server.steps_of(2);
    let told = steps.iter().find(|step| step.response_id == body["id"]).unwrap();
    let draft = steps.iter().find(|step| step.id != told.id).unwrap();
    assert_eq!(draft.reply.text(), "I can't help with that");
    assert_eq!(course(draft).beside.as_ref(), Some(&told.id));
    assert_eq!(course(told).cues, ["refusal"]);
    assert_eq!(course(told).tap.unwrap().mode, TapMode::Escalate);
    assert!(course(told).marks.refusal, "the arm's own reply did that");
    assert!(course(told).confidence.is_some() && told.tokens.is_none());
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let judged = server.journal.trajectories(&Query::default()).unwrap();
        let judged = judged.into_iter().flat_map(|trajectory| trajectory.steps);
        let judged = judged.into_iter().find(|judged| judged.step.id == draft.id).unwrap();
        let kept = Some(told.response_id.clone());
        if let Some(outcome) = judged.outcomes.first() {
            assert_eq!(outcome.signal, Signal::Regenerate { kept });
            break;
        }
        assert!(Instant::now() < deadline, "the draft has no outcome");
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(server.metric("understudy:escalations_total", "result=\"answered\""), 1.0);
    assert_eq!(server.metric("understudy:arm_marks_total", "mark=\"refusal\""), 1.0);
    assert_eq!(said(&ask(&server, "gladly").json()), "gladly", "what is good is not escalated");
}

#[test]
fn a_stream_is_held_until_the_reply_was_looked_at() {
    let server = start_taught(MockConfig::default(), teacher(Ok("yes of course")));
    server.publish("triage", escalating(refusing()));
    let stream = |text: &str| {
        let more = json!({"model": "triage", "stream": true});
        let reply = server.post(CHAT, &with(chat(text), more));
        let chunks = reply.events();
        let parts = chunks.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str());
        (parts.collect::<String>(), reply.header("x-understudy-escalation").map(str::to_owned))
    };
    assert_eq!(stream("I won't"), ("yes of course".to_owned(), Some("answered".to_owned())));
    assert_eq!(stream("I will"), ("I will".to_owned(), None));
    let passing = Escalate { hold_streams: false, ..refusing() };
    server.publish("triage", escalating(passing));
    assert_eq!(stream("I won't").0, "I won't", "a stream that is not held stands");
}

#[test]
fn low_confidence_is_measured_against_limits() {
    let server = start_taught(MockConfig::default(), teacher(Ok("sure")));
    let limited = |min_log_prob| Escalate {
        on: [Cue::LowConfidence].into(),
        min_log_prob: Some(min_log_prob),
        ..Escalate::default()
    };
    server.publish("triage", escalating(limited(-0.000_001)));
    assert_eq!(said(&ask(&server, "well?").json()), "sure");
    server.publish("triage", escalating(limited(-1e6)));
    assert_ne!(said(&ask(&server, "well?").json()), "sure");
}

#[test]
fn an_escalation_nobody_pays_for_leaves_the_students_reply_or_an_error() {
    let server = start_taught(MockConfig::default(), poor_teacher());
    server.publish("triage", escalating(refusing()));
    let reply = ask(&server, "I won't");
    assert_eq!((reply.status, said(&reply.json())), (200, "I won't"));
    assert_eq!(reply.header("x-understudy-escalation"), Some("budget_exhausted"));
    let step = server.steps_of(1).pop().unwrap();
    assert_eq!(course(&step).escalation.as_deref(), Some("budget_exhausted"));
    assert!(step.tokens.is_some(), "it is the student's own");

    let strict = Escalate { exhausted: Exhausted::Error, ..refusing() };
    server.publish("triage", escalating(strict));
    let reply = ask(&server, "I won't");
    assert_eq!((reply.status, &reply.json()["error"]["reason"]), (429, &json!("budget_exhausted")));
    assert_eq!(reply.header("x-should-retry"), Some("false"));
}

#[test]
fn a_teacher_that_fails_at_an_escalation_leaves_the_students_reply() {
    let server = start_taught(MockConfig::default(), teacher(Err("down")));
    server.publish("triage", escalating(refusing()));
    let reply = ask(&server, "I won't");
    assert_eq!((reply.status, said(&reply.json())), (200, "I won't"));
    assert_eq!(reply.header("x-understudy-escalation"), Some("failed"));
}

#[test]
fn a_student_that_stands_after_all_is_shown_with_its_own_scores_and_name() {
    let server = start_taught(MockConfig::default(), teacher(Err("down")));
    server.publish("triage", escalating(refusing()));
    let scored = json!({"model": "triage", "logprobs": true});
    let whole = server.post(CHAT, &with(chat("I won't"), scored.clone())).json();
    assert_eq!(whole["model"], "mock");
    let scores = whole["choices"][0]["logprobs"]["content"].as_array().map(Vec::len);
    assert_eq!(scores, Some("I won't".len() + 1), "{whole}");
    let stream = with(with(chat("I won't"), scored), json!({"stream": true}));
    let chunks = server.post(CHAT, &stream).events();
    let said: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(said, "I won't");
}

#[test]
fn a_client_can_ask_for_the_teacher_where_the_task_allows() {
    let server = start_taught(MockConfig::default(), teacher(Ok("as you wish")));
    server.publish("triage", escalating(refusing()));
    let wish = |body: &Value, headers: &[(&str, &str)]| server.post_with(CHAT, body, headers);
    let body = with(chat("hi"), json!({"model": "triage"}));
    let reply = wish(&body, &[("x-understudy-escalate", "true")]);
    assert_eq!(said(&reply.json()), "as you wish");
    let step = server.steps_of(1).pop().unwrap();
    assert_eq!(course(&step).cues, ["asked"]);
    assert_eq!(step.assignment.unwrap().arm, Arm::Stable);
    let both = wish(&body, &[("x-understudy-escalate", "1"), ("x-no-tap", "1")]);
    assert_eq!(both.status, 400);
    assert_eq!(wish(&body, &[("x-understudy-escalate", "maybe")]).status, 400);
    server.publish("triage", support(Support::default()));
    assert_eq!(said(&wish(&body, &[("x-understudy-escalate", "true")]).json()), "hi");
}

fn tapped() -> Route {
    let share = Exposure::new(1.0).unwrap();
    Route { tap: Some(Tap { share, salt: Salt::new([2; 16]) }), ..Route::to(Target::Base) }
}

#[test]
fn a_tap_without_money_or_teacher_is_skipped_and_counted() {
    for (backend, why) in [(poor_teacher(), "budget_exhausted"), (teacher(Err("down")), "failed")] {
        let server = start_taught(MockConfig::default(), backend);
        server.publish("triage", tapped());
        for more in [json!({}), json!({"stream": true, "stream_options": {"include_usage": true}})]
        {
            let body = with(with(chat("hi"), json!({"model": "triage"})), more);
            let reply = server.post(CHAT, &body);
            assert_eq!(reply.status, 200, "{}", reply.text);
            assert!(reply.text.contains("mock"), "{}", reply.text);
        }
        for step in server.steps_of(2) {
            let assignment = step.assignment.unwrap();
            assert_eq!((assignment.arm, assignment.analysed), (Arm::Stable, false));
            let course = assignment.course;
            assert!(course.tap.is_none() && course.fallback.is_none(), "{course:?}");
        }
        let labels = format!("mode=\"serve\",reason=\"{why}\"");
        assert_eq!(server.metric("understudy:tap_skipped_total", &labels), 2.0);
    }
}

#[test]
fn a_served_tap_says_how_likely_it_was() {
    let server = start_taught(MockConfig::default(), teacher(Ok("by me")));
    server.publish("triage", tapped());
    let reply = ask(&server, "hi");
    assert_eq!((said(&reply.json()), reply.header("x-understudy-arm")), ("by me", Some("teacher")));
    let step = server.steps_of(1).pop().unwrap();
    let tap = course(&step).tap.unwrap();
    assert_eq!((tap.mode, tap.share), (TapMode::Serve, 1.0));
    let ids =
        server.post(CHAT, &with(chat("hi"), json!({"model": "triage", "return_token_ids": true})));
    assert_eq!(ids.status, 200, "what only the student can do, it does: {}", ids.text);
}

/// A canary whose adapter is nowhere.
fn broken_canary(fallback: Vec<Fallback>) -> Route {
    let target = Target::Adapter { version: "triage@2".to_owned(), generation: "g".to_owned() };
    let canary = Canary { target, share: Exposure::HALF, salt: Salt::new([0; 16]) };
    let support = Support { fallback, ..Support::default() };
    Route { canary: Some(canary), support, ..Route::to(Target::Base) }
}

fn as_user(server: &Server, user: &str) -> super::Reply {
    server.post(CHAT, &with(chat("hi"), json!({"model": "triage", "user": user})))
}

#[test]
fn a_failing_canary_falls_back_and_still_counts_as_one() {
    let server = start_taught(MockConfig::default(), teacher(Ok("teacher")));
    server.publish("triage", broken_canary(vec![Fallback::Stable, Fallback::Teacher]));
    // Golden: under a salt of zeros `user-2` is at 0.166, on the canary's side.
    let reply = as_user(&server, "user-2");
    assert_eq!((reply.status, said(&reply.json())), (200, "hi"));
    assert_eq!(reply.header("x-understudy-arm"), Some("canary"));
    assert_eq!(reply.header("x-understudy-fallback"), Some("adapter_missing"));
    let assignment = server.steps_of(1).pop().unwrap().assignment.unwrap();
    assert_eq!((assignment.arm, assignment.analysed), (Arm::Canary, true));
    assert_eq!(assignment.course.fallback.as_deref(), Some("adapter_missing"));
    assert_eq!(server.metric("understudy:fallbacks_total", "arm=\"canary\""), 1.0);

    server.publish("triage", broken_canary(vec![Fallback::Teacher]));
    assert_eq!(said(&as_user(&server, "user-2").json()), "teacher");
    server.publish("triage", broken_canary(Vec::new()));
    assert_eq!(as_user(&server, "user-2").status, 404);
}

#[test]
fn what_fails_before_a_word_is_said_is_answered_by_another_and_later_is_told() {
    let step = Duration::from_millis(40);
    let server = start_taught(MockConfig { step, ..MockConfig::default() }, teacher(Ok("saved")));
    let route = support(Support { fallback: vec![Fallback::Teacher], ..Support::default() });
    server.publish("triage", route);
    // After the first letter nothing is allowed: the mock fails in the middle of its reply.
    let broken = json!({"model": "triage", "allowed_token_ids": [97], "bad_words": ["aa"]});
    let whole = server.post(CHAT, &with(chat("aa"), broken.clone()));
    assert_eq!((whole.status, said(&whole.json())), (200, "saved"), "the client had seen nothing");
    let streamed = server.post(CHAT, &with(with(chat("aa"), broken), json!({"stream": true})));
    let events = streamed.broken_events();
    assert_eq!(events[1]["choices"][0]["delta"]["content"], "a", "the client has seen this");
    assert!(events.last().unwrap()["error"].is_object());
    let step = server.steps_of(2).into_iter().find(|step| step.error.is_some()).unwrap();
    assert_eq!(step.reply.text(), "a");
}
