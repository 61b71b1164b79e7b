mod own;

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use understudy_ident::{Clock as _, SystemClock};
use understudy_inference::{Embedder, HashingEmbedder, InferenceError};
use understudy_journal::Journal;
use understudy_memory::{
    By, Choice, Deployment, DeploymentItem, ErrorSignature, MemoryId, MemoryRoot, Status, Tactic,
    Written,
};
use understudy_router::Target;

use super::{CHAT, Server, Settings, chat, start, start_and, with};
use crate::{Gateway, Memories};

pub(super) const FILE: &str = r#"
tenant = "acme"

[settings.counters]
control_share = 0.0
probation_share = 0.0

[settings.retrieval]
small_model = false
budget_ms = 5000
# The mock engine's tokens are bytes.
max_line_tokens = 400
max_tokens = 2000
context_share = 0.5

[catalogue]
agents = ["desk"]

[[catalogue.tools]]
name = "refunds.quote"
access = "read"

[[catalogue.tools]]
name = "refunds.create"
access = "write"

[[catalogue.intents]]
name = "refund-order"
description = "give money back for an order"
"#;

fn by() -> By {
    By::new("ada", "a test", SystemClock.now()).unwrap()
}

/// Writes a lesson for refunds, releases it, and says how it is called.
pub(super) fn teach(directory: &Path) -> MemoryId {
    let deployment = Deployment::parse(FILE).unwrap();
    let root = MemoryRoot::open(directory, deployment.settings.clone()).unwrap();
    let store = root.deployment(&deployment.tenant).unwrap();
    let written = Written {
        agent: Some("desk"),
        intent: Some("refund-order"),
        tools: &["refunds.quote", "refunds.create"],
        target: Some("shop.example"),
        situation: "When a task needs `refunds.create`",
        strategy: "prefer calling `refunds.quote` first.",
        prefer: &["refunds.quote"],
        tactic: Some(Tactic::FallbackPath),
        ..Written::default()
    };
    let now = SystemClock.now();
    let item = DeploymentItem::written(&written, &deployment.catalogue, store.key(), now).unwrap();
    let id = item.id.clone();
    store.propose(item, &HashingEmbedder, &by()).unwrap();
    store.validate(&id, &by()).unwrap();
    let releases = root.releases(&deployment.tenant);
    store.release(&releases, "hashing@1", &Choice::default(), &by()).unwrap();
    id
}

fn remember(gateway: &Gateway, directory: &Path, journal: &Journal) {
    remember_by(Arc::new(HashingEmbedder), gateway, directory, journal);
}

fn remember_by(
    embedder: Arc<dyn Embedder>,
    gateway: &Gateway,
    directory: &Path,
    journal: &Journal,
) {
    let deployment = Deployment::parse(FILE).unwrap();
    let (clock, routes) = (Arc::new(SystemClock), Arc::default());
    let memories = Memories::open(directory, deployment, embedder, journal.clone(), clock, routes);
    gateway.remember_with(memories.unwrap()).unwrap();
}

/// A sentence model that was pulled after the release had been cut.
#[derive(Debug)]
struct Newer;

impl Embedder for Newer {
    fn name(&self) -> &'static str {
        "newer"
    }

    fn dimensions(&self) -> usize {
        2
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, InferenceError> {
        Ok(vec![vec![1.0, 0.0]; texts.len()])
    }
}

#[test]
fn a_release_is_found_by_the_embedder_it_was_cut_for_until_the_next_one() {
    let server = start_and(Settings::default(), |gateway, directory, journal| {
        let place = directory.join("memory");
        teach(&place);
        remember_by(Arc::new(Newer), gateway, &place, journal);
    });
    server.route("desk", Target::Base);
    let embedder = |server: &Server| server.get("/v1/memory/status").json()["embedder"].clone();
    assert_eq!(embedder(&server), "hashing@1");
    assert!(server.post(CHAT, &refund()).header("x-memory-ids").is_some());

    let deployment = Deployment::parse(FILE).unwrap();
    let place = server.directory.path().join("memory");
    let root = MemoryRoot::open(&place, deployment.settings.clone()).unwrap();
    let store = root.deployment(&deployment.tenant).unwrap();
    let releases = root.releases(&deployment.tenant);
    store.release(&releases, "newer", &Choice::default(), &by()).unwrap();
    server.eventually("the new release", |server| embedder(server) == "newer");
    assert!(server.post(CHAT, &refund()).header("x-memory-ids").is_some());
}

/// Takes its time over what it has not been asked before the first chat.
#[derive(Debug)]
struct Slow(Arc<AtomicBool>);

/// Far more than a chat may wait, and more than a busy machine takes over one.
const SLOWLY: Duration = Duration::from_secs(20);

