//! Faults of those behind the gateway, over real sockets: replicas that die, a teacher that is
//! silent, one that breaks off, one that fails now and then.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use understudy_ident::SystemClock;
use understudy_inference::{Backend, MockConfig, MockEngine, Student};
use understudy_journal::{Config, Journal, Query};
use understudy_registry::Registry;
use understudy_router::{Exposure, Route, RouteTable, Salt, Support, Tap, Target};
use understudy_upstream::{Endpoint, Fleet, Timeouts, Upstream};

use super::{CHAT, Reply, Server, chat, read, start_taught, with};
use crate::{AdapterUpdates, Gateway, GatewayParts};

/// A gateway over whatever student, which may be stopped.
struct Front {
    address: SocketAddr,
    journal: Journal,
    routes: Arc<RouteTable>,
    agent: ureq::Agent,
    runtime: Option<tokio::runtime::Runtime>,
    _directory: tempfile::TempDir,
}

fn front(student: Arc<dyn Student>, updates: AdapterUpdates) -> Front {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let journal = Journal::open(&path("journal.db"), Config::default()).unwrap();
    let routes = Arc::new(RouteTable::default());
    let gateway = Gateway::new(GatewayParts {
        student,
        teacher: None,
        routes: Arc::clone(&routes),
        journal: journal.clone(),
        registry: Arc::new(Registry::open(&path("registry.db"), &path("adapters")).unwrap()),
        clock: Arc::new(SystemClock),
        adapter_updates: updates,
        request_templates: false,
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(crate::serve(listener, gateway, std::future::pending()));
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    Front { address, journal, routes, agent, runtime: Some(runtime), _directory: directory }
}

impl Front {
    fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    fn ask(&self, body: &Value) -> Reply {
        let url = format!("http://{}{CHAT}", self.address);
        read(self.agent.post(url).send_json(body).unwrap())
    }

    fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.stop();
    }
}

fn adapter(directory: &std::path::Path) -> std::path::PathBuf {
    let path = directory.join("one");
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("adapter_config.json"), r#"{"r": 8}"#).unwrap();
    std::fs::write(path.join("adapter_model.safetensors"), "one").unwrap();
    path
}

#[test]
fn a_fleet_of_our_own_servers_carries_adapters_and_survives_a_death() {
    let shared = tempfile::tempdir().unwrap();
    let replica = || {
        let engine = MockEngine::start(MockConfig::default()).unwrap();
        front(Arc::new(engine), AdapterUpdates::Under(vec![shared.path().to_owned()]))
    };
    let mut replicas = [replica(), replica()];
    let urls = replicas.iter().map(Front::url).collect();
    let fleet = Arc::new(Fleet::start(Endpoint::fleet(urls, "mock", None)).unwrap());
    assert_eq!(fleet.context(), 4096, "as the replicas say");
    let generation = fleet.load_adapter("triage@1", &adapter(shared.path())).unwrap().generation;
    let served = front(Arc::clone(&fleet) as Arc<dyn Student>, AdapterUpdates::Forbidden);
    let target = Target::Adapter { version: "triage@1".to_owned(), generation: generation.clone() };
    served.routes.publish("triage".parse().unwrap(), Route::to(target), None);

    let whole = served.ask(&with(chat("hi"), json!({"model": "triage"})));
    assert_eq!(whole.status, 200, "{}", whole.text);
    let said = whole.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert!(said.starts_with("triage@1#") && said.ends_with(": hi"), "{said}");
    let named = format!("triage@1 {generation}");
    assert_eq!(whole.header("x-understudy-adapter"), Some(named.as_str()));
    let streamed = served.ask(&with(chat("ho"), json!({"model": "triage", "stream": true})));
    assert!(streamed.text.contains("[DONE]"), "{}", streamed.text);
    let tool = json!({"type": "function", "function": {"name": "act", "parameters": {
        "type": "object", "properties": {}}}});
    let calling = json!({"model": "triage", "tools": [tool], "tool_choice": "required"});
    let called = served.ask(&with(chat("act"), calling)).json();
    assert_eq!(
        called["choices"][0]["message"]["tool_calls"][0]["function"]["name"], "act",
        "{called}"
    );
    let steps = served.journal.trajectories(&Query::default()).unwrap();
    let steps: Vec<_> = steps.into_iter().flat_map(|trajectory| trajectory.steps).collect();
    assert_eq!(steps.len(), 3);
    let tokens = steps.iter().find_map(|judged| judged.step.tokens.as_ref());
    let tokens = tokens.expect("ids travel from the replica into the record");
    assert_eq!(tokens.completion_ids.len(), tokens.sampling_logprobs.len());

    replicas[0].stop();
    let begun = Instant::now();
    for n in 0..30 {
        let reply = served.ask(&with(chat(&format!("question {n}")), json!({"model": "triage"})));
        assert_eq!(reply.status, 200, "{}", reply.text);
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(fleet.check().is_ok());
    replicas[1].stop();
    let reply = served.ask(&with(chat("anybody?"), json!({"model": "triage"})));
    assert!((500..=599).contains(&reply.status), "{}", reply.text);
}

/// A teacher of one line of behaviour, each connection in a thread of its own.
fn teacher(answer: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let answer = Arc::clone(&answer);
            thread::spawn(move || {
                if read_request(&socket).is_some() {
                    answer(&mut socket);
                }
            });
        }
    });
    url
}

