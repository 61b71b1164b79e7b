//! The gateway over real HTTP, with a deterministic backend: what an application may rely on.

use std::{net::SocketAddr, sync::Arc};

use serde_json::{Value, json};
use understudy_gateway::{AdapterUpdates, Gateway, GatewayParts};
use understudy_ident::SystemClock;
use understudy_inference::{FakeBackend, InferenceError};
use understudy_journal::{Config, Journal, Query};
use understudy_registry::Registry;
use understudy_router::{Canary, Exposure, Route, RouteTable, Salt, Tap, Target};
use understudy_trajectory::{Arm, Signal};

struct Server {
    address: SocketAddr,
    journal: Journal,
    routes: Arc<RouteTable>,
    agent: ureq::Agent,
    _runtime: tokio::runtime::Runtime,
    directory: tempfile::TempDir,
}

fn start() -> Server {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(&directory.path().join("journal.db"), Config::default()).unwrap();
    let registry =
        Registry::open(&directory.path().join("registry.db"), &directory.path().join("adapters"))
            .unwrap();
    let routes = Arc::new(RouteTable::default());
    let student = FakeBackend::new("tiny", |text, adapter| match text {
        "fail" => Err(InferenceError::Failed("the device fell over".to_owned())),
        _ => Ok(format!("student {} heard {text}", adapter.unwrap_or("base"))),
    });
    let teacher = FakeBackend::new("frontier", |text, _| Ok(format!("teacher heard {text}")));
    let gateway = Gateway::new(GatewayParts {
        student: Arc::new(student),
        teacher: Some(Arc::new(teacher)),
        routes: Arc::clone(&routes),
        journal: journal.clone(),
        registry: Arc::new(registry),
        clock: Arc::new(SystemClock),
        adapter_updates: AdapterUpdates::Under(vec![directory.path().to_owned()]),
        request_templates: false,
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(understudy_gateway::serve(listener, gateway, std::future::pending()));
    let config = ureq::Agent::config_builder().http_status_as_error(false).build();
    Server { address, journal, routes, agent: config.into(), _runtime: runtime, directory }
}

impl Server {
    fn post(&self, path: &str, body: &Value) -> (u16, Value, Vec<(String, String)>) {
        self.post_as(path, body, None)
    }

    fn post_as(
        &self,
        path: &str,
        body: &Value,
        session: Option<&str>,
    ) -> (u16, Value, Vec<(String, String)>) {
        let mut request = self.agent.post(format!("http://{}{path}", self.address));
        if let Some(session) = session {
            request = request.header("x-session-id", session);
        }
        let mut response = request.send_json(body).unwrap();
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        let text = response.body_mut().read_to_string().unwrap();
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (response.status().as_u16(), value, headers)
    }

    fn adapter(&self, version: &str) {
        let path = self.directory.path().join(version);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("adapter_config.json"), "{}").unwrap();
        std::fs::write(path.join("adapter_model.safetensors"), version).unwrap();
        let body = json!({"lora_name": version, "lora_path": path});
        let (status, text, _) = self.post("/v1/load_lora_adapter", &body);
        assert_eq!((status, text.as_str().unwrap().starts_with("Success")), (200, true));
    }

    fn route(&self, route: Route) {
        self.routes.publish("triage".parse().unwrap(), route, Some("rel_1".to_owned()));
    }
}

fn chat(text: &str) -> Value {
    json!({"model": "triage", "messages": [{"role": "user", "content": text}], "temperature": 0})
}

fn target(version: &str) -> Target {
    Target::Adapter { version: version.to_owned(), generation: "g".to_owned() }
}

#[test]
fn an_exchange_is_in_the_journal_when_its_reply_is_complete() {
    let server = start();
    server.route(Route::to(Target::Teacher));
    let (status, reply, headers) = server.post_as("/v1/chat/completions", &chat("hi"), Some("s1"));
    assert_eq!(status, 200, "{reply}");
    assert_eq!(reply["choices"][0]["message"]["content"], "teacher heard hi");
    let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    assert_eq!(header("x-understudy-arm").as_deref(), Some("stable"));
    let trajectories = server.journal.trajectories(&Query::default()).unwrap();
    let step = &trajectories[0].steps[0].step;
    assert_eq!(step.response_id, reply["id"].as_str().unwrap());
    assert_eq!(header("x-understudy-trajectory").unwrap(), step.trajectory.to_string());
    assert_eq!(step.session.as_deref(), Some("s1"));
}

#[test]
fn our_own_engine_records_exact_tokens_and_names_the_generation() {
    let server = start();
    server.adapter("triage@1");
    server.route(Route::to(target("triage@1")));
    let (_, reply, headers) = server.post("/v1/chat/completions", &chat("hi"));
    assert!(reply["model"].as_str().unwrap().starts_with("triage@1#"), "{reply}");
    assert!(headers.iter().any(|(name, value)| {
        name == "x-understudy-adapter"
            && value.starts_with("triage@1 ")
            && value.len() == "triage@1 ".len() + 64
    }));
    let steps = server.journal.trajectories(&Query::default()).unwrap();
    let step = &steps[0].steps[0].step;
    let tokens = step.tokens.as_ref().unwrap();
    assert_eq!(tokens.completion_ids.len(), tokens.sampling_logprobs.len());
    assert_eq!(step.served.adapter.as_ref().unwrap().alias, "triage@1");
}

#[test]
fn a_stream_says_role_text_reason_usage_and_done_in_that_order() {
    let server = start();
    server.route(Route::to(Target::Base));
    let mut body = chat("hello there");
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    let (status, text, _) = server.post("/v1/chat/completions", &body);
    assert_eq!(status, 200);
    let text = text.as_str().unwrap();
    let events: Vec<&str> =
        text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    assert_eq!(events.last(), Some(&"[DONE]"));
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|e| serde_json::from_str(e).unwrap()).collect();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let said: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(said, "student base heard hello there");
    let (usage, finish) = (&chunks[chunks.len() - 1], &chunks[chunks.len() - 2]);
    assert_eq!(finish["choices"][0]["finish_reason"], "stop");
    assert_eq!(usage["choices"], json!([]));
    assert!(usage["usage"]["total_tokens"].as_u64().unwrap() > 0);
    assert_eq!(server.journal.counts().unwrap().steps, 1);
}