impl Embedder for Slow {
    fn name(&self) -> &'static str {
        "hashing@1"
    }

    fn dimensions(&self) -> usize {
        HashingEmbedder.dimensions()
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, InferenceError> {
        let began = Instant::now();
        while self.0.load(Ordering::SeqCst) && began.elapsed() < SLOWLY {
            std::thread::sleep(Duration::from_millis(5));
        }
        HashingEmbedder.embed(texts)
    }
}

#[test]
fn a_chat_does_not_wait_for_lessons_beyond_its_budget_and_says_so() {
    let slow = Arc::new(AtomicBool::new(false));
    let is_slow = Arc::clone(&slow);
    let server = start_and(Settings::default(), |gateway, directory, journal| {
        let place = directory.join("memory");
        teach(&place);
        let file = FILE.replace("budget_ms = 5000", "budget_ms = 1000");
        let deployment = Deployment::parse(&file).unwrap();
        let (clock, routes) = (Arc::new(SystemClock), Arc::default());
        let embedder = Arc::new(Slow(is_slow));
        let memories = Memories::open(&place, deployment, embedder, journal.clone(), clock, routes);
        gateway.remember_with(memories.unwrap()).unwrap();
    });
    server.route("desk", Target::Base);
    let in_time = server.post(CHAT, &refund());
    assert!(in_time.header("x-memory-ids").is_some_and(|ids| !ids.is_empty()));
    assert_eq!(in_time.header("x-memory"), None);
    slow.store(true, Ordering::SeqCst);
    let began = Instant::now();
    let late = server.post(CHAT, &refund());
    assert!(began.elapsed() < SLOWLY / 2, "{:?}", began.elapsed());
    slow.store(false, Ordering::SeqCst);
    assert_eq!(late.status, 200, "{}", late.text);
    assert_eq!((late.header("x-memory"), late.header("x-memory-ids")), (Some("late"), None));
    let prompts = server.steps().into_iter().map(|step| step.prompt[0].text());
    assert_eq!(prompts.filter(|prompt| prompt.contains("<memory")).count(), 1);
    let counted = "understudy:memory_requests_total{lessons=\"late\"} 1";
    assert!(server.get("/metrics").text.contains(counted));
    assert_eq!(server.get("/v1/memory/status").json()["late"], 1);
}

#[test]
fn a_lesson_that_a_reply_names_is_noted_as_cited_and_decides_nothing() {
    let (server, id) = start_remembering();
    let mut body = refund();
    // The mock repeats what it is told.
    body["messages"][1]["content"] = json!("please give money back for my order, as (m1) says");
    assert!(server.post(CHAT, &body).header("x-memory-ids").is_some_and(|ids| !ids.is_empty()));
    server.post(CHAT, &refund());
    server.eventually("the note", |server| server.lesson(&id).counters.cited > 0);
    let counters = server.lesson(&id).counters;
    assert_eq!((counters.cited, counters.injected), (1, 2), "{counters:?}");
    assert!(counters.success_with < 1e-9 && counters.fail_with < 1e-9, "{counters:?}");
}

fn start_remembering() -> (Server, MemoryId) {
    let mut taught = None;
    let server = start_and(Settings::default(), |gateway, directory, journal| {
        let place = directory.join("memory");
        taught = Some(teach(&place));
        remember(gateway, &place, journal);
    });
    server.route("desk", Target::Base);
    (server, taught.unwrap())
}

pub(super) fn refund() -> Value {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}});
    let tools = json!([tool("refunds.quote"), tool("refunds.create")]);
    let messages = json!([
        {"role": "system", "content": "You are the desk."},
        {"role": "user", "content": "please give money back for my order"},
    ]);
    json!({"model": "desk", "messages": messages, "tools": tools, "user": "u1"})
}

impl Server {
    fn lesson(&self, id: &MemoryId) -> understudy_memory::Kept<understudy_memory::DeploymentText> {
        let deployment = Deployment::parse(FILE).unwrap();
        let root =
            MemoryRoot::open(&self.directory.path().join("memory"), deployment.settings).unwrap();
        root.deployment(&deployment.tenant).unwrap().get(id, SystemClock.now()).unwrap()
    }

    fn eventually(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        for _ in 0..100 {
            if holds(self) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{what} did not come about");
    }
}

#[test]
fn a_chat_is_shown_a_lesson_the_reply_names_it_and_its_outcome_counts() {
    let (server, id) = start_remembering();
    let reply = server.post(CHAT, &refund());
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.header("x-memory-ids"), Some(format!("{id}@1").as_str()));
    assert_eq!(reply.header("x-memory-release").map(str::len), Some(12));
    let steps = server.steps();
    let system = steps[0].prompt[0].text();
    assert!(system.starts_with("You are the desk.\n\n<memory release=\""), "{system}");
    assert!(system.contains("prefer calling `refunds.quote` first."));
    assert_eq!(steps[0].prompt.len(), 2);

