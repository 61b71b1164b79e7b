//! A server over a data directory, and what clients send it.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};

use super::home::Home;

/// A server with its log at its most talkative, killed at the end.
pub(super) struct Served {
    process: Child,
    url: String,
    pub(super) log: Arc<Mutex<Vec<u8>>>,
}

impl Served {
    pub(super) fn start(home: &Home) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_understudy"))
            .current_dir(home.path())
            .env_remove("UNDERSTUDY_DATA_DIR")
            .env("UNDERSTUDY_LOG", "understudy_memory=trace,understudy_gateway=trace,info")
            .args(["serve", "--mock-engine", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut out = BufReader::new(process.stdout.take().unwrap());
        // What was routed before is told first.
        let url = loop {
            let mut line = String::new();
            assert!(out.read_line(&mut line).unwrap() > 0, "the server ended");
            log.lock().unwrap().extend_from_slice(line.as_bytes());
            let url = line.split_whitespace().find(|word| word.starts_with("http"));
            if let Some(url) = url {
                break url.trim_end_matches("/v1").to_owned();
            }
        };
        follow(out, &log);
        follow(process.stderr.take().unwrap(), &log);
        Self { process, url, log }
    }

    pub(super) fn get(&self, path: &str) -> String {
        let mut response = ureq::get(format!("{}{path}", self.url)).call().unwrap();
        response.body_mut().read_to_string().unwrap()
    }

    /// The reply's headers, each on a line, and its body.
    pub(super) fn post(&self, path: &str, body: &Value) -> (String, String) {
        let mut response = ureq::post(format!("{}{path}", self.url)).send_json(body).unwrap();
        let headers = response.headers().iter();
        let headers = headers.map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()));
        (headers.collect(), response.body_mut().read_to_string().unwrap())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

pub(super) fn follow(mut from: impl std::io::Read + Send + 'static, log: &Arc<Mutex<Vec<u8>>>) {
    let log = Arc::clone(log);
    thread::spawn(move || {
        let mut some = [0; 4096];
        while let Ok(n @ 1..) = from.by_ref().read(&mut some) {
            log.lock().unwrap().extend_from_slice(&some[..n]);
        }
    });
}

pub(super) const TOOLS: [&str; 4] =
    ["orders.find", "refunds.quote", "refunds.create", "shipments.history"];

pub(super) fn chat(goal: &str) -> Value {
    let tool = |name: &&str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}});
    let tools: Vec<Value> = TOOLS.iter().map(tool).collect();
    json!({"model": "desk", "tools": tools, "user": "u1", "max_tokens": 8,
        "messages": [{"role": "user", "content": goal}]})
}

/// A failure that the runs ran into, with other values in it.
pub(super) fn late_carrier(order: &str) -> Value {
    let message =
        format!("carrier did not answer for \"{order}\" within 30000 ms for \"{order}\" (504)");
    json!({"agent": "desk", "target": {"kind": "app", "key": "desk"},
        "action": {"tool": "shipments.track"}, "error": {"message": message}})
}
