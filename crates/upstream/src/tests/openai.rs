use std::{
    io::Write,
    ops::ControlFlow,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;
use understudy_inference::{
    Backend, Constraint, Event, FinishReason, InferenceError, Prompt, Sampling, Usage,
};

use super::{
    ask, run, run_until,
    server::{DONE, STOP, Server, USAGE, begin_stream, delta},
};
use crate::{ApiKey, Endpoint, Replay, Timeouts, TokenLimitField, Upstream, UpstreamError};

const KEY: &str = "sk-very-secret-0123";

fn endpoint(url: &str) -> Endpoint {
    let key = ApiKey::parse(&format!(" {KEY}\n")).unwrap();
    Endpoint {
        timeouts: Timeouts {
            connect: Duration::from_secs(2),
            first_token: Duration::from_millis(400),
            between_tokens: Duration::from_millis(400),
            total: Duration::from_millis(1500),
        },
        replay: Replay::Never,
        ..Endpoint::new(url, "frontier-1", Some(key))
    }
}

fn teacher(server: &Server) -> Upstream {
    Upstream::new(endpoint(&server.url)).unwrap()
}

#[test]
fn an_answer_streams_in_order_with_usage() {
    let server = Server::streaming(&[
        ": hi\n\n",
        &delta(""),
        &delta("Grüß "),
        &delta("dich"),
        STOP,
        USAGE,
        DONE,
    ]);
    let outcome = run(&teacher(&server), ask("hello"));
    assert!(outcome.started);
    assert_eq!(outcome.deltas, ["Grüß ", "dich"]);
    let completion = outcome.completion();
    assert_eq!(completion.text, "Grüß dich");
    assert_eq!(completion.finish_reason, FinishReason::Stop);
    assert_eq!(
        completion.usage,
        Usage { prompt_tokens: 7, completion_tokens: 3, cached_tokens: 0 }
    );
    assert_eq!(completion.served.base, "frontier-1");
    assert!(completion.tokens.is_none());
    assert!(completion.timing.first_token_ms <= completion.timing.total_ms);
}

#[test]
fn bytes_may_arrive_one_by_one() {
    let stream = [delta("ü✓"), STOP.to_owned(), DONE.to_owned()].concat();
    let server = Server::start(move |socket| {
        begin_stream(socket);
        for byte in stream.as_bytes() {
            socket.write_all(&[*byte]).unwrap();
            socket.flush().unwrap();
        }
    });
    assert_eq!(run(&teacher(&server), ask("x")).completion().text, "ü✓");
}

#[test]
fn the_request_says_everything_that_was_asked() {
    let server = Server::streaming(&[STOP, DONE]);
    let mut request = ask("hello");
    request.sampling = Sampling {
        temperature: 0.5,
        top_p: 0.9,
        top_k: 40,
        seed: Some(7),
        max_tokens: 12,
        stop: vec!["END".to_owned()],
        ..Sampling::default()
    };
    run(&teacher(&server), request);
    run(&teacher(&server), ask("hello"));
    let limit_field = TokenLimitField::MaxCompletionTokens;
    let newer = Upstream::new(Endpoint { limit_field, ..endpoint(&server.url) }).unwrap();
    run(&newer, ask("hello"));

    let [full, plain, newer] = <[_; 3]>::try_from(server.received()).unwrap();
    let messages = json!([{"role": "user", "content": "hello"}]);
    assert_eq!(
        full.body,
        json!({"model": "frontier-1", "messages": messages, "stream": true,
            "stream_options": {"include_usage": true}, "temperature": 0.5, "top_p": 0.9,
            "top_k": 40, "seed": 7, "max_tokens": 12, "stop": ["END"]})
    );
    assert!(full.head.starts_with("POST /v1/chat/completions HTTP/1.1"));
    assert!(full.head.contains(&format!("Bearer {KEY}\r\n")));
    for absent in ["top_p", "top_k", "seed", "stop", "max_completion_tokens"] {
        assert!(plain.body.get(absent).is_none(), "{absent} was not asked for");
    }
    assert_eq!(newer.body["max_completion_tokens"], 64);
    assert!(newer.body.get("max_tokens").is_none());
}

#[test]
fn tools_formats_and_penalties_are_sent_and_calls_come_back() {
    let part = |delta: serde_json::Value| {
        format!(
            "data: {}\n\n",
            json!({"choices": [{"index": 0, "delta": {"tool_calls": [delta]}}]})
        )
    };
    let end =
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n";
    let begin = json!({"index": 0, "id": "c1", "type": "function",
        "function": {"name": "weather", "arguments": ""}});
    let more = |text: &str| json!({"index": 0, "function": {"arguments": text}});
    let server = Server::streaming(&[
        &part(begin),
        &part(more("{\"city\":")),
        &part(more("\"Bern\"}")),
        &part(json!({"index": 1, "id": "c2", "function": {"name": "time", "arguments": "{}"}})),
        end,
        DONE,
    ]);
    let tool = json!({"type": "function", "function": {"name": "weather"}});
    let mut request = ask("hello");
    if let Prompt::Chat(chat) = &mut request.prompt {
        chat.tools = vec![tool.clone()];
        chat.template_variables.insert("tool_choice".to_owned(), json!("required"));
    }
    request.sampling.presence_penalty = 0.5;
    request.sampling.logit_bias = [(7, -1.0)].into();
    request.sampling.constraint = Some(Constraint::JsonSchema(json!({"type": "object"})));
    request.admission.timeout = Some(Duration::from_secs(5));
    let completion = run(&teacher(&server), request).completion();
    assert_eq!(completion.finish_reason, FinishReason::ToolCalls);
    let calls: Vec<(&str, &str, &str)> = completion
        .tool_calls
        .iter()
        .map(|call| (&*call.id, &*call.function.name, &*call.function.arguments))
        .collect();
    assert_eq!(calls, [("c1", "weather", "{\"city\":\"Bern\"}"), ("c2", "time", "{}")]);
    let sent = &server.received()[0].body;
    assert_eq!((&sent["tools"], &sent["tool_choice"]), (&json!([tool]), &json!("required")));
    assert_eq!(sent["presence_penalty"], 0.5);
    assert!(sent.get("frequency_penalty").is_none());
    assert_eq!(sent["logit_bias"], json!({"7": -1.0}));
    assert_eq!(sent["response_format"]["json_schema"]["schema"], json!({"type": "object"}));
}

#[test]
fn a_deadline_is_shorter_than_patience() {
    let mute = Server::start(|_| thread::sleep(Duration::from_secs(2)));
    let mut request = ask("x");
    request.admission.timeout = Some(Duration::from_millis(100));
    let begun = Instant::now();
    assert!(matches!(run(&teacher(&mute), request).error(), InferenceError::TimedOut(_)));
    assert!(begun.elapsed() < Duration::from_millis(350), "the idle timeout would be later");
}

#[test]
fn a_stream_that_breaks_is_an_error_and_never_a_short_answer() {
    let half = delta("half");
    for (pieces, expected) in [
        (vec![half.as_str()], "without a finish reason"),
        (vec![&half, DONE], "without a finish reason"),
        (vec![&half, "data: {\"choices\": [{\n\n"], "no chat chunk"),
        (vec![&half, "data: {\"error\":{\"message\":\"overloaded\"}}\n\n"], "overloaded"),
        (vec!["<html>not a stream</html>"], "without a finish reason"),
    ] {
        let server = Server::streaming(&pieces);
        let outcome = run(&teacher(&server), ask("x"));
        assert_eq!(outcome.started, !outcome.deltas.is_empty(), "what says nothing begins nothing");
        let error = outcome.error().to_string();
        assert!(error.contains(expected), "{pieces:?} gave {error}");
    }
}

#[test]
fn a_status_says_what_to_do() {
    let body = r#"{"error":{"message":"no\n such key: sk-very-secret-0123"}}"#;
    for (status, headers, expected) in [
        ("401 Unauthorized", "", "check it"),
        ("404 Not Found", "", "knows no model `frontier-1`"),
        (
            "429 Too Many Requests",
            "retry-after: 70\r\n",
            "limiting our rate (429 Too Many Requests, retry after 70 s)",
        ),
        ("500 Internal Server Error", "", "is in trouble"),
        ("302 Found", "location: http://127.0.0.1:1/\r\n", "which no model endpoint should"),
    ] {
        let server = Server::failing(status, headers, body);
        let outcome = run(&teacher(&server), ask("x"));
        assert!(!outcome.started, "{status} begins nothing");
        let error = outcome.error();
        assert!(matches!(error, InferenceError::Failed(_)), "{error:?}");
        let error = error.to_string();
        assert!(error.contains(expected), "{status} gave {error}");
        assert!(error.contains("no such key: [api key]"), "{error}");
    }
    let server = Server::failing("400 Bad Request", "", r#"{"error":"top_k is unknown"}"#);
    let error = run(&teacher(&server), ask("x")).error();
    assert!(matches!(&error, InferenceError::Invalid { .. }));
    assert!(error.to_string().contains("top_k is unknown"), "{error}");
}

#[test]
fn silence_times_out_before_and_within_an_answer() {
    let mute = Server::start(|_| thread::sleep(Duration::from_secs(3)));
    let begun = Instant::now();
    let outcome = run(&teacher(&mute), ask("x"));
    assert!(!outcome.started);
    assert!(matches!(outcome.error(), InferenceError::TimedOut(ms) if (350..3000).contains(&ms)));
    assert!(begun.elapsed() < Duration::from_secs(2));

    let stuck = Server::start(|stream| {
        begin_stream(stream);
        stream.write_all(delta("and then").as_bytes()).unwrap();
        thread::sleep(Duration::from_secs(3));
    });
    let outcome = run(&teacher(&stuck), ask("x"));
    assert_eq!(outcome.deltas, ["and then"]);
    assert!(matches!(outcome.error(), InferenceError::TimedOut(_)));
}

#[test]
fn a_trickle_times_out_in_all() {
    let trickle = Server::start(|stream| {
        begin_stream(stream);
        while stream.write_all(delta("drip ").as_bytes()).is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    });
    let outcome = run(&teacher(&trickle), ask("x"));
    assert!(outcome.deltas.len() > 5);
    assert!(matches!(outcome.error(), InferenceError::TimedOut(ms) if ms >= 1400));
}

#[test]
fn nobody_listening_is_a_failure_that_names_the_address() {
    let teacher = Upstream::new(endpoint("http://127.0.0.1:1/v1/")).unwrap();
    let error = run(&teacher, ask("x")).error().to_string();
    assert!(error.contains("http://127.0.0.1:1/v1 could not be reached"), "{error}");
}

#[test]
fn a_full_queue_is_busy_and_submitting_never_waits() {
    let slow = Server::start(|stream| {
        thread::sleep(Duration::from_millis(300));
        begin_stream(stream);
        stream.write_all(STOP.as_bytes()).unwrap();
    });
    let limits = Endpoint { concurrency: 1, waiting: 2, ..endpoint(&slow.url) };
    let teacher = Upstream::new(limits).unwrap();
    let (sender, receiver) = mpsc::channel();
    let submit = || {
        let sender = sender.clone();
        let sink = move |event: Event| {
            sender.send(event).expect("the test waits");
            ControlFlow::Continue(())
        };
        teacher.submit(ask("x"), Box::new(sink))
    };
    let begun = Instant::now();
    let accepted: Vec<_> = (0..8).map(|_| submit()).collect();
    assert!(begun.elapsed() < Duration::from_millis(200), "submitting waited");
    let busy = accepted.iter().filter(|result| **result == Err(InferenceError::Busy(2))).count();
    // The one thread may or may not have taken its first request up already.
    assert!((5..=6).contains(&busy), "{busy} were refused");

    drop(teacher);
    drop(sender);
    let ends: Vec<Event> =
        receiver.iter().filter(|e| matches!(e, Event::Finished(_) | Event::Failed(_))).collect();
    assert_eq!(ends.len(), 8 - busy, "every accepted request has exactly one end");
    let stopped = |e: &Event| matches!(e, Event::Failed(InferenceError::ShuttingDown));
    assert!(ends.iter().any(stopped), "those that waited learn of the shutdown");
}

#[test]
fn a_deadline_ends_in_the_queue_too() {
    let slow = Server::start(|stream| {
        thread::sleep(Duration::from_millis(350));
        begin_stream(stream);
        stream.write_all(STOP.as_bytes()).unwrap();
    });
    let teacher = Upstream::new(Endpoint { concurrency: 1, ..endpoint(&slow.url) }).unwrap();
    teacher.submit(ask("x"), Box::new(|_| ControlFlow::Continue(()))).unwrap();
    let mut hurried = ask("x");
    hurried.admission.timeout = Some(Duration::from_millis(100));
    let begun = Instant::now();
    assert!(matches!(run(&teacher, hurried).error(), InferenceError::TimedOut(_)));
    assert!(begun.elapsed() < Duration::from_millis(300), "{:?}", begun.elapsed());
    assert!(slow.received().len() <= 1, "it was never sent");
}

#[test]
fn breaking_off_closes_the_connection() {
    let (gone, noticed) = mpsc::channel();
    let gone = std::sync::Mutex::new(gone);
    let endless = Server::start(move |stream| {
        begin_stream(stream);
        while stream.write_all(delta("on ").as_bytes()).is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
        gone.lock().unwrap().send(()).unwrap();
    });
    let outcome = run_until(&teacher(&endless), ask("x"), 3);
    assert_eq!(outcome.deltas.len(), 3);
    assert!(outcome.end.is_none(), "a cancelled generation has no last event");
    noticed.recv_timeout(Duration::from_secs(5)).expect("the server is hung up on");
}

#[test]
fn what_a_teacher_lacks_is_refused_before_anything_is_sent() {
    let server = Server::streaming(&[STOP]);
    let teacher = teacher(&server);
    let refused = |request| teacher.submit(request, Box::new(|_| ControlFlow::Continue(())));
    assert!(refused(ask("x").with_adapter(Some("a".to_owned()))).is_err());
    let prompt = Prompt::Tokens(vec![1]);
    assert!(refused(understudy_inference::GenerateRequest { prompt, ..ask("x") }).is_err());
    let prompt = Prompt::messages(Vec::new());
    assert!(refused(understudy_inference::GenerateRequest { prompt, ..ask("x") }).is_err());
    let mut scored = ask("x");
    scored.returns.top = Some(0);
    assert!(matches!(refused(scored), Err(InferenceError::Unsupported(_))));
    let sampled: [fn(&mut Sampling); 4] = [
        |sampling| sampling.min_p = 0.1,
        |sampling| sampling.repetition_penalty = 1.1,
        |sampling| sampling.ignore_eos = true,
        |sampling| sampling.constraint = Some(Constraint::Regex("a".to_owned())),
    ];
    for change in sampled {
        let mut request = ask("x");
        change(&mut request.sampling);
        assert!(matches!(refused(request), Err(InferenceError::Unsupported(_))));
    }
    let mut salted = ask("x");
    salted.admission.cache_salt = Some("s".to_owned());
    assert!(matches!(refused(salted), Err(InferenceError::Unsupported(_))));
    assert!(server.received().is_empty());
}

#[test]
fn the_key_is_never_printed() {
    let printed = format!("{:?}", Upstream::new(endpoint("https://host/v1")).unwrap());
    assert!(printed.contains("frontier-1") && !printed.contains("secret"), "{printed}");
    for bad in ["", "two words", "line\nbreak"] {
        let error = ApiKey::parse(bad).unwrap_err().to_string();
        assert!(bad.is_empty() || !error.contains(bad));
    }
}

#[test]
fn an_address_that_cannot_work_is_refused_at_once() {
    for url in ["", "host/v1", "ftp://host/v1", "http://", "https://me:hunter2@host/v1"] {
        let error = Upstream::new(endpoint(url)).unwrap_err();
        assert!(matches!(error, UpstreamError::Endpoint { .. }), "{url}: {error}");
        assert!(!error.to_string().contains("hunter2"));
    }
}

#[test]
fn an_upstream_may_use_the_threads_of_whoever_asks() {
    let server = Server::streaming(&[&delta("hi"), STOP, DONE]);
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("theirs")
        .enable_all()
        .build()
        .unwrap();
    let shared = Endpoint { threads: Some(threads.handle().clone()), ..endpoint(&server.url) };
    for (endpoint, name) in [(shared, "theirs"), (endpoint(&server.url), "upstream")] {
        let upstream = Upstream::new(endpoint).unwrap();
        let (told, tell) = mpsc::channel();
        let sink = Box::new(move |_| {
            told.send(thread::current().name().map(str::to_owned)).unwrap();
            ControlFlow::Continue(())
        });
        upstream.submit(ask("hello"), sink).unwrap();
        assert_eq!(tell.recv().unwrap().as_deref(), Some(name));
        assert_eq!(tell.iter().last().unwrap().as_deref(), Some(name));
        drop(upstream);
    }
    assert_eq!(threads.block_on(async { 7 }), 7, "whose threads they are keeps them");
}