    let response = reply.json()["id"].clone();
    let feedback = json!({"response_id": response, "signal": "accept"});
    let noted = server.post("/v1/feedback", &feedback);
    assert!(noted.status < 300, "{}", noted.text);
    server.eventually("the outcome", |server| {
        (server.lesson(&id).counters.success_with - 1.0).abs() < 0.01
    });
    let status = server.get("/v1/memory/status").json();
    assert_eq!(
        (&status["lessons"], &status["shown"], &status["failed"]),
        (&json!(1), &json!(1), &json!(0))
    );
}

/// Teaches what to do about one failure of a tool, beside what `teach` does.
fn teach_recovery(directory: &Path) -> MemoryId {
    let deployment = Deployment::parse(FILE).unwrap();
    let root = MemoryRoot::open(directory, deployment.settings.clone()).unwrap();
    let store = root.deployment(&deployment.tenant).unwrap();
    let written = Written {
        agent: Some("desk"),
        tools: &["refunds.create"],
        target: Some("shop.example"),
        error: Some(ErrorSignature::of("ledger is closed", None, store.key())),
        situation: "When `refunds.create` fails",
        strategy: "prefer calling `refunds.create` again later.",
        prefer: &["refunds.create"],
        tactic: Some(Tactic::RetryVariation),
        ..Written::default()
    };
    let now = SystemClock.now();
    let item = DeploymentItem::written(&written, &deployment.catalogue, store.key(), now).unwrap();
    let id = item.id.clone();
    store.propose(item, &HashingEmbedder, &by()).unwrap();
    store.validate(&id, &by()).unwrap();
    let releases = root.releases(&deployment.tenant);
    store.release(&releases, "hashing@1", &Choice::default(), &by()).unwrap();
    id
}

/// Every cell of the matrix, through the socket: the lesson is about `shop.example` and a closed
/// ledger.
#[test]
fn a_heal_query_is_answered_by_its_cell_and_never_with_what_was_tried() {
    let mut taught = None;
    let server = start_and(Settings::default(), |gateway, directory, journal| {
        let place = directory.join("memory");
        taught = Some(teach_recovery(&place));
        remember(gateway, &place, journal);
    });
    let id = taught.unwrap();
    let ask = |site: &str, message: &str, tried: Value| {
        let failure = json!({"agent": "desk", "target": {"kind": "site", "key": site},
            "action": {"tool": "refunds.create", "arg_keys": ["order_id"]},
            "error": {"message": message}, "tried": tried});
        server.post("/v1/memory/heal", &failure).json()
    };
    let (here, there) = ("https://www.shop.example/x", "https://other.example");
    for (site, message, tier, mode) in [
        (here, "ledger is closed", "high", "copy_solution"),
        (here, "no quotation", "medium", "extract_pattern"),
        (there, "ledger is closed", "low", "general_approach"),
    ] {
        let healed = ask(site, message, json!([]));
        let first = &healed["candidates"][0];
        assert_eq!(
            (&healed["tier"], &first["mode"], &first["id"], &healed["escalate"]),
            (&json!(tier), &json!(mode), &json!(id), &json!(false)),
            "{healed}"
        );
        assert_eq!(
            (&first["tactic"], &first["tool"]),
            (&json!("retry_variation"), &json!("refunds.create"))
        );
        // What it tried already is not offered again.
        let tried = json!([{"tactic": "retry_variation", "tool": "refunds.create"}]);
        let again = ask(site, message, tried);
        assert_eq!((&again["candidates"], &again["escalate"]), (&json!([]), &json!(true)));
    }
    let stranger = ask(there, "no quotation", json!([]));
    assert_eq!(
        (&stranger["tier"], &stranger["candidates"], &stranger["escalate"]),
        (&json!("none"), &json!([]), &json!(true))
    );
}

