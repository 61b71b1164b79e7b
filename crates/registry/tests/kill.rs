//! `kill -9` in the middle of registering: the process under test is this test, started again.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a helper of a test may fail like the test")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::json;
use understudy_ident::{Digest, SystemClock, TaskName};
use understudy_manifest::AdapterManifest;
use understudy_registry::{Change, Registry};

const ROLE: &str = "UNDERSTUDY_TEST_REGISTRAR_DIR";
/// Rounds of start, kill, look; each is killed a little later than the one before.
const ROUNDS: u32 = 6;

#[test]
fn every_visible_version_is_whole_after_a_kill() {
    if let Some(dir) = std::env::var_os(ROLE) {
        register_until_killed(Path::new(&dir));
    }
    let home = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let (mut child, mut lines) = start(home.path());
        acknowledged = lines.next().unwrap();
        thread::sleep(Duration::from_millis(u64::from(7 * round)));
        child.kill().unwrap();
        child.wait().unwrap();
        // What the child managed to say before it died was acknowledged too.
        acknowledged = lines.last().unwrap_or(acknowledged);
        check(home.path(), acknowledged);
    }
    assert!(acknowledged >= ROUNDS, "the registrar made progress");
}

fn start(dir: &Path) -> (Child, impl Iterator<Item = u32> + use<>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "every_visible_version_is_whole_after_a_kill", "--nocapture"])
        .env(ROLE, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    // The test harness prints lines of its own first, which are not numbers.
    let lines = output.lines().map_while(Result::ok).filter_map(|line| line.parse().ok());
    (child, lines)
}

fn register_until_killed(dir: &Path) -> ! {
    let registry = open(dir);
    let next = registry.versions(&task()).unwrap().len() as u32 + 1;
    let source = dir.join("run");
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("adapter_config.json"), "{}").unwrap();
    let mut stdout = std::io::stdout();
    for n in next.. {
        fs::write(source.join("adapter_model.safetensors"), weights(n)).unwrap();
        let change = Change::new("test", "to be killed", &SystemClock);
        let adapter = registry.register(&task(), &source, &lineage(), change).unwrap();
        assert_eq!(adapter.record.version.number.get(), n);
        writeln!(stdout, "{n}").and_then(|()| stdout.flush()).unwrap();
    }
    unreachable!("the parent kills this process")
}

fn check(dir: &Path, acknowledged: u32) {
    let registry = open(dir);
    let versions = registry.versions(&task()).unwrap();
    assert!(versions.len() as u32 >= acknowledged, "version {acknowledged} was acknowledged");
    for (n, adapter) in (1..).zip(&versions) {
        assert_eq!(adapter.record.version.number.get(), n);
        let directory = registry.verify(&adapter.record.version).unwrap();
        assert!(directory.join(AdapterManifest::FILE).is_file());
    }
    let head = registry.verify_audit(None).unwrap();
    assert_eq!(head.entries as usize, versions.len());
}

fn open(dir: &Path) -> Registry {
    Registry::open(&dir.join("registry.db"), &dir.join("adapters")).unwrap()
}

fn task() -> TaskName {
    "support-triage".parse().unwrap()
}

/// Large enough that a kill may hit the copy.
fn weights(n: u32) -> Vec<u8> {
    format!("{n} ").repeat(400_000).into_bytes()
}

fn lineage() -> AdapterManifest {
    serde_json::from_value(json!({
        "schema": 1, "task": "support-triage", "base": "tiny", "base_digest": "b",
        "tokenizer_digest": "t", "template_digest": "c", "recipe_digest": Digest::of(b"recipe"),
        "dataset": {
            "version": format!("support-triage@{}", Digest::of(b"data")),
            "sft_rows": 1, "pair_rows": 0
        },
        "parent": null, "stages": [], "code_version": "0.0.0", "device": "cpu", "threads": 1,
        "run": null
    }))
    .unwrap()
}
