use std::{ops::ControlFlow, sync::Arc, time::Duration};

use understudy_ident::ManualClock;
use understudy_inference::{Backend, InferenceError};

use super::{
    ask, run, run_until,
    server::{DONE, STOP, Server, USAGE, delta},
};
use crate::{Budget, Endpoint, Metered, MicroUsd, OpenAiTeacher, Price, ScriptedTeacher, Spend};

/// A dollar a token each way keeps the arithmetic readable.
const PRICE: Price = Price {
    input_per_million: MicroUsd::from_usd(1_000_000),
    output_per_million: MicroUsd::from_usd(1_000_000),
};
/// `ask` has one byte of text, sixteen tokens of chat format and at most 64 tokens of answer.
const RESERVED: u64 = 1 + 16 + 64;

fn metered(backend: impl Backend + 'static, dollars: u64, clock: &ManualClock) -> Metered {
    let budget = Budget::new(MicroUsd::from_usd(dollars));
    Metered::new(Arc::new(backend), PRICE, budget, Arc::new(clock.clone()))
}

fn remote(server: &Server) -> OpenAiTeacher {
    let idle_timeout = Duration::from_millis(200);
    OpenAiTeacher::new(Endpoint { idle_timeout, ..Endpoint::new(&server.url, "m", None) }).unwrap()
}

fn spent(metered: &Metered) -> u64 {
    let Spend { spent_today, reserved, .. } = metered.spend();
    assert_eq!(reserved, MicroUsd::ZERO, "everything is settled");
    spent_today.get() / 1_000_000
}

#[test]
fn a_generation_costs_what_the_provider_says_it_used() {
    let clock = ManualClock::default();
    let server = Server::streaming(&[&delta("abc"), STOP, USAGE, DONE]);
    let metered = metered(remote(&server), 200, &clock);
    run(&metered, ask("x")).completion();
    assert_eq!(spent(&metered), 7 + 3);
}

#[test]
fn the_dearest_outcome_is_charged_when_nobody_says_what_was_used() {
    let half = delta("half");
    let clock = ManualClock::default();
    for pieces in [vec![half.as_str(), STOP, DONE], vec![half.as_str()]] {
        let server = Server::streaming(&pieces);
        let metered = metered(remote(&server), 200, &clock);
        run(&metered, ask("x"));
        assert_eq!(spent(&metered), RESERVED, "{pieces:?}");
    }
    let server = Server::streaming(&[&half, &half, STOP, USAGE]);
    let cancelled = metered(remote(&server), 200, &clock);
    run_until(&cancelled, ask("x"), 1);
    assert_eq!(spent(&cancelled), RESERVED);

    let mute = Server::start(|_| std::thread::sleep(Duration::from_secs(2)));
    let timed_out = metered(remote(&mute), 200, &clock);
    assert!(matches!(run(&timed_out, ask("x")).error(), InferenceError::TimedOut(_)));
    assert_eq!(spent(&timed_out), RESERVED);
}

#[test]
fn a_refused_request_costs_nothing() {
    let clock = ManualClock::default();
    let server = Server::failing("429 Too Many Requests", "", "{}");
    let metered = metered(remote(&server), 200, &clock);
    run(&metered, ask("x")).error();
    assert_eq!(spent(&metered), 0);
    let request = ask("x").with_adapter(Some("none".to_owned()));
    assert!(metered.submit(request, Box::new(|_| ControlFlow::Continue(()))).is_err());
    assert_eq!(spent(&metered), 0);
}

#[test]
fn an_exhausted_budget_refuses_clearly_until_the_next_day() {
    let clock = ManualClock::default();
    let teacher = ScriptedTeacher::new("expert", |_| Ok("four".to_owned())).unwrap();
    let metered = metered(teacher, RESERVED + 1, &clock);
    run(&metered, ask("x")).completion();
    assert_eq!(spent(&metered), 1 + 1);
    let error = metered.submit(ask("x"), Box::new(|_| ControlFlow::Continue(()))).unwrap_err();
    assert!(error.to_string().contains("budget is exhausted"), "{error}");
    assert_eq!(metered.spend().refused, 1);
    clock.advance_ms(86_400_000);
    run(&metered, ask("x")).completion();
}

#[test]
fn requests_at_once_cannot_overspend_together() {
    let clock = ManualClock::default();
    let teacher = ScriptedTeacher::new("expert", |_| Ok("four".to_owned())).unwrap();
    let teacher = teacher.with_delay(Duration::from_millis(100));
    let metered = metered(teacher, 3 * RESERVED, &clock);
    let (done, ends) = std::sync::mpsc::channel::<()>();
    let accepted = (0..8).filter(|_| {
        let done = done.clone();
        let sink = move |_| {
            // Kept until the generation ends.
            let _ = &done;
            ControlFlow::Continue(())
        };
        metered.submit(ask("x"), Box::new(sink)).is_ok()
    });
    assert_eq!(accepted.count(), 3);
    drop(done);
    assert!(ends.recv().is_err(), "all sinks are gone");
    assert_eq!(spent(&metered), 3 * 2);
}
