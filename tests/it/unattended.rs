//! The loop by itself over real processes, killed as no program may defend itself against; and
//! replicas that follow a server, until it takes a version back or falls silent.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use understudy_canary::{Rules, fresh_salt};
use understudy_ident::{Digest, SystemClock, TaskName, Timestamp};
use understudy_manifest::{AdapterManifest, Release};
use understudy_orchestrator::{Fact, RunStore};
use understudy_registry::{Change, Override, Registry, RollbackTarget, StartRelease, Target};
use understudy_trajectory::RewardPolicy;

const PATIENCE: Duration = Duration::from_mins(4);

struct Served {
    child: Child,
    url: String,
    said: Arc<Mutex<Vec<String>>>,
}

/// A server of this directory, once it answers; `None` when it ended before.
fn serve(home: &Path, arguments: &[&str]) -> Option<Served> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_understudy"))
        .current_dir(home)
        .env_remove("UNDERSTUDY_DATA_DIR")
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let url = lines.find_map(|line| {
        let (_, url) = line.strip_prefix("serving ")?.split_once(" at ")?;
        Some(url.trim_end_matches("/v1").to_owned())
    });
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&said);
    thread::spawn(move || lines.for_each(|line| heard.lock().unwrap().push(line)));
    let Some(url) = url else {
        child.wait().unwrap();
        return None;
    };
    Some(Served { child, url, said })
}

