use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use serde_json::Map;
use understudy_inference::{Admission, Returns};
use understudy_model::{ChatTemplate, KvDtype, Precision};

use super::*;
use crate::{
    counters::Counters,
    sampler::{Sampler, Surroundings},
    sequence::Job,
    visit::Door,
    worker::Worker,
};

#[test]
fn a_sink_that_breaks_is_freed_within_a_step_and_called_no_more() {
    let engine = engine(Config { max_running: 1, ..Config::default() });
    let calls = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&calls);
    let sink = move |event| {
        *counted.lock().unwrap() += 1;
        match event {
            Event::Delta(_) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    };
    engine.submit(request(&[1, 5, 9, 200, 31], None, 900), Box::new(sink)).unwrap();
    // Its place is free again long before 900 tokens.
    complete(&engine, request(&[4, 5], None, 3)).unwrap();
    settle(&engine);
    let stats = engine.stats();
    assert_eq!((stats.cancelled, stats.finished, stats.kv_tokens), (1, 1, 0));
    assert!(stats.steps < 100, "{stats:?}");
    assert_eq!(*calls.lock().unwrap(), 2, "started, and the delta it broke at");
}

#[test]
fn a_request_given_up_while_waiting_never_runs() {
    let engine = engine(Config::default());
    drop(submit(&engine, request(&[1, 2, 3], None, 900)).unwrap());
    complete(&engine, request(&[4, 5], None, 3)).unwrap();
    settle(&engine);
    assert_eq!(engine.stats().cancelled, 1);
}

#[test]
fn a_sink_that_panics_costs_only_its_own_request() {
    let engine = engine(Config::default());
    for kind in 0..2 {
        let sink = move |event: Event| match (kind, event) {
            (0, Event::Started(_)) | (1, Event::Delta(_)) => panic!("a client's bug"),
            _ => ControlFlow::Continue(()),
        };
        engine.submit(request(&[1, 5, 9, 200, 31], None, 40), Box::new(sink)).unwrap();
    }
    let prompt = [1, 5, 9, 200, 31];
    let completion = complete(&engine, request(&prompt, None, 20)).unwrap();
    assert_eq!(ids(&completion), greedy(&prompt, None, 20));
    settle(&engine);
    assert_eq!(engine.stats().failed, 2);
}

#[test]
fn a_failing_forward_pass_fails_only_the_request_at_fault() {
    // Straight to the worker, past the checks of `submit`: a token the model does not have.
    let (model, counters) = (model(), Counters::default());
    let (jobs, queue) = mpsc::channel();
    let replies: Vec<Reply> = [vec![1, 5, 9], vec![2, 99_999, 3], vec![7, 8]]
        .into_iter()
        .map(|prompt| {
            let (sender, receiver) = mpsc::channel();
            let sink = Box::new(move |event| {
                sender.send(event).unwrap();
                ControlFlow::Continue(())
            });
            counters.enter(prompt.len(), &Config::default()).unwrap();
            let served = understudy_inference::Served { base: "tiny".to_owned(), adapter: None };
            let sampling = Sampling::greedy(6);
            let around = Surroundings { prompt: &prompt, ends: Vec::new(), bad_words: None };
            let job = Job {
                served,
                lease: None,
                _used: None,
                most: 6,
                sampler: Sampler::new(&sampling, 0, Returns::default(), around),
                prompt,
                sampling,
                returns: Returns::default(),
                admission: Admission::default(),
                guide: None,
                sink,
                submitted: Instant::now(),
            };
            jobs.send(vec![job]).unwrap();
            Reply(receiver)
        })
        .collect();
    let ends: Vec<_> = thread::scope(|scope| {
        scope.spawn(|| {
            let is_in_memory = Box::new(|_: &str| true);
            Worker::new(
                (&model, KvDtype::F32),
                Config::default(),
                &counters,
                queue,
                &Door::default(),
                is_in_memory,
            )
            .run();
        });
        let ends = replies.into_iter().map(Reply::end).collect();
        drop(jobs);
        ends
    });
    let [first, bad, last] = <[_; 3]>::try_from(ends).unwrap();
    assert_eq!(ids(&first.unwrap()), greedy(&[1, 5, 9], None, 6));
    assert!(bad.unwrap_err().to_string().contains("99999"));
    assert_eq!(ids(&last.unwrap()), greedy(&[7, 8], None, 6));
}

