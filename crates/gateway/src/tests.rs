//! Every endpoint over a real socket, with the mock engine behind it.

mod adapters;
mod auth;
mod capture;
mod chat;
mod completions;
mod control;
mod disk;
mod drawing;
mod faults;
mod feedback;
mod grpc;
mod hostile;
mod lengthy;
mod live;
mod memory;
mod pressure;
mod releases;
mod shadow;
mod taps;
mod telemetry;
mod tools;
mod trajectories;
mod watch;

use std::{net::SocketAddr, sync::Arc};

use serde_json::{Value, json};
use understudy_ident::SystemClock;
use understudy_inference::{Backend, MockConfig, MockEngine, Student};
use understudy_intake::Limits;
use understudy_journal::{Config, FakeDisk, Journal, Query};
use understudy_registry::Registry;
use understudy_router::{Route, RouteTable, Target};
use understudy_trajectory::Step;

use crate::{AdapterUpdates, Door, Gateway, GatewayParts, Patience, Tls};

struct Server {
    address: SocketAddr,
    gateway: Gateway,
    journal: Journal,
    routes: Arc<RouteTable>,
    student: Arc<MockEngine>,
    agent: ureq::Agent,
    directory: tempfile::TempDir,
    board: Arc<crate::Board>,
    runtime: tokio::runtime::Runtime,
}

struct Reply {
    status: u16,
    text: String,
    headers: Vec<(String, String)>,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|why| panic!("{why}: {}", self.text))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The JSON of the events of a stream that broke off: it must not look whole.
    fn broken_events(&self) -> Vec<Value> {
        assert!(!self.text.contains("[DONE]"), "{}", self.text);
        let events = self.text.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
        events.map(|event| serde_json::from_str(event).unwrap()).collect()
    }

    /// The JSON of a stream's events; it must end in `[DONE]`.
    fn events(&self) -> Vec<Value> {
        let mut events: Vec<&str> =
            self.text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
        assert_eq!(events.pop(), Some("[DONE]"), "{}", self.text);
        events.into_iter().map(|event| serde_json::from_str(event).unwrap()).collect()
    }
}

fn start() -> Server {
    start_with(MockConfig::default(), true)
}

fn start_with(config: MockConfig, updates: bool) -> Server {
    start_limited(config, updates, Limits::default())
}

fn start_limited(config: MockConfig, updates: bool, limits: Limits) -> Server {
    start_as(Settings { config, updates, limits, ..Settings::default() })
}

/// A server whose journal may take this many bytes of the disk.
fn start_small(bytes: u64) -> Server {
    let journal = Config { max_bytes: Some(bytes), ..Config::default() };
    start_as(Settings { journal, ..Settings::default() })
}

/// A server beside which a teacher stands.
fn start_taught(config: MockConfig, teacher: Arc<dyn Backend>) -> Server {
    start_as(Settings { config, teacher: Some(teacher), ..Settings::default() })
}

/// How a server is to be.
struct Settings {
    config: MockConfig,
    updates: bool,
    templates: bool,
    limits: Limits,
    journal: Config,
    /// What the journal's log is flushed to, instead of the real one.
    disk: Option<Arc<FakeDisk>>,
    door: Door,
    teacher: Option<Arc<dyn Backend>>,
    /// Instead of the mock engine.
    student: Option<Arc<dyn Student>>,
    tls: Option<Tls>,
    patience: Patience,
    /// Threads that serve, instead of as many as there are processors.
    threads: Option<usize>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            config: MockConfig::default(),
            updates: true,
            templates: false,
            limits: Limits::default(),
            journal: Config::default(),
            disk: None,
            door: Door::open(),
            teacher: None,
            student: None,
            tls: None,
            patience: Patience::default(),
            threads: None,
        }
    }
}

fn start_as(settings: Settings) -> Server {
    start_and(settings, |_, _, _| {})
}