#[test]
fn arms_are_sticky_and_the_tap_goes_to_the_teacher() {
    let server = start();
    server.adapter("triage@1");
    server.adapter("triage@2");
    server.route(Route {
        stable: target("triage@1"),
        canary: Some(Canary {
            target: target("triage@2"),
            share: Exposure::HALF,
            salt: Salt::new([1; 16]),
        }),
        tap: Some(Tap { share: Exposure::new(0.2).unwrap(), salt: Salt::new([2; 16]) }),
        ..Route::to(target("triage@1"))
    });
    for _ in 0..2 {
        for n in 0..40 {
            let session = format!("session {n}");
            server.post_as("/v1/chat/completions", &chat("hi"), Some(&session));
        }
    }
    let trajectories = server.journal.trajectories(&Query::default()).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for trajectory in &trajectories {
        let arms: Vec<Arm> = trajectory
            .steps
            .iter()
            .map(|judged| judged.step.assignment.as_ref().unwrap().arm)
            .collect();
        assert_eq!(arms.len(), 2);
        assert_eq!(arms[0], arms[1], "a session keeps its arm");
        seen.insert(arms[0]);
        let step = &trajectory.steps[0].step;
        let expected = match arms[0] {
            Arm::Teacher => "teacher",
            Arm::Canary => "student triage@2",
            _ => "student triage@1",
        };
        assert!(step.reply.text().starts_with(expected), "{:?}", step.reply);
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
}

#[test]
fn outcomes_are_linked_whether_they_come_after_or_before() {
    let server = start();
    server.route(Route::to(Target::Teacher));
    let early = json!({"session_id": "s1", "signal": "accept", "id": "early-1"});
    let (status, answer, _) = server.post("/v1/feedback", &early);
    assert_eq!((status, &answer["results"][0]["state"]), (202, &json!("pending")));
    let (_, reply, _) = server.post_as("/v1/chat/completions", &chat("hi"), Some("s1"));
    let edit = json!([{"response_id": reply["id"], "signal": "edit", "text": "better"}]);
    assert_eq!(server.post("/v1/feedback", &edit).0, 202);
    let (_, again, _) = server.post("/v1/feedback", &early);
    assert_eq!(again["results"][0]["state"], "duplicate");
    let trajectories = server.journal.trajectories(&Query::default()).unwrap();
    let signals: Vec<&Signal> =
        trajectories[0].steps[0].outcomes.iter().map(|outcome| &outcome.signal).collect();
    assert_eq!(signals, [&Signal::Accept, &Signal::Edit { text: "better".to_owned() }]);
}

#[test]
fn bad_input_is_refused_by_name_and_stores_nothing() {
    let server = start();
    server.route(Route::to(Target::Base));
    let refused = |path: &str, body: Value, status: u16, param: Value, word: &str| {
        let (got, answer, _) = server.post(path, &body);
        assert_eq!((got, &answer["error"]["param"]), (status, &param), "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(word), "{message}");
    };
    let with = |key: &str, value: Value| {
        let mut body = chat("hi");
        body[key] = value;
        body
    };
    let chat_path = "/v1/chat/completions";
    refused(chat_path, with("n", json!(0)), 400, json!("n"), "`n`");
    refused(chat_path, with("tools", json!([])), 400, json!("tools"), "tools");
    refused(chat_path, with("temperature", json!(9)), 400, json!("temperature"), "between");
    refused(chat_path, with("max_tokens", json!(0)), 400, json!("max_tokens"), "at least 1");
    refused(chat_path, with("messages", json!("hi")), 400, json!("messages"), "list");
    refused(chat_path, with("stream_options", json!({})), 400, json!("stream_options"), "stream");
    refused(chat_path, with("model", json!("nobody")), 404, json!("model"), "triage");
    let feedback = "/v1/feedback";
    let one = json!({"response_id": "x", "signal": "accept"});
    let typo = json!({"response_id": "x", "signal": "acept"});
    refused(feedback, json!([one, typo]), 400, Value::Null, "event 1");
    refused(feedback, json!({"signal": "accept"}), 400, Value::Null, "at least one");
    refused(feedback, json!({"response_id": "x", "signal": "edit"}), 400, Value::Null, "`text`");
    assert_eq!(server.journal.counts().unwrap().records, 0);
}

#[test]
fn a_failing_backend_is_an_error_for_the_client_and_a_step_in_the_journal() {
    let server = start();
    server.route(Route::to(Target::Base));
    let (status, answer, _) = server.post("/v1/chat/completions", &chat("fail"));
    assert_eq!(status, 502, "{answer}");
    let trajectories = server.journal.trajectories(&Query::default()).unwrap();
    let error = trajectories[0].steps[0].step.error.as_deref().unwrap();
    assert!(error.contains("the device fell over"), "{error}");
}

#[test]
fn adapters_load_and_unload_like_vllm_but_never_under_a_route() {
    let server = start();
    server.adapter("triage@1");
    server.adapter("triage@2");
    server.route(Route::to(target("triage@1")));
    let unload = |name: &str| server.post("/v1/unload_lora_adapter", &json!({"lora_name": name}));
    assert_eq!(unload("triage@1").0, 409);
    assert_eq!(unload("triage@2").0, 200);
    assert_eq!(unload("triage@2").0, 404);
    let missing = json!({"lora_name": "x@1", "lora_path": "/nowhere"});
    assert_eq!(server.post("/v1/load_lora_adapter", &missing).0, 404);
    let (_, answer, _) = server.post("/v1/chat/completions", &{
        let mut body = chat("hi");
        body["model"] = json!("triage@2");
        body
    });
    assert!(answer["error"]["message"].as_str().unwrap().contains("triage@2"), "{answer}");
}
