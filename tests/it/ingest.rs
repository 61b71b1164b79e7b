//! Telemetry and a server that is killed, or whose disk takes no more: what was acknowledged is
//! there, once.
#![cfg(unix)]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use understudy_journal::{Config, Journal};

const ROUNDS: u64 = 20;
const CLIENTS: usize = 4;

struct Served {
    child: Child,
    url: String,
}

impl Served {
    /// `understudy serve`, started by a shell that may say something before.
    fn start(data: &Path, before: &str) -> Self {
        let script = format!("{before} exec \"$0\" serve --mock-engine --listen 127.0.0.1:0");
        let mut child = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_understudy")])
            .current_dir(data)
            .env("UNDERSTUDY_DATA_DIR", data)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let url = lines.by_ref().inspect(|line| said.push(line.clone())).find_map(|line| {
            let (_, url) = line.split_once("http://")?;
            Some(format!("http://{}", url.trim_end_matches("/v1")))
        });
        std::thread::spawn(move || lines.for_each(drop));
        assert!(url.is_some(), "it never served: {said:?}");
        Self { child, url: url.unwrap_or_default() }
    }

    /// Room for files, in the process as it runs.
    #[cfg(target_os = "linux")]
    fn lift_limit(&self) {
        use rustix::process::{Pid, Resource, Rlimit, prlimit};
        let unlimited = Rlimit { current: None, maximum: None };
        prlimit(Pid::from_child(&self.child).into(), Resource::Fsize, unlimited).unwrap();
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn steps(&self) -> u64 {
        let text = ureq::get(format!("{}/api/v1/journal", self.url)).call().unwrap();
        let counts: Value = text.into_body().read_json().unwrap();
        counts["steps"].as_u64().unwrap()
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    config.timeout_global(Some(Duration::from_secs(20))).build().into()
}

/// The export of one call, which nothing else resembles.
fn export(n: u32, padding: usize) -> String {
    let message = |role: &str, text: String| {
        json!([{"role": role, "parts": [{"type": "text", "content": text}]}]).to_string()
    };
    // Nothing that compresses well.
    let noise: String = (0..padding as u64)
        .map(|m| (u64::from(n) << 32 | m).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40)
        .flat_map(|number| format!("{number:06x}").into_bytes())
        .map(char::from)
        .collect();
    let attributes: Vec<Value> = [
        ("gen_ai.operation.name", "chat".to_owned()),
        ("gen_ai.input.messages", message("user", format!("question {n} {noise}"))),
        ("gen_ai.output.messages", message("assistant", format!("answer {n}"))),
    ]
    .into_iter()
    .map(|(key, text)| json!({"key": key, "value": {"stringValue": text}}))
    .collect();
    let span = json!({
        "traceId": format!("{n:032x}"), "spanId": format!("{n:016x}"), "name": "chat",
        "startTimeUnixNano": "1000", "endTimeUnixNano": "2000", "attributes": attributes,
    });
    json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).to_string()
}

/// Sends until the server is gone; answers which exports it acknowledged.
fn send_until_dead(url: &str, next: &AtomicU32, acknowledged: &Mutex<BTreeSet<u32>>) {
    let agent = agent();
    loop {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let request = agent.post(format!("{url}/v1/traces"));
        match request.header("content-type", "application/json").send(export(n, 4)) {
            Ok(response) => {
                assert_eq!(response.status(), 200);
                acknowledged.lock().unwrap().insert(n);
            }
            Err(_) => return,
        }
    }
}

/// The trace ids in the journal, each with the number of bodies that have it.
fn stored(data: &Path) -> BTreeMap<String, usize> {
    let journal = Journal::open(&data.join("journal.db"), Config::default()).unwrap();
    let mut found = BTreeMap::new();
    for stored in journal.bodies(0, usize::MAX >> 1).unwrap() {
        let body: Value = serde_json::from_slice(&stored.raw.unwrap().body).unwrap();
        let span = &body["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        *found.entry(span["traceId"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    found
}

#[test]
fn no_acknowledged_telemetry_is_lost_to_kill_nine_and_none_is_doubled() {
    let data = tempfile::tempdir().unwrap();
    let (next, acknowledged) = (AtomicU32::new(1), Mutex::new(BTreeSet::new()));
    for round in 0..ROUNDS {
        let served = Served::start(data.path(), "");
        let url = served.url.clone();
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| send_until_dead(&url, &next, &acknowledged));
            }
            // Long enough for some, and never at the same moment of its work.
            std::thread::sleep(Duration::from_millis(150 + 67 * round));
            served.kill();
        });
    }
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() > 10 * ROUNDS as usize, "only {}", acknowledged.len());

    // What was sent again after a lost answer is not doubled either.
    let served = Served::start(data.path(), "");
    let again = acknowledged.iter().copied().take(5);
    for n in again.chain([next.load(Ordering::Relaxed)]) {
        let request = agent().post(format!("{}/v1/traces", served.url));
        let response = request.header("content-type", "application/json").send(export(n, 4));
        assert_eq!(response.unwrap().status(), 200);
    }
    let found = {
        let deadline = Instant::now() + Duration::from_mins(2);
        loop {
            let (found, steps) = (stored(data.path()), served.steps());
            if steps == found.len() as u64 {
                break found;
            }
            assert!(Instant::now() < deadline, "{steps} steps of {} bodies", found.len());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    served.kill();
    for n in &acknowledged {
        assert!(found.contains_key(&format!("{n:032x}")), "{n} was acknowledged");
    }
    assert!(found.values().all(|&times| times == 1), "a body is there twice");
}

#[test]
#[cfg(target_os = "linux")]
fn a_disk_that_takes_no_more_refuses_clearly_and_loses_nothing() {
    let data = tempfile::tempdir().unwrap();
    // Makes the stores, which then need no more room of their own.
    Served::start(data.path(), "").kill();
    // No file may grow beyond this; without the trap the first attempt would end the process.
    let served = Served::start(data.path(), "trap '' XFSZ; ulimit -S -f 4096;");
    let agent = agent();
    let mut acknowledged = Vec::new();
    let refused = loop {
        let n = acknowledged.len() as u32 + 1;
        let request = agent.post(format!("{}/v1/traces", served.url));
        let sent = request.header("content-type", "application/json").send(export(n, 40_000));
        let mut response = sent.unwrap();
        if response.status() != 200 {
            let wait = response.headers().get("retry-after").is_some();
            break (
                response.status().as_u16(),
                wait,
                response.body_mut().read_to_string().unwrap(),
            );
        }
        acknowledged.push(n);
        assert!(n < 1000, "the limit does not hold");
    };
    assert_eq!((refused.0, refused.1), (503, true), "{}", refused.2);
    assert!(refused.2.contains("nothing of this was recorded"), "{}", refused.2);
    assert!(acknowledged.len() > 3, "{acknowledged:?}");
    let send = |served: &Served, n: u32| {
        let request = agent.post(format!("{}/v1/traces", served.url));
        let sent = request.header("content-type", "application/json").send(export(n, 40_000));
        sent.unwrap().status() == 200
    };
    // The same process goes on once there is room.
    served.lift_limit();
    let deadline = Instant::now() + Duration::from_mins(1);
    let after = acknowledged.len() as u32 + 1;
    while !send(&served, after) {
        assert!(Instant::now() < deadline, "there is room, and it takes nothing");
        std::thread::sleep(Duration::from_millis(50));
    }
    acknowledged.push(after);
    while served.steps() != acknowledged.len() as u64 {
        assert!(Instant::now() < deadline, "{} steps of {acknowledged:?}", served.steps());
        std::thread::sleep(Duration::from_millis(50));
    }
    served.kill();
    // And so does the next one.
    let served = Served::start(data.path(), "");
    assert!(send(&served, after + 1));
    acknowledged.push(after + 1);
    let found = stored(data.path());
    assert!(acknowledged.iter().all(|n| found.get(&format!("{n:032x}")) == Some(&1)));
    assert_eq!(found.len(), acknowledged.len(), "what was refused is not there");
    served.kill();
}

/// What an exporter meets where it was told nothing but a port: a server of HTTP/2.
#[test]
fn otlp_over_grpc_is_taken_at_the_address_that_is_told() {
    use std::io::{Read, Write};

    let data = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_understudy"))
        .args(["serve", "--mock-engine", "--listen", "127.0.0.1:0", "--grpc", "127.0.0.1:0"])
        .env("UNDERSTUDY_DATA_DIR", data.path())
        .current_dir(data.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address = lines
        .find_map(|line| Some(line.split_once("OTLP over gRPC at ")?.1.to_owned()))
        .expect("it says where");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The preface and empty settings of a client.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!(frame[3], 4, "the server tells its settings first");
    child.kill().unwrap();
    child.wait().unwrap();
    // An address that is taken is an error, and not a surprise later.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = Command::new(env!("CARGO_BIN_EXE_understudy"))
        .args(["serve", "--mock-engine", "--listen", "127.0.0.1:0", "--grpc", &address])
        .env("UNDERSTUDY_DATA_DIR", data.path())
        .current_dir(data.path())
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("OTLP over gRPC"));
}