/// A server that is prepared before it answers: with its directory and its journal.
fn start_and(
    settings: Settings,
    prepare: impl FnOnce(&Gateway, &std::path::Path, &Journal),
) -> Server {
    let Settings {
        config,
        updates,
        templates,
        limits,
        journal,
        door,
        teacher,
        tls,
        patience,
        threads,
        ..
    } = settings;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let journal = match &settings.disk {
        Some(disk) => Journal::open_on_fake(&path("journal.db"), journal, disk).unwrap(),
        None => Journal::open(&path("journal.db"), journal).unwrap(),
    };
    let registry = Registry::open(&path("registry.db"), &path("adapters")).unwrap();
    let routes = Arc::new(RouteTable::default());
    let student = Arc::new(MockEngine::start(config).unwrap());
    let parts = GatewayParts {
        student: settings.student.unwrap_or_else(|| Arc::clone(&student) as Arc<dyn Student>),
        teacher,
        routes: Arc::clone(&routes),
        journal: journal.clone(),
        registry: Arc::new(registry),
        clock: Arc::new(SystemClock),
        adapter_updates: if updates {
            AdapterUpdates::Under(vec![path("loras")])
        } else {
            AdapterUpdates::Forbidden
        },
        request_templates: templates,
    };
    let gateway = Gateway::guarded(parts, limits, door);
    let board = gateway.board();
    prepare(&gateway, directory.path(), &journal);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        runtime.worker_threads(threads);
    }
    let runtime = runtime.enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let serving =
        crate::serve_with(listener, gateway.clone(), tls, patience, std::future::pending());
    runtime.spawn(serving);
    let config = ureq::Agent::config_builder().http_status_as_error(false).build();
    let agent = config.into();
    Server { address, gateway, journal, routes, student, agent, directory, board, runtime }
}

impl Server {
    fn runtime(&self) -> &tokio::runtime::Runtime {
        &self.runtime
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_with(path, body, &[])
    }

    fn post_with(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Reply {
        let mut request = self.agent.post(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(request.send_json(body).unwrap())
    }

    fn get(&self, path: &str) -> Reply {
        read(self.agent.get(self.url(path)).call().unwrap())
    }

    /// Writes an adapter directory under the allowed root.
    fn adapter_files(&self, name: &str, weights: &str) -> String {
        let path = self.directory.path().join("loras").join(name);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("adapter_config.json"), r#"{"r": 8}"#).unwrap();
        std::fs::write(path.join("adapter_model.safetensors"), weights).unwrap();
        path.display().to_string()
    }

    /// An adapter whose weights are a pipe, so that loading it lasts until somebody writes to it: what
    /// to ask for, and where to write.
    fn slow_adapter(&self, name: &str) -> (Value, String) {
        let path = self.adapter_files(name, name);
        let weights = format!("{path}/adapter_model.safetensors");
        std::fs::remove_file(&weights).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&weights).status().unwrap();
        assert!(made.success());
        (json!({"lora_name": name, "lora_path": path}), weights)
    }

    fn load(&self, name: &str, weights: &str) -> Value {
        let path = self.adapter_files(weights, weights);
        let body = json!({"lora_name": name, "lora_path": path, "load_inplace": true});
        let reply = self.post("/v1/load_lora_adapter?format=json", &body);
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()
    }

    fn route(&self, task: &str, target: Target) {
        self.routes.publish(task.parse().unwrap(), Route::to(target), None);
    }

    fn publish(&self, task: &str, route: Route) {
        route.validate().unwrap();
        self.routes.publish(task.parse().unwrap(), route, Some("rel_test".to_owned()));
    }

    /// The value of the first sample that begins like this, 0 without one.
    fn metric(&self, name: &str, labels: &str) -> f64 {
        let page = self.get("/metrics").text;
        let of_name = page.lines().filter(|line| line.starts_with(name));
        let mut found = of_name.filter(|line| line.contains(labels));
        found.next().map_or(0.0, |line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
    }

    /// All steps once there are so many.
    fn steps_of(&self, count: usize) -> Vec<Step> {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            let steps = self.steps();
            if steps.len() >= count {
                return steps;
            }
            assert!(std::time::Instant::now() < deadline, "{} of {count} steps", steps.len());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    fn steps(&self) -> Vec<Step> {
        let trajectories = self.journal.trajectories(&Query::default()).unwrap();
        let steps = trajectories.into_iter().flat_map(|trajectory| trajectory.steps);
        steps.map(|judged| judged.step).collect()
    }

    /// The body is refused with this status, naming this field.
    fn refuses(&self, path: &str, body: &Value, status: u16, param: &str) {
        let reply = self.post(path, body);
        let answer = reply.json();
        assert_eq!(
            (reply.status, &answer["error"]["param"]),
            (status, &json!(param)),
            "{body} gave {answer}"
        );
        assert_eq!(answer["error"]["code"], status);
    }
}

fn read(mut response: http::Response<ureq::Body>) -> Reply {
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    let text = response.body_mut().read_to_string().unwrap();
    Reply { status: response.status().as_u16(), text, headers }
}

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn chat(text: &str) -> Value {
    json!({"model": "mock", "messages": [{"role": "user", "content": text}]})
}

/// `body` with more fields.
fn with(body: Value, more: Value) -> Value {
    let (Value::Object(mut body), Value::Object(more)) = (body, more) else {
        panic!("both are objects")
    };
    body.extend(more);
    Value::Object(body)
}
