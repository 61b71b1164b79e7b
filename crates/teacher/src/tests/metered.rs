use std::{ops::ControlFlow, sync::Arc, time::Duration};

use understudy_ident::ManualClock;
use understudy_inference::{
    Backend, Completion, Event, FinishReason, GenerateRequest, InferenceError, Served, Sink,
    Timing, Usage,
};

use super::{ask, run, run_until};
use crate::{Budget, Metered, MicroUsd, Price, ScriptedTeacher, Spend};

/// Plays the same events to everybody, and refuses adapters.
#[derive(Debug)]
struct Played(Vec<Event>);

impl Backend for Played {
    fn base(&self) -> &'static str {
        "m"
    }

    fn submit(&self, request: GenerateRequest, mut sink: Sink) -> Result<(), InferenceError> {
        if request.adapter.is_some() {
            return Err(InferenceError::Unsupported("adapters"));
        }
        let _: Option<&Event> = self.0.iter().find(|event| sink((*event).clone()).is_break());
        Ok(())
    }
}

fn served() -> Served {
    Served { base: "m".to_owned(), adapter: None }
}

fn begun() -> Vec<Event> {
    vec![Event::Started(served()), Event::Delta("half".into())]
}

fn finished(prompt_tokens: u32, completion_tokens: u32) -> Event {
    let usage = Usage { prompt_tokens, completion_tokens, cached_tokens: 0 };
    let (stop, timing) = (FinishReason::Stop, Timing::default());
    let text = "half".to_owned();
    Event::Finished(Box::new(Completion::of_text(served(), text, stop, usage, timing)))
}

fn then(events: Vec<Event>, last: Event) -> Played {
    Played(events.into_iter().chain([last]).collect())
}

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

fn spent(metered: &Metered) -> u64 {
    let Spend { spent_today, reserved, .. } = metered.spend();
    assert_eq!(reserved, MicroUsd::ZERO, "everything is settled");
    spent_today.get() / 1_000_000
}

#[test]
fn a_generation_costs_what_the_provider_says_it_used() {
    let metered = metered(then(begun(), finished(7, 3)), 200, &ManualClock::default());
    run(&metered, ask("x")).completion();
    assert_eq!(spent(&metered), 7 + 3);
}

#[test]
fn the_dearest_outcome_is_charged_when_nobody_says_what_was_used() {
    let clock = ManualClock::default();
    let broken = || Event::Failed(InferenceError::Failed("cut".to_owned()));
    let late = || Event::Failed(InferenceError::TimedOut(60_000));
    for played in [
        then(begun(), finished(0, 0)),
        then(begun(), broken()),
        then(Vec::new(), late()),
        Played(begun()),
    ] {
        let metered = metered(played, 200, &clock);
        run(&metered, ask("x"));
        assert_eq!(spent(&metered), RESERVED);
    }
    let cancelled = metered(then(begun(), finished(7, 3)), 200, &clock);
    run_until(&cancelled, ask("x"), 1);
    assert_eq!(spent(&cancelled), RESERVED);
}

#[test]
fn a_refused_request_costs_nothing() {
    let refused = Event::Failed(InferenceError::Failed("429".to_owned()));
    let metered = metered(then(Vec::new(), refused), 200, &ManualClock::default());
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
