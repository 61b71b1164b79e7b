//! Who runs when, for how long, and who is told to come back.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use understudy_inference::{AdapterChoice, Admission, FinishReason, LoadAdapter, StopReason};

use super::*;
use crate::store::Patience;

fn admitted(prompt: &[u32], max_tokens: u32, admission: Admission) -> GenerateRequest {
    GenerateRequest { admission, ..request(prompt, None, max_tokens) }
}

/// A request that goes on for as long as the context lasts.
fn endless(prompt: &[u32], admission: Admission) -> GenerateRequest {
    let sampling = Sampling { ignore_eos: true, ..Sampling::greedy(1_000) };
    GenerateRequest { admission, ..sampled(prompt, sampling) }
}

#[test]
fn lower_priorities_run_first_and_equal_ones_as_they_came() {
    let engine = engine(Config { max_running: 1, ..Config::default() });
    let order = Arc::new(Mutex::new(Vec::new()));
    let (sender, receiver) = mpsc::channel();
    let one = |name: usize, priority| {
        let (order, sender) = (Arc::clone(&order), sender.clone());
        let sink: understudy_inference::Sink = Box::new(move |event| {
            match event {
                Event::Started(_) => order.lock().unwrap().push(name),
                Event::Finished(_) => sender.send(()).unwrap(),
                _ => {}
            }
            ControlFlow::Continue(())
        });
        (admitted(&[1, 2, 3], 2, Admission { priority, ..Admission::default() }), sink)
    };
    engine
        .submit_all([3, 0, -1, 0, 3, -1].into_iter().enumerate().map(|(n, p)| one(n, p)).collect())
        .unwrap();
    (0..6).for_each(|_| receiver.recv_timeout(PATIENCE).unwrap());
    assert_eq!(*order.lock().unwrap(), [2, 5, 1, 3, 0, 4]);
}

#[test]
fn time_that_runs_out_in_line_costs_no_compute() {
    let engine = engine(Config { max_running: 1, ..Config::default() });
    let first = submit(&engine, endless(&[1, 5, 9], Admission::default())).unwrap();
    let timeout = Some(Duration::from_millis(20));
    let late = admitted(&[4, 5], 3, Admission { timeout, ..Admission::default() });
    let error = complete(&engine, late).unwrap_err();
    assert_eq!(error, InferenceError::TimedOut(20));
    assert_eq!(engine.stats().prompt_tokens, 3, "only the first was read");
    drop(first);
    settle(&engine);
    assert_eq!((engine.stats().failed, engine.stats().cancelled), (1, 1));
}

#[test]
fn who_has_no_time_left_takes_no_place_in_line() {
    let engine = engine(Config { max_running: 1, max_waiting: 1, ..Config::default() });
    let first = submit(&engine, endless(&[1, 5, 9], Admission::default())).unwrap();
    assert!(matches!(first.next(), Some(Event::Started(_))));
    let waiting = submit(&engine, endless(&[4], Admission::default())).unwrap();
    let timeout = Some(Duration::ZERO);
    let late = admitted(&[4, 5], 3, Admission { timeout, ..Admission::default() });
    // Not that the line is full: to come back would not help.
    assert_eq!(submit(&engine, late).err().unwrap(), InferenceError::TimedOut(0));
    assert_eq!(engine.stats().rejected_requests, 0);
    drop((first, waiting));
}

#[test]
fn time_that_runs_out_while_others_read_their_adapters_says_nothing_about_ones_own() {
    let (engine, root) = (engine(Config::default()), tempfile::tempdir().unwrap());
    let load = LoadAdapter { on_demand: true, ..LoadAdapter::new("a", write_adapter(&root, 1)) };
    engine.publish_adapter(load).unwrap();
    let turn = engine.shared.loader.turn(Patience::endless()).unwrap();
    let asked = |timeout| {
        let adapter = Some(AdapterChoice::Alias("a".to_owned()));
        let admission = Admission { timeout, ..Admission::default() };
        GenerateRequest { adapter, ..admitted(&[4, 5], 3, admission) }
    };
    let error = complete(&engine, asked(Some(Duration::from_millis(20)))).unwrap_err();
    assert_eq!(error, InferenceError::TimedOut(20));
    assert!(engine.attempts().is_empty(), "the adapter has not failed");
    drop(turn);
    assert_eq!(complete(&engine, asked(None)).unwrap().served.adapter.unwrap().alias, "a");
}