#[test]
fn dropping_the_last_handle_tells_everyone_and_leaves_no_thread() {
    let engine = engine(Config { max_running: 2, ..Config::default() });
    let other = engine.clone();
    let replies: Vec<Reply> =
        (0..6).map(|_| submit(&engine, request(&[7, 8, 9], None, 1_000)).unwrap()).collect();
    drop(engine);
    assert!(other.stats().failed == 0, "a handle is left");
    drop(other);
    // The drop has waited for the thread, so every sink is gone and every event has been sent.
    let mut told = 0;
    for reply in replies {
        let events: Vec<Event> = reply.0.try_iter().collect();
        assert!(matches!(reply.0.try_recv(), Err(mpsc::TryRecvError::Disconnected)));
        match events.last() {
            Some(Event::Failed(InferenceError::ShuttingDown)) => told += 1,
            Some(Event::Finished(_)) => {}
            other => panic!("no last event but {other:?}"),
        }
    }
    assert!(told >= 4, "those who waited cannot have finished");
}

#[test]
fn a_sink_may_hold_the_last_handle() {
    let engine = engine(Config::default());
    let (sender, receiver) = mpsc::channel();
    let own = engine.clone();
    let sink = move |event| {
        assert_eq!(own.base(), "tiny");
        sender.send(event).unwrap();
        ControlFlow::Continue(())
    };
    engine.submit(request(&[1, 2], None, 5), Box::new(sink)).unwrap();
    drop(engine);
    assert!(matches!(Reply(receiver).end(), Ok(_) | Err(InferenceError::ShuttingDown)));
}

#[test]
fn times_are_in_order() {
    let engine = engine(Config { max_running: 1, ..Config::default() });
    let first = submit(&engine, request(&[1, 5, 9, 200, 31], None, 40)).unwrap();
    let timing = complete(&engine, request(&[4, 5], None, 4)).unwrap().timing;
    let waited_for = first.end().unwrap().timing;
    assert!(timing.queued_ms > 0.0 && timing.queued_ms <= timing.first_token_ms);
    assert!(timing.first_token_ms <= timing.total_ms);
    assert!(timing.first_token_ms >= waited_for.total_ms * 0.5, "it waited for the first");
}

#[test]
fn what_an_engine_is_changes_with_weights_precision_and_template_but_not_with_a_restart() {
    let identity_in = |model: BaseModel, kv_cache_dtype| {
        let config = Config { kv_cache_dtype, ..Config::default() };
        Engine::start(model, "base", config).unwrap().identity().unwrap()
    };
    let identity = |model: BaseModel| identity_in(model, KvCacheDtype::Auto);
    let random = |seed, precision| {
        let tiny = ModelConfig::tiny(Family::Llama);
        BaseModel::random_with(tiny, seed, &here(), precision).unwrap()
    };
    let mut worded = model();
    worded.template = ChatTemplate::new("{{ messages[0].content }}", Map::new()).unwrap();
    worded.digests.template = worded.template.digest().to_owned();
    let all = [
        identity(model()),
        identity(random(8, Precision::F32)),
        identity(random(7, Precision::Bf16)),
        identity(worded),
    ];
    assert_eq!(all[0], identity(random(7, Precision::F32)), "the same, started again");
    assert_eq!(BTreeSet::from(all.clone()).len(), all.len(), "{all:?}");
    let rounded = || random(7, Precision::Bf16);
    if here().is_cpu() && rounded().precision == Precision::Bf16 {
        let [auto, f32, f16] = [KvCacheDtype::Auto, KvCacheDtype::F32, KvCacheDtype::F16]
            .map(|dtype| identity_in(rounded(), dtype));
        assert!(auto == f16 && auto != f32, "keys are rounded beside a rounded base");
    }
    if here().is_cpu() {
        assert_ne!(all[0], identity_in(model(), KvCacheDtype::F16), "keys are rounded");
    }
}
