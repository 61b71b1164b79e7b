//! Requests taken back while there is no event that could be refused.

use understudy_inference::CancelToken;

use super::*;

/// A request for an adapter, and what takes it back.
fn cancellable(prompt: &[u32]) -> (GenerateRequest, CancelToken) {
    let (mut request, cancel) = (request(prompt, Some("a"), 60), CancelToken::armed());
    request.admission.cancel = cancel.clone();
    (request, cancel)
}

fn engine_with_adapter(config: Config) -> Engine {
    let (engine, root) = (engine(config), tempfile::tempdir().unwrap());
    engine.load_adapter("a", &write_adapter(&root, 1)).unwrap();
    engine
}

/// A reply of hundreds of tokens, each of which takes its reader longer than this test's steps take:
/// whatever else the machine does, it still runs when the test gets round to looking at it.
fn submit_long(engine: &Engine, request: GenerateRequest) -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel();
    let slow = move |event| {
        std::thread::sleep(Duration::from_millis(10));
        match sender.send(event) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    };
    let sampling = Sampling { ignore_eos: true, ..Sampling::greedy(900) };
    engine.submit(GenerateRequest { sampling, ..request }, Box::new(slow)).unwrap();
    receiver
}

fn until(engine: &Engine, what: &str, holds: impl Fn(&Engine) -> bool) {
    for _ in 0..5_000 {
        if holds(engine) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("not {what}: {:?}", engine.stats());
}

fn leases(engine: &Engine) -> usize {
    engine.adapters().iter().map(|adapter| adapter.leases).sum()
}

#[test]
fn a_prompt_that_nobody_waits_for_is_not_read_to_its_end() {
    let config = Config { max_running: 1, step_tokens: 2, prefix_tokens: 0, ..Config::default() };
    let engine = engine_with_adapter(config);
    let prompt: Vec<u32> = (0..900).map(|n| n % 200).collect();
    let (request, cancel) = cancellable(&prompt);
    let reply = submit(&engine, request).unwrap();
    until(&engine, "reading", |engine| engine.stats().steps > 2);
    // A step that runs holds it as well.
    assert!(leases(&engine) >= 1);
    cancel.cancel();
    until(&engine, "cancelled", |engine| engine.stats().cancelled == 1);
    // The step that was running then ends as any does.
    until(&engine, "given back", |engine| {
        let stats = engine.stats();
        (stats.running, stats.kv_tokens, leases(engine)) == (0, 0, 0)
    });
    let stats = engine.stats();
    assert!(stats.steps < 440, "of 450 that reading it takes: {stats:?}");
    assert!(matches!(reply.next(), Some(Event::Started(_))));
    assert!(reply.next().is_none(), "nothing follows, and the sink is gone");
}

#[test]
fn who_goes_away_while_waiting_gives_place_and_adapter_back_at_once() {
    let engine = engine_with_adapter(Config { max_running: 1, ..Config::default() });
    let first = submit_long(&engine, request(&[1, 5, 9, 200, 31], None, 900));
    until(&engine, "running", |engine| engine.stats().running == 1);
    let (second, cancel) = cancellable(&[4, 5]);
    let reply = submit(&engine, second).unwrap();
    assert_eq!((engine.stats().waiting, leases(&engine)), (1, 1));
    cancel.cancel();
    until(&engine, "forgotten", |engine| engine.stats().waiting == 0);
    assert_eq!((engine.stats().running, leases(&engine)), (1, 0), "the first goes on");
    assert!(reply.next().is_none(), "it never started");
    drop(first);
}

#[test]
fn a_pause_holds_nothing_for_those_who_have_gone() {
    let engine = engine_with_adapter(Config { max_running: 1, ..Config::default() });
    let (running, first) = cancellable(&[1, 5, 9, 200, 31]);
    let (waiting, second) = cancellable(&[4, 5]);
    let replies = [running, waiting].map(|request| submit_long(&engine, request));
    until(&engine, "running", |engine| engine.stats().kv_tokens > 0);
    engine.pause();
    // Longer than any step: nothing moves any more, and nothing but the tokens can wake it.
    std::thread::sleep(Duration::from_millis(50));
    first.cancel();
    second.cancel();
    until(&engine, "cancelled", |engine| engine.stats().cancelled == 2);
    let stats = engine.stats();
    assert_eq!((stats.running, stats.waiting, stats.kv_tokens, leases(&engine)), (0, 0, 0, 0));
    assert!(engine.is_paused());
    drop(replies);
}

#[test]
fn a_token_that_somebody_keeps_does_not_keep_the_engine() {
    let engine = engine_with_adapter(Config::default());
    let (request, cancel) = cancellable(&[1, 2]);
    submit(&engine, request).unwrap().end().unwrap();
    drop(engine);
    cancel.cancel();
}