#[test]
fn time_that_runs_out_while_a_prompt_is_read_gives_everything_back() {
    let config = Config { max_running: 1, step_tokens: 2, prefix_tokens: 0, ..Config::default() };
    let (engine, root) = (engine(config), tempfile::tempdir().unwrap());
    engine.load_adapter("a", &write_adapter(&root, 1)).unwrap();
    let prompt: Vec<u32> = (0..900).map(|n| n % 200).collect();
    let timeout = Some(Duration::from_secs(1));
    let admission = Admission { timeout, ..Admission::default() };
    let late = admitted(&prompt, 3, admission).with_adapter(Some("a".to_owned()));
    let reply = submit(&engine, late).unwrap();
    while engine.stats().steps < 3 && engine.stats().failed == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    // However fast the machine is, the rest takes longer than its time.
    engine.pause();
    assert_eq!(reply.end().unwrap_err(), InferenceError::TimedOut(1_000));
    settle(&engine);
    let stats = engine.stats();
    assert!(stats.steps < 450, "it was not read to its end: {stats:?}");
    assert_eq!((stats.kv_tokens, stats.failed, stats.completion_tokens), (0, 1, 0));
    assert_eq!((engine.in_flight("a"), engine.adapters()[0].leases), (0, 0));
}

#[test]
fn time_that_runs_out_in_between_keeps_what_there_is() {
    let engine = engine(Config::default());
    let timeout = Some(Duration::from_millis(700));
    let admission = Admission { timeout, ..Admission::default() };
    let (sender, receiver) = mpsc::channel();
    // Slow enough that it cannot come to its end before its time.
    let sink = move |event| {
        std::thread::sleep(Duration::from_millis(2));
        sender.send(event).unwrap();
        ControlFlow::Continue(())
    };
    engine.submit(endless(&[1, 5, 9], admission), Box::new(sink)).unwrap();
    let (text, end) = Reply(receiver).all();
    let completion = end.unwrap();
    assert_eq!(completion.finish_reason, FinishReason::Length);
    assert_eq!(completion.stop_reason, Some(StopReason::Deadline));
    let count = completion.usage.completion_tokens;
    assert!(count > 0 && count < 1_000, "{count}");
    assert_eq!(text, completion.text);
    assert_eq!(ids(&completion).len(), count as usize);
}

#[test]
fn a_pause_holds_everyone_and_a_resumption_changes_nothing() {
    let engine = engine(Config::default());
    let prompt = [1, 5, 9, 200, 31];
    let expected = greedy(&prompt, None, 60);
    let reply = submit(&engine, request(&prompt, None, 60)).unwrap();
    assert!(matches!(reply.next(), Some(Event::Started(_))));
    engine.pause();
    assert!(engine.is_paused());
    let refused = submit(&engine, request(&[1], None, 1)).err().unwrap();
    assert_eq!(refused, InferenceError::Paused);
    // A step that had begun may end; then nothing moves.
    std::thread::sleep(Duration::from_millis(100));
    let steps = engine.stats().steps;
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(engine.stats().steps, steps);
    engine.resume();
    assert!(!engine.is_paused());
    assert_eq!(ids(&reply.end().unwrap()), expected);
}

#[test]
fn deadlines_pass_and_engines_end_while_paused() {
    let engine = engine(Config { max_running: 1, ..Config::default() });
    let timeout = Some(Duration::from_secs(1));
    let running =
        submit(&engine, endless(&[1, 5, 9], Admission { timeout, ..Admission::default() }));
    let running = running.unwrap();
    assert!(matches!(running.next(), Some(Event::Started(_))));
    assert!(matches!(running.next(), Some(Event::Delta(_))));
    let waiting = submit(&engine, endless(&[4], Admission::default())).unwrap();
    engine.pause();
    let begun = Instant::now();
    assert_eq!(running.end().unwrap().stop_reason, Some(StopReason::Deadline));
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop(engine);
    assert_eq!(waiting.end().unwrap_err(), InferenceError::ShuttingDown);
}