impl Served {
    fn ask(&self, task: &str, session: &str) -> Option<(String, String)> {
        let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10)));
        let agent: ureq::Agent = config.build().into();
        let body = json!({
            "model": task,
            "messages": [{"role": "user", "content": "hello"}],
            "max_tokens": 4,
        });
        let url = format!("{}/v1/chat/completions", self.url);
        let mut response =
            agent.post(&url).header("x-session-id", session).send_json(&body).ok()?;
        let adapter = response.headers().get("x-understudy-adapter").cloned();
        let adapter = adapter.and_then(|value| value.to_str().ok().map(str::to_owned));
        let reply: Value = response.body_mut().read_json().ok()?;
        let version = adapter.unwrap_or_default().split(' ').next().unwrap_or_default().to_owned();
        Some((reply["id"].as_str()?.to_owned(), version))
    }

    fn accept(&self, reply: &str) -> Option<()> {
        let body = json!({"id": format!("out_{reply}"), "response_id": reply, "signal": "accept"});
        ureq::post(format!("{}/v1/feedback", self.url)).send_json(&body).ok().map(drop)
    }

    fn get(&self, path: &str) -> Option<Value> {
        let mut response = ureq::get(format!("{}{path}", self.url)).call().ok()?;
        response.body_mut().read_json().ok()
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn understudy(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_understudy"))
        .current_dir(home)
        .env_remove("UNDERSTUDY_DATA_DIR")
        .env("USER", "ada")
        .args(arguments)
        .output()
        .unwrap()
}

fn ok(home: &Path, arguments: &[&str]) -> String {
    let output = understudy(home, arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Rows to learn from, a suite that a random model ties on, and a recipe with a loop.
fn quiz(settings: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let rows = |name: &str, from: usize, to: usize| {
        let row = |n| format!(r#"{{"q":"{name} question {n}","a":"answer {n}"}}"#);
        let rows: Vec<String> = (from..to).map(row).collect();
        fs::write(home.path().join(format!("{name}.jsonl")), rows.join("\n")).unwrap();
    };
    rows("train", 0, 16);
    rows("test", 100, 112);
    let base = base().display().to_string();
    let recipe = format!(
        "schema = 1\ntask = \"quiz\"\nbase = \"{base}\"\nprecision = \"f32\"\n\
         [data]\nmin_verified = 8\n[lora]\nrank = 4\n\
         [[train]]\nmethod = \"sft\"\nepochs = 30\n\
         [gate]\nsuite = \"quiz\"\nverdict = \"non_inferior\"\nmargin = 0.9\nmax_new_tokens = 4\n\
         [release]\nsteps = [50, 100]\nmin_outcomes_per_step = 8\nmargin = 0.5\ntap = 0.0\n\
         latency_slo_ms = 60000\n[loop]\nmin_interval = \"0s\"\n{settings}\n"
    );
    fs::write(home.path().join("quiz.toml"), recipe).unwrap();
    let columns = ["--format", "rows", "--input", "q", "--output", "a", "--task", "quiz"];
    ok(home.path(), &[&["import", "train.jsonl"][..], &columns].concat());
    ok(
        home.path(),
        &[
            "suite",
            "import",
            "test.jsonl",
            "--name",
            "quiz",
            "--input",
            "q",
            "--output",
            "a",
            "--scorer",
            "exact",
        ],
    );
    home
}

fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/model/llama")
}

fn runs(home: &Path) -> RunStore {
    RunStore::open(&home.join(".understudy/runs.db"), Box::new(SystemClock)).unwrap()
}

/// Trainers of this directory that are alive.
fn trainers(home: &Path) -> usize {
    let home = home.display().to_string();
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains("train-worker") && line.contains(&home))
        .count()
}

#[test]
fn a_loop_that_is_killed_again_and_again_makes_one_turn_of_it() {
    let home = quiz("min_new = 16\nmin_new_when_falling = 8\nmax_turns = 1");
    let base = base().display().to_string();
    let arguments = ["--base", &base, "--precision", "f32", "--loop", "quiz.toml"];
    let task: TaskName = "quiz".parse().unwrap();
    let begun = Instant::now();
    // Prime milliseconds, so that the kills fall into different steps.
    let mut lives = [211_u64, 499, 743, 1103, 1511, 1999, 2503].into_iter();
    let mut kills = 0;
    let ending = loop {
        assert!(begun.elapsed() < PATIENCE, "the turn does not end");
        let Some(server) = serve(home.path(), &arguments) else { panic!("it does not start") };
        let life = lives.next().map_or(PATIENCE, Duration::from_millis);
        let born = Instant::now();
        let mut nth = 0;
        while born.elapsed() < life && begun.elapsed() < PATIENCE {
            // Users come and go; those whose server dies come back another time.
            if let Some((reply, _)) = server.ask("quiz", &format!("s{kills}-{nth}")) {
                server.accept(&reply);
            }
            nth += 1;
            let turns = runs(home.path()).turns(&task).unwrap();
            if turns.first().is_some_and(|turn| turn.ending.is_some()) {
                break;
            }
        }
        let turns = runs(home.path()).turns(&task).unwrap();
        if let Some(ending) = turns.first().and_then(|turn| turn.ending.clone()) {
            // What it says of itself follows what it has done.
            eventually("the end of the turn in its status", || {
                let status = server.get("/api/v1/loop/quiz").unwrap_or_default();
                status["last_turn"]["promoted"] == true && status["state"] == "stopped"
            });
            break ending;
        }
        drop(server);
        kills += 1;
        thread::sleep(Duration::from_millis(300));
        assert_eq!(trainers(home.path()), 0, "a trainer outlived its server");
    };
    assert!(kills >= 3, "only {kills} kills");
    assert_eq!(ending, "quiz@1 is promoted");
    // One of everything, whatever was interrupted.
    let store = runs(home.path());
    let turns = store.turns(&task).unwrap();
    assert_eq!(turns.len(), 1);
    let facts = store.facts(&turns[0].id).unwrap();
    let count = |is: fn(&Fact) -> bool| facts.iter().filter(|fact| is(fact)).count();
    assert_eq!(count(|fact| matches!(fact, Fact::StageTrained(_))), 1);
    assert_eq!(count(|fact| matches!(fact, Fact::StepFailed { .. })), 0, "{facts:?}");
    let data = home.path().join(".understudy");
    let registry = Registry::open(&data.join("registry.db"), &data.join("adapters")).unwrap();
    assert_eq!(registry.versions(&task).unwrap().len(), 1);
    assert_eq!(registry.releases(&task).unwrap().len(), 1);
    registry.verify_audit(None).unwrap();
    let log = ok(home.path(), &["loop", "log", "quiz"]);
    assert_eq!(log.matches("turn 1 of quiz is over: quiz@1 is promoted").count(), 1, "{log}");
    // A kill can fall between the fact and its sentence.
    assert!(log.matches("turn 1 of quiz begins, because 16 steps").count() <= 1, "{log}");
    let status: Value =
        serde_json::from_str(&ok(home.path(), &["loop", "status", "--json"])).unwrap();
    assert_eq!(status[0]["status"]["last_turn"]["promoted"], true, "{status}");
}

#[test]
fn a_person_is_asked_before_a_step_and_their_word_is_kept() {
    let home = quiz("min_new = 16\nmin_new_when_falling = 8\napprove = [\"train\"]");
    let base = base().display().to_string();
    let arguments = ["--base", &base, "--precision", "f32", "--loop", "quiz.toml"];
    let server = serve(home.path(), &arguments).unwrap();
    let until = |state: &str| {
        let begun = Instant::now();
        loop {
            let status = server.get("/api/v1/loop/quiz").unwrap_or_default();
            if status["state"] == state {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "not {state}: {status}");
            thread::sleep(Duration::from_millis(100));
        }
    };
    let held = until("held");
    assert_eq!(held["step_hold"]["step"], "train", "{held}");
    let text = ok(home.path(), &["loop", "status"]);
    assert!(text.contains("training stage 1 waits for a person"), "{text}");
    assert!(!home.path().join(".understudy/runs").exists(), "it has trained");
    // Without a reason nobody says anything.
    let empty = understudy(home.path(), &["loop", "approve", "quiz", "--reason", " "]);
    assert_eq!(empty.status.code(), Some(2));
    ok(home.path(), &["loop", "decline", "quiz", "--reason", "not today"]);
    let waiting = until("waiting");
    assert!(waiting["last_turn"]["ending"].as_str().unwrap().contains("ada: not today"));
    assert_eq!(waiting["holds"][0]["missing"], 16, "{waiting}");
    ok(home.path(), &["loop", "pause", "quiz", "--reason", "holidays"]);
    assert!(until("stopped")["sentence"].as_str().unwrap().contains("ada paused it: holidays"));
    let over = understudy(home.path(), &["loop", "approve", "quiz", "--reason", "go"]);
    assert_eq!(over.status.code(), Some(2));
    assert!(
        server.said.lock().unwrap().iter().any(|line| line.contains("ada declines: not today"))
    );
}

#[test]
fn a_loop_that_cannot_run_says_so_before_it_serves() {
    let home = quiz("");
    let base = base().display().to_string();
    let complaint = |arguments: &[&str]| {
        let all = [&["serve", "--listen", "127.0.0.1:0"], arguments].concat();
        let output = understudy(home.path(), &all);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let text = fs::read_to_string(home.path().join("quiz.toml")).unwrap();
    fs::write(home.path().join("calm.toml"), text.replace("[loop]\nmin_interval = \"0s\"", ""))
        .unwrap();
    fs::write(home.path().join("other.toml"), text.replace("suite = \"quiz\"", "suite = \"x\""))
        .unwrap();
    let with = |recipe| complaint(&["--base", &base, "--precision", "f32", "--loop", recipe]);
    assert!(with("calm.toml").contains("no [loop] table"));
    assert!(with("other.toml").contains("cannot run unattended"));
    assert!(complaint(&["--mock-engine", "--loop", "quiz.toml"]).contains("serves mock"));
    assert!(complaint(&["--role", "replica"]).contains("--control"));
}

/// A control server with `quiz@1` promoted and `quiz@2` before half of the users.
fn released(home: &Path) {
    let data = home.join(".understudy");
    fs::create_dir_all(&data).unwrap();
    let registry = Registry::open(&data.join("registry.db"), &data.join("adapters")).unwrap();
    let change = Change::new("ada", "for the test", &SystemClock);
    let task: TaskName = "quiz".parse().unwrap();
    for note in ["one", "two"] {
        let directory = home.join(note);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("adapter_config.json"), "{}").unwrap();
        let header = json!({"__metadata__": {"note": note}}).to_string();
        let weights = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
        fs::write(directory.join("adapter_model.safetensors"), weights).unwrap();
        let lineage: AdapterManifest = serde_json::from_value(json!({
            "schema": 1, "task": "quiz", "base": "mock", "base_digest": "b",
            "tokenizer_digest": "t", "template_digest": "c", "recipe_digest": Digest::of(b"r"),
            "dataset": {
                "version": format!("quiz@{}", Digest::of(b"d")), "sft_rows": 1, "pair_rows": 0
            },
            "parent": null, "stages": [], "code_version": "0", "device": "cpu", "threads": 1,
            "run": null
        }))
        .unwrap();
        let adapter = registry.register(&task, &directory, &lineage, change).unwrap().record;
        let target = registry.stable(&task).unwrap().unwrap_or(Target::Base);
        let loaded = target
            .adapter()
            .map(|version| registry.get(version).unwrap().record.generation.to_hex());
        let rules = Release {
            steps: vec![50, 100],
            min_outcomes_per_step: 100_000,
            max_outcomes: 1_000_000,
            tap: 0.0,
            ..Release::default()
        };
        let start = StartRelease {
            candidate: adapter.version,
            rollback: RollbackTarget {
                target,
                loaded_generation: loaded,
                verified_by: "a test".into(),
            },
            policy: Rules::of(&rules, RewardPolicy::DefaultV1).unwrap().to_value(),
            salt: fresh_salt().to_string(),
            forced: Some(Override {
                owner: "ada".into(),
                reason: "no gate in this test of rollbacks".into(),
            }),
        };
        let release = registry.start_release(start, change).unwrap();
        if note == "one" {
            let generation = adapter.generation.to_hex();
            registry.staged(&release.id, &generation, change).unwrap();
            let revision = registry.release(&release.id).unwrap().revision;
            registry.promote(&release.id, revision, change).unwrap();
        }
    }
}

/// Who answers some sessions of a server.
fn met(server: &Served, prefix: &str) -> Vec<String> {
    (0..12).filter_map(|n| server.ask("quiz", &format!("{prefix}-{n}"))).map(|(_, v)| v).collect()
}

/// When the last request was sent that a version answered, on whichever server, until none has for
/// some seconds.
fn last_met(servers: &[Served], version: &str) -> Timestamp {
    let (mut last, begun) = (None, Instant::now());
    let mut quiet = Instant::now();
    for nth in 0.. {
        assert!(begun.elapsed() < PATIENCE, "{version} goes on serving");
        if last.is_some() && quiet.elapsed() > Duration::from_secs(3) {
            break;
        }
        let server: &Served = &servers[nth % servers.len()];
        let sent = Timestamp::now();
        let met = server.ask("quiz", &format!("last-{nth}"));
        if met.is_some_and(|(_, met)| met == version) {
            (last, quiet) = (Some(sent), Instant::now());
        }
    }
    last.unwrap()
}

/// When something was decided, by the audit chain.
fn decided(home: &tempfile::TempDir, action: &str) -> Timestamp {
    let data = home.path().join(".understudy");
    let registry = Registry::open(&data.join("registry.db"), &data.join("adapters")).unwrap();
    let audit = registry.audit(None).unwrap();
    audit.iter().rev().find(|entry| entry.action == action).unwrap().at
}

fn eventually(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not happen");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn sixteen_replicas_take_a_version_back_and_a_silent_server_leaves_champions_alone() {
    let home = tempfile::tempdir().unwrap();
    released(home.path());
    let control = serve(home.path(), &["--mock-engine"]).unwrap();
    let homes: Vec<tempfile::TempDir> = (0..16).map(|_| tempfile::tempdir().unwrap()).collect();
    let follow = ["--mock-engine", "--role", "replica", "--control", &control.url];
    let replicas: Vec<Served> =
        homes.iter().map(|home| serve(home.path(), &follow).unwrap()).collect();
    let nodes = || control.get("/api/v1/watch/nodes").unwrap();
    let acknowledged = || nodes()["acknowledged"] == 16;
    eventually("an acknowledgement of all", acknowledged);
    for (n, replica) in replicas.iter().enumerate() {
        let met = met(replica, &format!("before-{n}"));
        assert!(met.iter().all(|version| version == "quiz@1" || version == "quiz@2"), "{met:?}");
    }
    let all: Vec<String> = replicas.iter().flat_map(|replica| met(replica, "before")).collect();
    assert!(all.iter().any(|version| version == "quiz@2"), "the canary met nobody");

    // The server falls silent: not gone, which a connection would notice, only still.
    control.signal("-STOP");
    let silent = Instant::now();
    eventually("the end of the lease", || {
        replicas.iter().all(|replica| {
            let said = replica.said.lock().unwrap();
            said.iter().any(|line| line.contains("for a whole lease: champions alone"))
        })
    });
    let silent = silent.elapsed();
    println!("champions alone {} ms after the server fell silent", silent.as_millis());
    // Five seconds, counted from when each last asked, and as long again for a busy machine.
    assert!(silent < Duration::from_secs(10), "the lease is 5 s and took {silent:?}");
    for replica in &replicas {
        assert!(met(replica, "silent").iter().all(|version| version == "quiz@1"));
    }
    control.signal("-CONT");
    eventually("the canary's return", || met(&replicas[3], "again").iter().any(|v| v == "quiz@2"));
    eventually("an acknowledgement of all", acknowledged);

    let data = home.path().join(".understudy").display().to_string();
    let before = nodes()["sequence"].as_u64().unwrap();
    let bad = thread::scope(|scope| {
        let asking = scope.spawn(|| last_met(&replicas, "quiz@2"));
        thread::sleep(Duration::from_millis(500));
        ok(home.path(), &["release", "rollback", "quiz", "--reason", "wrong", "--data-dir", &data]);
        asking.join().unwrap()
    });
    let late = bad.as_millisecond() - decided(&home, "release.roll_back").as_millisecond();
    println!("the last new request met the version {late} ms after it was taken back");
    assert!(late < 1_000, "a new request met the version {late} ms after it was taken back");
    // What came before was acknowledged by all as well, until the server has noticed.
    eventually("another table", || nodes()["sequence"].as_u64().unwrap() > before);
    eventually("an acknowledgement of all", acknowledged);
    for (n, replica) in replicas.iter().enumerate() {
        let met = met(replica, &format!("after-{n}"));
        assert_eq!(met.len(), 12);
        assert!(met.iter().all(|version| version == "quiz@1"), "{met:?}");
    }

    // What the replicas served is where canaries are judged.
    let asked = 12 * 16 * 4;
    eventually("the forwarding of every step", || {
        control.get("/api/v1/journal").unwrap()["steps"].as_u64().unwrap() >= asked
    });

    // A replica that starts while the server is gone serves what it last was told, without canary.
    drop(control);
    drop(replicas);
    let gone = ["--mock-engine", "--role", "replica", "--control", "http://127.0.0.1:9"];
    let alone = serve(homes[0].path(), &gone).unwrap();
    assert!(met(&alone, "alone").iter().all(|version| version == "quiz@1"));
    let fresh = tempfile::tempdir().unwrap();
    assert!(serve(fresh.path(), &gone).is_none(), "a replica that never had a table served");
}
