//! A fleet of pretended vLLM servers.

use std::{
    collections::BTreeSet,
    io::Write,
    net::TcpStream,
    ops::ControlFlow,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use understudy_inference::{
    AdapterChoice, Backend, Event, InLine, InferenceError, Prompt, Student,
};

use super::{
    ask, run,
    server::{Received, Server, begin_stream},
};
use crate::{Endpoint, Fleet};

/// The adapters a server has, and whether it answers as somebody else.
#[derive(Debug, Default)]
struct Held {
    names: Mutex<BTreeSet<String>>,
    wrong: Mutex<bool>,
    /// What it says of the base it holds; vLLM's servers say nothing.
    identity: Option<&'static str>,
}

fn vllm(held: &Arc<Held>) -> Server {
    let held = Arc::clone(held);
    Server::answering(move |stream, received| answer(stream, received, &held))
}

fn answer(stream: &mut TcpStream, received: &Received, held: &Held) {
    let path = received.head.split(' ').nth(1).unwrap_or_default();
    let name = |field: &str| received.body[field].as_str().unwrap_or_default().to_owned();
    let mut names = held.names.lock().unwrap();
    match path {
        "/v1/models" => {
            let mut base = json!({"id": "base", "max_model_len": 2048});
            if let Some(identity) = held.identity {
                base["identity"] = json!(identity);
            }
            let mut models = vec![base];
            models.extend(names.iter().map(|name| json!({"id": name, "parent": "base"})));
            reply(stream, 200, &json!({ "data": models }).to_string());
        }
        "/v1/load_lora_adapter" => {
            assert!(Path::new(&name("lora_path")).is_absolute());
            if names.insert(name("lora_name")) {
                reply(stream, 200, "Success: LoRA adapter added successfully.");
            } else {
                reply(stream, 400, "The lora adapter has already been loaded.");
            }
        }
        "/v1/unload_lora_adapter" => {
            names.remove(&name("lora_name"));
            reply(stream, 200, "Success");
        }
        "/tokenize" => reply(stream, 200, r#"{"tokens": [1, 2, 3]}"#),
        "/detokenize" => reply(stream, 200, r#"{"prompt": "abc"}"#),
        "/v1/chat/completions" => {
            let model = name("model");
            if model != "base" && !names.contains(&model) {
                let error =
                    json!({"error": {"message": format!("The model `{model}` does not exist.")}});
                return reply(stream, 404, &error.to_string());
            }
            let model = if *held.wrong.lock().unwrap() { "base".to_owned() } else { model };
            begin_stream(stream);
            let first = json!({"model": model, "prompt_token_ids": [7, 8], "choices": [{
                "index": 0, "delta": {"role": "assistant", "content": ""}}]});
            let token = json!({"model": model, "choices": [{"index": 0,
                "delta": {"content": "hi"}, "token_ids": [9],
                "logprobs": {"content": [{"token": "hi", "logprob": -0.25, "bytes": [104, 105]}]}}]});
            let last = json!({"model": model, "choices": [{"index": 0, "delta": {},
                "finish_reason": "stop"}]});
            let usage = json!({"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 1,
                "prompt_tokens_details": {"cached_tokens": 1}}});
            for chunk in [first, token, last, usage] {
                stream.write_all(format!("data: {chunk}\n\n").as_bytes()).unwrap();
            }
            stream.write_all(b"data: [DONE]\n\n").unwrap();
        }
        other => panic!("nobody asks for {other}"),
    }
}

fn reply(stream: &mut TcpStream, status: u16, body: &str) {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).unwrap();
}

fn adapter(directory: &Path, weights: &str) -> std::path::PathBuf {
    let path = directory.join(weights);
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("adapter_config.json"), r#"{"r": 8}"#).unwrap();
    std::fs::write(path.join("adapter_model.safetensors"), weights).unwrap();
    path
}

struct Stage {
    held: Vec<Arc<Held>>,
    servers: Vec<Server>,
    fleet: Fleet,
    directory: tempfile::TempDir,
}

fn stage(replicas: usize) -> Stage {
    staged(&vec![None; replicas], usize::MAX)
}

/// Replicas that say these things of themselves, and are asked so many things at once.
fn staged(identities: &[Option<&'static str>], concurrency: usize) -> Stage {
    let held = |identity: Option<&'static str>| Arc::new(Held { identity, ..Held::default() });
    let held: Vec<Arc<Held>> = identities.iter().copied().map(held).collect();
    let servers: Vec<Server> = held.iter().map(vllm).collect();
    let urls = servers.iter().map(|server| server.url.clone()).collect();
    let endpoint = Endpoint::fleet(urls, "base", None);
    let concurrency = concurrency.min(endpoint.concurrency);
    let fleet = Fleet::start(Endpoint { concurrency, ..endpoint }).unwrap();
    Stage { held, servers, fleet, directory: tempfile::tempdir().unwrap() }
}

impl Stage {
    fn load(&self, alias: &str, weights: &str) -> String {
        let path = adapter(self.directory.path(), weights);
        self.fleet.load_adapter(alias, &path).unwrap().generation
    }

    fn names(&self, replica: usize) -> Vec<String> {
        self.held[replica].names.lock().unwrap().iter().cloned().collect()
    }
}

fn with(alias: &str) -> understudy_inference::GenerateRequest {
    ask("x").with_adapter(Some(alias.to_owned()))
}

#[test]
fn an_adapter_goes_to_every_replica_under_a_name_of_its_content() {
    let stage = stage(3);
    assert_eq!(stage.fleet.context(), 2048);
    let generation = stage.load("triage@1", "one");
    let name = format!("triage@1#{}", &generation[..12]);
    for replica in 0..3 {
        assert_eq!(stage.names(replica), [name.as_str()]);
    }
    let completion = run(&stage.fleet, with("triage@1")).completion();
    let served = completion.served.adapter.unwrap();
    assert_eq!((served.alias.as_str(), served.generation), ("triage@1", generation));
    assert_eq!(completion.usage.cached_tokens, 1);
    let tokens = completion.tokens.expect("the server told ids and probabilities");
    assert_eq!((tokens.prompt_ids, tokens.completion_ids), (vec![7, 8], vec![9]));
    assert_eq!(tokens.sampling_logprobs, [-0.25]);
    let asked = stage.servers.iter().flat_map(Server::received);
    let asked = asked.filter(|received| received.head.contains("chat/completions"));
    let bodies: Vec<Value> = asked.map(|received| received.body).collect();
    assert_eq!((bodies.len(), &bodies[0]["model"]), (1, &json!(name)));
    assert_eq!(bodies[0]["return_token_ids"], true);
    for (name, neutral) in [
        ("temperature", 0.0),
        ("top_p", 1.0),
        ("top_k", -1.0),
        ("min_p", 0.0),
        ("repetition_penalty", 1.0),
    ] {
        let sent = bodies[0][name].as_f64();
        assert_eq!(sent, Some(neutral), "{name}: a server would read its model's suggestions");
    }
    assert_eq!(run(&stage.fleet, ask("x")).completion().served.adapter, None);
    assert!(matches!(
        stage.fleet.submit(with("other"), Box::new(|_| ControlFlow::Continue(()))),
        Err(InferenceError::UnknownAdapter { .. })
    ));
    assert_eq!(stage.fleet.tokenize(&Prompt::Text("a".to_owned())).unwrap(), [1, 2, 3]);
    assert_eq!(stage.fleet.detokenize(&[1]).unwrap(), "abc");
    stage.fleet.unload_adapter("triage@1").unwrap();
    assert!(stage.names(0).is_empty());
}

#[test]
fn another_content_is_another_name_and_a_rollback_moves_only_the_alias() {
    let stage = stage(2);
    let one = stage.load("triage", "one");
    let two = stage.load("triage", "two");
    assert_eq!(stage.names(0).len(), 2, "the earlier one stays for a rollback");
    let generation =
        |outcome: super::Outcome| outcome.completion().served.adapter.unwrap().generation;
    assert_eq!(generation(run(&stage.fleet, with("triage"))), two);
    stage.fleet.rollback_adapter("triage", None).unwrap();
    assert_eq!(generation(run(&stage.fleet, with("triage"))), one);
}

#[test]
fn a_replica_that_forgot_an_adapter_is_passed_over_and_brought_up_to_date() {
    let stage = stage(2);
    stage.load("triage@1", "one");
    stage.held[0].names.lock().unwrap().clear();
    for n in 0..10 {
        let mut request = with("triage@1");
        request.prompt = Prompt::messages(vec![understudy_message::Message::user(format!("{n}"))]);
        assert_eq!(run(&stage.fleet, request).completion().text, "hi");
    }
    let deadline = Instant::now() + Duration::from_secs(15);
    while stage.names(0).is_empty() {
        assert!(Instant::now() < deadline, "nobody told it again");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_answer_by_other_weights_is_an_error() {
    let stage = stage(1);
    stage.load("triage@1", "one");
    *stage.held[0].wrong.lock().unwrap() = true;
    let error = run(&stage.fleet, with("triage@1")).error().to_string();
    assert!(error.contains("answers as `base`"), "{error}");
}

#[test]
fn too_few_replicas_that_take_an_adapter_are_a_refusal() {
    let held = Arc::<Held>::default();
    let server = vllm(&held);
    let dead = || "http://127.0.0.1:1/v1".to_owned();
    let urls = vec![server.url.clone(), dead(), dead()];
    let fleet = Fleet::start(Endpoint::fleet(urls, "base", None)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let error = fleet.load_adapter("a", &adapter(directory.path(), "one")).unwrap_err().to_string();
    assert!(error.contains("too few replicas"), "{error}");
    assert!(fleet.adapters().is_empty());
    assert!(Fleet::start(Endpoint::fleet(vec![dead()], "base", None)).is_err());
}

#[test]
fn replicas_that_fail_with_an_adapter_are_counted() {
    let stage = stage(2);
    stage.load("triage@1", "one");
    let choice = AdapterChoice::Alias("triage@1".to_owned());
    assert_eq!(stage.fleet.out_of_order(&choice), Some((0, 2)));
    for held in &stage.held {
        *held.wrong.lock().unwrap() = true;
    }
    for _ in 0..20 {
        stage.fleet.upstream().shared.replicas.iter().for_each(|replica| {
            let name = replica.held().iter().next().cloned();
            replica.record(name.as_deref(), 0, crate::pick::Blame::Adapter);
        });
    }
    assert_eq!(stage.fleet.out_of_order(&choice), Some((2, 2)));
    assert!(stage.fleet.check().is_ok(), "the base is well");
    stage.fleet.pause();
    let refused = stage.fleet.submit(ask("x"), Box::new(|_| ControlFlow::Continue(())));
    assert_eq!(refused, Err(InferenceError::Paused));
}

#[test]
fn what_no_alias_means_any_more_is_unloaded_after_a_while() {
    let stage = stage(2);
    let [one, two, three] = ["one", "two", "three"].map(|weights| stage.load("triage", weights));
    let name = |generation: &str| format!("triage#{}", &generation[..12]);
    let mut kept = [name(&two), name(&three)];
    kept.sort();
    assert!(stage.names(0).contains(&name(&one)), "it may be in use yet");
    let deadline = Instant::now() + Duration::from_secs(30);
    while stage.names(0) != kept || stage.names(1) != kept {
        assert!(Instant::now() < deadline, "{:?}", stage.names(0));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_fleet_is_what_its_replicas_are_while_all_of_them_say_the_same() {
    let same = staged(&[Some("one"), Some("one")], 8);
    until("both have told", || same.fleet.identity().is_some());
    assert_eq!(same.fleet.identity().as_deref(), Some("one"));
    for others in [[Some("one"), Some("two")], [Some("one"), None]] {
        let mixed = staged(&others, 8);
        let told = |fleet: &Fleet| {
            let gauges = fleet.gauges().into_iter();
            gauges.filter(|gauge| gauge.name == "replica_identity_info").count()
        };
        until("they have told", || told(&mixed.fleet) == others.iter().flatten().count());
        assert_eq!(mixed.fleet.identity(), None, "{others:?}");
    }
}

#[test]
fn who_waits_for_which_adapter_is_known_and_who_was_sent() {
    let stage = staged(&[None], 1);
    stage.load("triage@1", "one");
    let line = |waiting, running| vec![InLine { alias: "triage@1".to_owned(), waiting, running }];
    assert_eq!(stage.fleet.in_line(), Some(Vec::new()));
    // The server says nothing as long as this is held.
    let silence = stage.held[0].names.lock().unwrap();
    let ended = Arc::<Mutex<usize>>::default();
    for request in [with("triage@1"), with("triage@1"), with("triage@1"), ask("x")] {
        let ended = Arc::clone(&ended);
        let sink = move |event: Event| {
            *ended.lock().unwrap() += usize::from(matches!(event, Event::Finished(_)));
            ControlFlow::Continue(())
        };
        stage.fleet.submit(request, Box::new(sink)).unwrap();
    }
    // Of the base nobody asks by adapter; it may have been sent first.
    until("all are in line", || {
        let lines = stage.fleet.in_line().unwrap();
        lines == line(2, 1) || lines == line(3, 0)
    });
    drop(silence);
    until("all are answered", || *ended.lock().unwrap() == 4);
    until("nobody is left", || stage.fleet.in_line() == Some(Vec::new()));
}
