//! What a server keeps of each reply in memory: nothing.
//!
//! Its own process, because every allocation in it is counted.
#![expect(clippy::unwrap_used, reason = "a helper of a test may fail like the test")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use understudy_gateway::{AdapterUpdates, Gateway, GatewayParts, serve};
use understudy_ident::SystemClock;
use understudy_inference::{MockConfig, MockEngine};
use understudy_journal::{Config, Journal};
use understudy_registry::Registry;
use understudy_router::{Route, RouteTable, Target};

/// Counts what is allocated and not given back. SQLite allocates for itself, up to the size of its
/// caches: 64 MiB of a journal's writer, 2 MB of each reader.
struct Counting;

static HELD: AtomicI64 = AtomicI64::new(0);

#[expect(unsafe_code, reason = "an allocator is counted by being one")]
// SAFETY: everything is handed on to the system's allocator, whose contract is the same.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract, which is this one.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: it came from `alloc` above, so from the system's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CLIENTS: usize = 8;
/// Sessions of one reply each, judged; in rounds, of which the first fills what is bounded.
const SESSIONS: usize = 160;
const ROUNDS: usize = 3;

struct Desk {
    address: std::net::SocketAddr,
    agent: ureq::Agent,
}

impl Desk {
    fn post(&self, path: &str, body: &Value) -> Value {
        let mut response =
            self.agent.post(format!("http://{}{path}", self.address)).send_json(body).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn session(&self, nth: usize) {
        let asked = json!({
            "model": "triage", "session_id": format!("visitor-{nth}"), "user": format!("u{nth}"),
            "messages": [{"role": "user", "content": format!("where is order {nth}?")}],
        });
        let reply = self.post("/v1/chat/completions", &asked);
        self.post("/v1/feedback", &json!({"response_id": reply["id"], "signal": "accept"}));
        let nobody = json!({"response_id": format!("chatcmpl-nobody-{nth}"), "signal": "accept"});
        self.post("/v1/feedback", &nobody);
    }
}

/// The least that was held within a second: the last commits and connections are still ending when
/// the last reply has been read.
fn held_at_rest() -> i64 {
    let reading = |_| {
        thread::sleep(Duration::from_millis(20));
        HELD.load(Ordering::Relaxed)
    };
    (0..50).map(reading).min().unwrap()
}

#[test]
fn nothing_of_a_reply_stays_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let journal = Journal::open(&path("journal.db"), Config::default()).unwrap();
    let routes = Arc::new(RouteTable::default());
    routes.publish("triage".parse().unwrap(), Route::to(Target::Base), None);
    let gateway = Gateway::new(GatewayParts {
        student: Arc::new(MockEngine::start(MockConfig::default()).unwrap()),
        teacher: None,
        routes,
        journal,
        registry: Arc::new(Registry::open(&path("registry.db"), &path("adapters")).unwrap()),
        clock: Arc::new(SystemClock),
        adapter_updates: AdapterUpdates::Forbidden,
        request_templates: false,
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(serve(listener, gateway, std::future::pending()));
    let mut held = Vec::new();
    for round in 0..ROUNDS {
        // Its connections end with the round: how many are left open is chance.
        let desk = Desk { address, agent: ureq::Agent::new_with_defaults() };
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let desk = &desk;
                let first = round * SESSIONS + client;
                scope.spawn(move || {
                    (first..(round + 1) * SESSIONS).step_by(CLIENTS).for_each(|n| desk.session(n));
                });
            }
        });
        drop(desk);
        held.push(held_at_rest());
    }
    let (grown, replies) = (held[ROUNDS - 1] - held[0], ((ROUNDS - 1) * SESSIONS) as i64);
    println!("{grown} bytes more after {replies} replies: {held:?}");
    assert!(grown < 64 * replies, "{} bytes of each reply stay: {held:?}", grown / replies);
}
