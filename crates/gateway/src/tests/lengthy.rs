//! One thread serves: what takes long must not keep it from the others.

use std::{
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use understudy_ident::SystemClock;
use understudy_inference::{
    Backend, Embedder, GenerateRequest, HashingEmbedder, InferenceError, MockConfig, MockEngine,
    Sink,
};
use understudy_memory::Deployment;
use understudy_router::Target;

use super::{
    CHAT, Server, Settings, chat,
    memory::{FILE, refund, teach},
    start_and, start_as, with,
};
use crate::Memories;

/// How long is waited for what comes at once or never.
const NEVER: Duration = Duration::from_secs(20);

/// Somebody who is held up, and who says so.
#[derive(Debug)]
struct Held {
    begun: mpsc::SyncSender<()>,
    go_on: Mutex<mpsc::Receiver<()>>,
}

/// The one who holds them up.
struct Holder {
    begun: mpsc::Receiver<()>,
    go_on: mpsc::Sender<()>,
}

fn held() -> (Held, Holder) {
    let ((begun, begins), (go_on, goes_on)) = (mpsc::sync_channel(8), mpsc::channel());
    (Held { begun, go_on: Mutex::new(goes_on) }, Holder { begun: begins, go_on })
}

impl Held {
    fn wait(&self) {
        self.begun.send(()).unwrap();
        self.go_on.lock().unwrap().recv().unwrap();
    }
}

impl Holder {
    /// Asks for the health of a server while it is held up over a chat, which then is answered.
    fn others_are_served(&self, server: &Server, body: &Value) {
        thread::scope(|scope| {
            let asked = scope.spawn(|| server.post(CHAT, body));
            self.begun.recv().unwrap();
            let health = server.agent.get(server.url("/health"));
            let health = health.config().timeout_global(Some(NEVER)).build().call();
            // Only now, so that nobody is held up for ever where this fails.
            self.go_on.send(()).unwrap();
            assert_eq!(asked.join().unwrap().status, 200);
            assert_eq!(health.unwrap().status(), 200);
        });
    }
}

/// A teacher that has much to do before it can ask.
#[derive(Debug)]
struct Laborious(MockEngine, Held);

impl Backend for Laborious {
    fn base(&self) -> &str {
        self.0.base()
    }

    fn submit(&self, request: GenerateRequest, sink: Sink) -> Result<(), InferenceError> {
        self.1.wait();
        self.0.submit(request, sink)
    }
}

#[test]
fn a_long_request_keeps_no_thread_from_the_others() {
    let (held, holder) = held();
    let engine = MockEngine::start(MockConfig::default()).unwrap();
    let teacher = Some(Arc::new(Laborious(engine, held)) as Arc<dyn Backend>);
    let server = start_as(Settings { teacher, threads: Some(1), ..Settings::default() });
    server.route("mock", Target::Teacher);
    let long = with(chat("hello"), json!({"of_no_meaning_here": "x".repeat(100_000)}));
    holder.others_are_served(&server, &long);
}

/// A model of sentences that takes its time, once it has been told to.
#[derive(Debug)]
struct Pondering(Mutex<Option<Held>>);

impl Embedder for Pondering {
    fn name(&self) -> &'static str {
        "hashing@1"
    }

    fn dimensions(&self) -> usize {
        HashingEmbedder.dimensions()
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, InferenceError> {
        if let Some(held) = self.0.lock().unwrap().take() {
            held.wait();
        }
        HashingEmbedder.embed(texts)
    }
}

#[test]
fn a_chat_that_waits_for_lessons_keeps_no_thread_from_the_others() {
    let (held, holder) = held();
    let pondering = Arc::new(Pondering(Mutex::new(None)));
    let embedder = Arc::clone(&pondering);
    let settings = Settings { threads: Some(1), ..Settings::default() };
    let server = start_and(settings, |gateway, directory, journal| {
        let place = directory.join("memory");
        teach(&place);
        let file = FILE.replace("budget_ms = 5000", "budget_ms = 60000");
        let deployment = Deployment::parse(&file).unwrap();
        let (clock, routes) = (Arc::new(SystemClock), Arc::default());
        let memories = Memories::open(&place, deployment, embedder, journal.clone(), clock, routes);
        gateway.remember_with(memories.unwrap()).unwrap();
    });
    server.route("desk", Target::Base);
    *pondering.0.lock().unwrap() = Some(held);
    holder.others_are_served(&server, &refund());
}
