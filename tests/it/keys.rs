//! Keys from the command line to a running server and its end.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::cli::{text, understudy};

/// A server of the mock engine, killed at the end.
struct Served {
    process: Child,
    url: String,
}

impl Served {
    fn start(home: &Path, arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_understudy"))
            .current_dir(home)
            .env_remove("UNDERSTUDY_DATA_DIR")
            .args(["serve", "--mock-engine", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let url = line.split_whitespace().find(|word| word.starts_with("http")).unwrap();
        let url = url.trim_end_matches("/v1").to_owned();
        Self { process, url }
    }

    fn status(&self, key: &str) -> u16 {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let request = agent.get(format!("{}/v1/models", self.url));
        let request = match key {
            "" => request,
            key => request.header("authorization", format!("Bearer {key}")),
        };
        request.call().unwrap().status().as_u16()
    }

    /// How long until the server says so.
    fn until(&self, key: &str, status: u16) -> Duration {
        let begun = Instant::now();
        while self.status(key) != status {
            assert!(begun.elapsed() < Duration::from_secs(20), "never {status}");
            std::thread::sleep(Duration::from_millis(20));
        }
        begun.elapsed()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn json(home: &Path, arguments: &[&str]) -> Value {
    let output = understudy(home, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_key_opens_a_running_server_until_it_is_revoked() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let server = Served::start(home, &[]);
    assert_eq!(server.status(""), 200);
    let made = json(home, &["key", "create", "--owner", "ada", "--role", "application"]);
    let key = made["key"].as_str().unwrap();
    server.until("", 401);
    assert_eq!(server.status(key), 200);
    let listed = json(home, &["key", "list"]);
    assert_eq!((&listed[0]["id"], &listed[0]["state"]), (&made["id"], &"active".into()));
    assert!(!listed.to_string().contains(key.rsplit('_').next().unwrap()), "shown twice");
    let id = made["id"].as_str().unwrap();
    json(home, &["key", "revoke", id, "--owner", "grace", "--reason", "a test"]);
    assert!(server.until(key, 401) < Duration::from_secs(2));
    let audit = json(home, &["audit", "show"]).to_string();
    for word in ["key.create", "key.revoke", "grace", "a test", id] {
        assert!(audit.contains(word), "{word}: {audit}");
    }
    json(home, &["audit", "verify"]);
}

#[test]
fn nothing_is_served_beyond_this_machine_before_there_is_a_key() {
    let home = tempfile::tempdir().unwrap();
    let serve = ["serve", "--mock-engine", "--listen", "0.0.0.0:0"];
    let refused = understudy(home.path(), &serve);
    assert_eq!(refused.status.code(), Some(2));
    let said = text(&refused.stderr);
    assert!(said.contains("refusing to listen on 0.0.0.0:0 without any API key"), "{said}");
    assert!(said.contains("understudy key create"), "{said}");
}

#[test]
fn what_makes_no_key_says_why() {
    let home = tempfile::tempdir().unwrap();
    let create = |arguments: &[&str]| {
        let base = ["key", "create", "--owner", "ada"];
        let output = understudy(home.path(), &[&base, arguments].concat());
        (output.status.code(), text(&output.stderr))
    };
    for (arguments, why) in [
        (&["--role", "king"][..], "application, engineer, release_manager"),
        (&["--scope", "everything"], "infer:TASK"),
        (&[], "at least one scope"),
        (&["--role", "admin", "--tenant", "acme"], "leave --tenant out"),
        (&["--scope", "metrics", "--tenant", "acme"], "beyond every tenant"),
        (&["--role", "admin", "--tenant", "Acme Inc."], "is not a tenant's name"),
        (&["--role", "admin", "--expires-in", "soon"], "write it as 90d"),
        (&["--role", "admin", "--expires-in", "0d"], "never have been valid"),
        (&["--role", "admin", "--concurrent", "0"], "revoke the key instead"),
    ] {
        let (code, said) = create(arguments);
        assert!(code == Some(2) && said.contains(why), "{arguments:?}: {code:?} {said}");
    }
    assert_eq!(json(home.path(), &["key", "list"]), serde_json::json!([]));
    let output = understudy(home.path(), &["key", "revoke", "ffffffffffff", "--reason", "none"]);
    assert!(
        output.status.code() == Some(2) && text(&output.stderr).contains("understudy key list")
    );
    // As soon as roles are given, who has none makes no keys.
    let grant = ["release", "grant", "grace", "release-manager", "--owner", "grace"];
    json(home.path(), &[&grant[..], &["--reason", "a test"]].concat());
    let refused = create(&["--role", "admin", "--by", "mallory"]);
    assert_eq!(refused.0, Some(1), "{}", refused.1);
    let listed = json(home.path(), &["key", "list"]);
    assert!(listed.as_array().unwrap().iter().all(|key| key["state"] == "revoked"), "{listed}");
}

#[test]
fn the_pepper_may_come_from_elsewhere() {
    let home = tempfile::tempdir().unwrap();
    let create = |pepper: &str| {
        Command::new(env!("CARGO_BIN_EXE_understudy"))
            .current_dir(home.path())
            .env_remove("UNDERSTUDY_DATA_DIR")
            .env("UNDERSTUDY_PEPPER", pepper)
            .args(["key", "create", "--owner", "ada", "--role", "admin"])
            .output()
            .unwrap()
    };
    let ours = "0123456789abcdef".repeat(4);
    assert!(create(&ours).status.success());
    assert!(!home.path().join(".understudy/access.pepper").exists());
    let other = create(&ours.replace('0', "f"));
    assert!(text(&other.stderr).contains("not the pepper"), "{}", text(&other.stderr));
    let none = understudy(home.path(), &["key", "list"]);
    assert!(text(&none.stderr).contains("the pepper that keys are hashed with is gone"));
    assert!(text(&create("short").stderr).contains("64 hexadecimal characters"));
}

#[test]
fn the_same_rows_of_two_tenants_make_two_datasets() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let rows = |owner: &str| -> String {
        let row = |n| format!("{{\"q\":\"question {n} on {}\",\"a\":\"answer {n}\"}}\n", n % 7);
        let own = format!("{{\"q\":\"the plans of {owner}\",\"a\":\"secret\"}}\n");
        (0..30).map(row).collect::<String>() + &own
    };
    for owner in ["acme", "bolt"] {
        let task = format!("{owner}.quiz");
        std::fs::write(home.join("rows.jsonl"), rows(owner)).unwrap();
        let import = ["import", "rows.jsonl", "--task", &task, "--format", "rows"];
        let fields = ["--input", "q", "--output", "a"];
        let imported = json(home, &[&import[..], &fields].concat());
        assert_eq!((&imported["added"], &imported["duplicates"]), (&62.into(), &0.into()));
        let recipe = format!(
            "schema = 1\ntask = \"{task}\"\nbase = \"smollm2-135m-instruct\"\n[data]\n\
             min_verified = 5\n[[train]]\nmethod = \"sft\"\n"
        );
        std::fs::write(home.join(format!("{owner}.toml")), recipe).unwrap();
    }
    for (owner, other) in [("acme", "bolt"), ("bolt", "acme")] {
        json(home, &["dataset", "build", &format!("{owner}.toml")]);
        let directory = home.join(format!(".understudy/datasets/{owner}.quiz"));
        let version = std::fs::read_dir(directory).unwrap().next().unwrap().unwrap().path();
        let files = std::fs::read_dir(version).unwrap().map(|file| file.unwrap().path());
        let texts = files.filter(|file| file.is_file());
        let all: String = texts.map(|file| std::fs::read_to_string(file).unwrap()).collect();
        assert!(all.contains("question 3 on 3"), "{all:.300}");
        assert!(!all.contains(&format!("plans of {other}")), "{owner}");
    }
}