#[test]
fn prompt_tokens_that_wait_are_limited() {
    let engine = engine(Config { max_running: 1, max_waiting_tokens: 50, ..Config::default() });
    let first = submit(&engine, endless(&[1, 5, 9], Admission::default())).unwrap();
    assert!(matches!(first.next(), Some(Event::Started(_))));
    let waits = submit(&engine, request(&[7; 60], None, 1)).unwrap();
    let busy = submit(&engine, request(&[7; 3], None, 1)).err().unwrap();
    assert_eq!(busy, InferenceError::BusyTokens(60));
    assert_eq!(engine.stats().rejected_tokens, 1);
    drop(first);
    waits.end().unwrap();
    settle(&engine);
    let stats = engine.stats();
    assert_eq!((stats.prompt_tokens, stats.kv_capacity), (63, Config::default().kv_tokens));
    complete(&engine, request(&[7; 3], None, 1)).unwrap();
}

#[test]
fn all_of_a_completion_must_fit_where_that_is_asked() {
    let engine = engine(Config { kv_tokens: 40, ..Config::default() });
    let admission = Admission { must_fit: true, ..Admission::default() };
    let error = submit(&engine, admitted(&[1; 10], 31, admission.clone())).err().unwrap();
    let expected = InferenceError::ContextOverflow { prompt_tokens: 10, max_tokens: 31, limit: 40 };
    assert_eq!(error, expected);
    complete(&engine, admitted(&[1; 10], 30, admission)).unwrap();
}

#[test]
fn a_generation_can_be_named_and_a_list_shares_one() {
    let root = tempfile::tempdir().unwrap();
    let engine = engine(Config::default());
    let paths: Vec<PathBuf> = (0..2).map(|seed| write_adapter(&root, seed)).collect();
    let digests: Vec<String> =
        paths.iter().map(|path| engine.load_adapter("a", path).unwrap().generation).collect();
    let prompt = [1, 5, 9, 200, 31];
    for (digest, path) in digests.iter().zip(&paths) {
        let adapter = Some(AdapterChoice::Generation(digest.clone()));
        let named = GenerateRequest { adapter, ..request(&prompt, None, 12) };
        let completion = complete(&engine, named).unwrap();
        assert_eq!(ids(&completion), greedy(&prompt, Some(path), 12));
        assert_eq!(completion.served.adapter.unwrap().generation, *digest);
    }
    let adapter = Some(AdapterChoice::Generation("none".to_owned()));
    let unknown = submit(&engine, GenerateRequest { adapter, ..request(&prompt, None, 1) });
    assert!(matches!(unknown.err(), Some(InferenceError::UnknownAdapter { .. })));
    // However an alias moves meanwhile, those of one list are answered by the same weights.
    std::thread::scope(|scope| {
        let (engine, paths) = (&engine, &paths);
        scope.spawn(move || {
            for n in 0..40 {
                engine.load_adapter("a", &paths[n % 2]).unwrap();
            }
        });
        (0..20).for_each(|_| one_generation_for_all(engine, &prompt));
    });
}

fn one_generation_for_all(engine: &Engine, prompt: &[u32]) {
    let (sender, receiver) = mpsc::channel();
    let one = || {
        let sender = sender.clone();
        let sink: understudy_inference::Sink = Box::new(move |event| {
            if let Event::Started(served) = event {
                sender.send(served.adapter.unwrap().generation).unwrap();
            }
            ControlFlow::Continue(())
        });
        (request(prompt, Some("a"), 1), sink)
    };
    engine.submit_all((0..6).map(|_| one()).collect()).unwrap();
    let all: Vec<String> = (0..6).map(|_| receiver.recv_timeout(PATIENCE).unwrap()).collect();
    assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
}