/// Until the end of the body; none where the client only connected.
fn read_request(socket: &TcpStream) -> Option<()> {
    let mut reader = BufReader::new(socket);
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let header = line.to_ascii_lowercase();
        let value = header.strip_prefix("content-length:").map(str::trim);
        length = value.map_or(length, |value| value.parse().unwrap());
    }
    reader.read_exact(&mut vec![0; length]).ok()
}

fn says(socket: &mut TcpStream, text: &str, whole: bool) {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    let chunk = json!({"choices": [{"index": 0, "delta": {"content": text}}]});
    let stop = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let end = if whole { format!("data: {stop}\n\ndata: [DONE]\n\n") } else { String::new() };
    let reply = format!("{head}data: {chunk}\n\n{end}");
    socket.write_all(reply.as_bytes()).ok();
}

/// A teacher that is waited for however slow the machine is.
fn remote(url: &str) -> Arc<dyn Backend> {
    waited_for(url, Duration::from_secs(30))
}

fn waited_for(url: &str, first_token: Duration) -> Arc<dyn Backend> {
    let timeouts = Timeouts {
        connect: Duration::from_secs(1),
        first_token,
        between_tokens: first_token,
        total: Duration::from_mins(1),
    };
    let endpoint = Endpoint { timeouts, ..Endpoint::new(url, "frontier", None) };
    Arc::new(Upstream::new(endpoint).unwrap())
}

fn tapped(server: &Server) {
    let share = Exposure::new(1.0).unwrap();
    let tap = Some(Tap { share, salt: Salt::new([2; 16]) });
    server.publish("triage", Route { tap, support: Support::default(), ..Route::to(Target::Base) });
}

fn ask(server: &Server, more: Value) -> Reply {
    server.post(CHAT, &with(with(chat("hi"), json!({"model": "triage"})), more))
}

#[test]
fn a_silent_teacher_costs_its_patience_and_no_reply() {
    let url = teacher(|_| thread::sleep(Duration::from_secs(20)));
    let server = start_taught(MockConfig::default(), waited_for(&url, Duration::from_millis(300)));
    tapped(&server);
    let begun = Instant::now();
    let reply = ask(&server, json!({}));
    assert_eq!(reply.json()["choices"][0]["message"]["content"], "hi", "{}", reply.text);
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
    assert_eq!(server.metric("understudy:tap_skipped_total", "reason=\"timed_out\""), 1.0);
    let step = server.steps_of(1).pop().unwrap();
    assert!(step.timing.total_ms >= 300.0, "the client waited that long: {:?}", step.timing);
    server.publish("triage", Route::to(Target::Teacher));
    let reply = ask(&server, json!({}));
    assert_eq!(reply.status, 504, "nobody else is there to answer: {}", reply.text);
}

#[test]
fn a_teacher_that_breaks_off_is_told_and_recorded() {
    let url = teacher(|socket| says(socket, "half a sen", false));
    let server = start_taught(MockConfig::default(), remote(&url));
    server.publish("triage", Route::to(Target::Teacher));
    let events = ask(&server, json!({"stream": true})).broken_events();
    let last = events.last().unwrap();
    assert!(last["error"]["message"].as_str().unwrap().contains("cut off"), "{last}");
    let step = server.steps_of(1).pop().unwrap();
    assert_eq!(last["error"]["request_id"], json!(step.response_id));
    assert_eq!((step.reply.text().as_str(), step.error.is_some()), ("half a sen", true));
    let labels = "arm=\"stable\",adapter=\"frontier\",class=\"truncated\"";
    assert_eq!(server.metric("understudy:arm_errors_total", labels), 1.0);
    assert_eq!(ask(&server, json!({})).status, 502, "half a reply is no whole one");
}

#[test]
fn a_teacher_that_fails_once_in_twenty_is_not_noticed() {
    let count = AtomicUsize::new(0);
    let url = teacher(move |socket| {
        if count.fetch_add(1, Ordering::SeqCst) % 20 == 3 {
            let reply = "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            socket.write_all(reply.as_bytes()).ok();
            return;
        }
        says(socket, "fine", true);
    });
    let server = start_taught(MockConfig::default(), remote(&url));
    server.publish("triage", Route::to(Target::Teacher));
    for _ in 0..60 {
        assert_eq!(ask(&server, json!({})).json()["choices"][0]["message"]["content"], "fine");
    }
    assert!(server.metric("understudy:upstream_repeated_total", "teacher") >= 3.0);
    assert_eq!(server.metric("understudy:replica_out", "teacher"), 0.0);
}

#[test]
fn a_dead_teacher_of_a_tap_is_left_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    let server = start_taught(MockConfig::default(), remote(&url));
    tapped(&server);
    for _ in 0..8 {
        let reply = ask(&server, json!({}));
        assert_eq!(reply.json()["choices"][0]["message"]["content"], "hi");
    }
    assert_eq!(server.metric("understudy:replica_out", "teacher"), 1.0);
    let begun = Instant::now();
    ask(&server, json!({}));
    assert!(begun.elapsed() < Duration::from_millis(500), "its breaker is open");
}
