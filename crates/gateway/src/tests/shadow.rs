//! The candidate beside the stable arm.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use understudy_inference::{MockConfig, Student};
use understudy_router::{Exposure, Route, Salt, Shadowed, Support, Target};
use understudy_trajectory::Arm;

use super::{CHAT, Server, chat, start, start_taught, start_with, taps::Teacher, with};

fn shadowing(server: &Server) {
    server.load("triage@2", "two");
    let target = Target::Adapter { version: "triage@2".to_owned(), generation: "g".to_owned() };
    let share = Exposure::new(1.0).unwrap();
    let shadow = Some(Shadowed { target, share, salt: Salt::new([3; 16]) });
    let support = Support { shadow, ..Support::default() };
    server.publish("triage", Route { support, ..Route::to(Target::Base) });
}

fn ask(text: &str) -> Value {
    with(chat(text), json!({"model": "triage"}))
}

#[test]
fn a_shadow_answers_the_same_step_unseen() {
    let server = start();
    shadowing(&server);
    let tool =
        json!({"type": "function", "function": {"name": "act", "parameters": {"type": "object"}}});
    let body = with(ask("do it"), json!({"tools": [tool], "tool_choice": "required"}));
    let reply = server.post(CHAT, &body);
    assert_eq!(reply.header("x-understudy-arm"), Some("stable"));
    let steps = server.steps_of(2);
    let shadow = steps
        .iter()
        .find(|step| step.assignment.as_ref().unwrap().arm == Arm::Shadow)
        .expect("a step in the shadow");
    let told = steps.iter().find(|step| step.id != shadow.id).unwrap();
    let assignment = shadow.assignment.as_ref().unwrap();
    assert_eq!(assignment.course.beside.as_ref(), Some(&told.id));
    assert!(!assignment.analysed);
    assert_eq!(shadow.served.adapter.as_ref().unwrap().alias, "triage@2");
    assert_eq!(shadow.prompt, told.prompt, "one step of the same context, and none after it");
    thread::sleep(Duration::from_millis(100));
    assert_eq!(server.steps().len(), 2, "a shadow casts none");
    assert_eq!(server.metric("understudy:beside_total", "kind=\"shadow\""), 1.0);
    assert_eq!(server.metric("understudy:route_requests_total", "arm=\"shadow\""), 0.0);
}

#[test]
fn a_shadow_without_room_is_dropped_counted_and_never_waited_for() {
    let step = Duration::from_millis(3);
    let config = MockConfig { running: 1, waiting: 8, step, ..MockConfig::default() };
    let server = start_with(config, true);
    shadowing(&server);
    // While the first reply is followed by its shadow, others wait: theirs find the engine busy.
    let begun = Instant::now();
    let long = "x".repeat(60);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(server.post(CHAT, &ask(&long)).status, 200));
        }
    });
    let took = begun.elapsed();
    let dropped = || server.metric("understudy:beside_dropped_total", "reason=\"busy\"");
    assert!(dropped() >= 1.0, "{}", server.get("/metrics").text);
    let kept = || server.metric("understudy:beside_total", "kind=\"shadow\"");
    let deadline = Instant::now() + Duration::from_secs(10);
    while kept() + dropped() < 4.0 {
        assert!(Instant::now() < deadline, "kept {} and dropped {}", kept(), dropped());
        thread::sleep(Duration::from_millis(5));
    }
    assert!(server.student.stats().waiting == 0 && took < Duration::from_secs(10));
}

#[test]
fn a_reply_of_the_teacher_has_no_shadow() {
    let teacher = Teacher { says: Ok("mine"), delay: Duration::ZERO };
    let server = start_taught(MockConfig::default(), Arc::new(teacher));
    shadowing(&server);
    let share = Exposure::new(1.0).unwrap();
    let tap = understudy_router::Tap { share, salt: Salt::new([4; 16]) };
    let entry = server.routes.get(&"triage".parse().unwrap()).unwrap();
    server.publish("triage", Route { tap: Some(tap), ..entry.route.clone() });
    assert_eq!(server.post(CHAT, &ask("hi")).header("x-understudy-arm"), Some("teacher"));
    thread::sleep(Duration::from_millis(100));
    assert_eq!(server.steps().len(), 1);
}