#[test]
fn a_chat_that_ends_with_a_failure_is_shown_what_is_known_of_it() {
    let mut taught = None;
    let server = start_and(Settings::default(), |gateway, directory, journal| {
        let place = directory.join("memory");
        teach(&place);
        taught = Some(teach_recovery(&place));
        remember(gateway, &place, journal);
    });
    server.route("desk", Target::Base);
    let recovery = taught.unwrap();
    let after = |result: &str| {
        let mut body = refund();
        body["messages"][1]["content"] = json!("my cat wants what it wants");
        let call = json!({"id": "c1", "type": "function",
            "function": {"name": "refunds.create", "arguments": "{}"}});
        let messages = body["messages"].as_array_mut().unwrap();
        messages.push(json!({"role": "assistant", "content": "", "tool_calls": [call]}));
        messages.push(json!({"role": "tool", "tool_call_id": "c1", "content": result}));
        let reply = server.post(CHAT, &body);
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.header("x-memory-ids").unwrap_or_default().starts_with(recovery.as_str())
    };
    assert!(!after(r#"{"refunded": 3}"#), "nothing of it is about cats");
    assert!(after(r#"{"error": "ledger is closed"}"#));
    assert!(!after(r#"{"error": "a quotation was expected"}"#), "that is another failure");
}

#[test]
fn what_time_has_done_to_lessons_is_seen_when_a_server_starts() {
    let mut stale = None;
    let other = start_and(Settings::default(), |gateway, directory, journal| {
        let place = directory.join("memory");
        stale = Some(teach(&place));
        // Its tools have changed since it was learnt.
        let file = FILE.replace("access = \"read\"", "access = \"write\"");
        let deployment = Deployment::parse(&file).unwrap();
        let (clock, routes) = (Arc::new(SystemClock), Arc::default());
        let embedder = Arc::new(HashingEmbedder);
        let memories = Memories::open(&place, deployment, embedder, journal.clone(), clock, routes);
        gateway.remember_with(memories.unwrap()).unwrap();
    });
    let stale = stale.unwrap();
    other.eventually("the sweep", |server| server.lesson(&stale).status == Status::Suspended);
}

#[test]
fn chats_that_need_none_or_want_none_get_none() {
    let (server, id) = start_remembering();
    let other = server.post(CHAT, &chat("hello"));
    assert_eq!(other.header("x-memory-ids"), Some(""));
    let off = server.post_with(CHAT, &refund(), &[("x-memory", "off")]);
    assert_eq!(off.header("x-memory-ids"), Some(""));
    let mut fewer = refund();
    fewer["tools"].as_array_mut().unwrap().pop();
    assert_eq!(server.post(CHAT, &fewer).header("x-memory-ids"), Some(""));
    assert!(server.steps().iter().all(|step| !step.prompt[0].text().contains("<memory")));
    assert_eq!(server.lesson(&id).counters.injected, 0);
    // Without a memory, a server says so and chats are as they were.
    let plain = start();
    assert_eq!(plain.post(CHAT, &refund()).header("x-memory-ids"), None);
    assert_eq!(plain.post("/v1/memory/heal", &json!({})).status, 404);
}

#[test]
fn a_rollback_is_served_within_a_second() {
    let (server, _) = start_remembering();
    assert!(server.post(CHAT, &refund()).header("x-memory-ids").is_some_and(|ids| !ids.is_empty()));
    let deployment = Deployment::parse(FILE).unwrap();
    let root =
        MemoryRoot::open(&server.directory.path().join("memory"), deployment.settings).unwrap();
    root.deployment(&deployment.tenant).unwrap().withdraw(&by()).unwrap();
    let began = Instant::now();
    server.eventually("the rollback", |server| {
        let reply = server.post(CHAT, &refund());
        reply.status == 200 && reply.header("x-memory-ids").is_none()
    });
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn agents_ask_for_a_plan_and_for_help() {
    let (server, id) = start_remembering();
    let plan = json!({"goal": "give money back for an order", "agent": "desk",
        "tools": ["refunds.quote", "refunds.create"], "session": "s"});
    let answer = server.post("/v1/memory/plan", &plan).json();
    assert_eq!(
        (&answer["prefer_tools"], &answer["intent"]),
        (&json!(["refunds.quote"]), &json!("refund-order"))
    );
    let failure = json!({"agent": "desk", "goal": "",
        "target": {"kind": "site", "key": "https://shop.example/x"},
        "action": {"tool": "refunds.create"}, "error": {"message": "no quotation"}});
    let healed = server.post("/v1/memory/heal", &failure).json();
    assert_eq!(
        (&healed["tier"], &healed["candidates"][0]["tool"]),
        (&json!("medium"), &json!("refunds.quote"))
    );
    let noted = server.post(&format!("/v1/memory/heal/{id}/outcome"), &json!({"worked": true}));
    assert_eq!(noted.status, 200, "{}", noted.text);
    // It is counted as what it is, once, and says nothing of what showing the lesson does.
    let counters = server.lesson(&id).counters;
    assert!(counters.heal_worked > 0.9 && counters.success_with < 0.1, "{counters:?}");
    let again = server.post(&format!("/v1/memory/heal/{id}/outcome"), &json!({"worked": true}));
    assert_eq!(again.status, 409, "{}", again.text);
    for (path, body, status) in [
        ("/v1/memory/heal", with(failure, json!({"user": "grace"})), 400),
        ("/v1/memory/plan", with(plan, json!({"tenant": "other"})), 400),
        ("/v1/memory/heal/mem_none/outcome", json!({"worked": true}), 404),
        ("/v1/memory/heal/x/outcome", json!({"worked": true}), 400),
    ] {
        assert_eq!(server.post(path, &body).status, status, "{path}");
    }
}
