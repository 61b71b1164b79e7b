//! Releases, signatures and the audit chain on the command line, over a registry that the library
//! filled: nothing here needs a model.

use std::{fs, path::Path, process::Output};

use serde_json::{Value, json};
use understudy_ident::{AdapterVersion, Digest, SystemClock, TaskName};
use understudy_manifest::{AdapterManifest, EvalReport};
use understudy_registry::{
    Change, Registry, ReleaseRecord, RollbackTarget, StartRelease, Status, Target,
};

use crate::cli::{text, understudy};

/// Private keys of these tests only.
pub(crate) const P256: &str = "-----BEGIN EC PRIVATE KEY-----
MDECAQEEIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHoAoGCCqGSM49
AwEH
-----END EC PRIVATE KEY-----
";
pub(crate) const P256_PUBLIC: &str = include_str!("../golden/signature/ours.pub.pem");
const ED25519: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD
-----END PRIVATE KEY-----
";

pub(crate) struct Home(tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self::within(tempfile::tempdir().unwrap())
    }

    /// Over a directory that has data already.
    pub(crate) fn within(home: tempfile::TempDir) -> Self {
        fs::write(home.path().join("key.pem"), P256).unwrap();
        fs::write(home.path().join("key.pub.pem"), P256_PUBLIC).unwrap();
        Self(home)
    }

    pub(crate) fn at(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn registry(&self) -> Registry {
        let data = self.at(".understudy");
        Registry::open(&data.join("registry.db"), &data.join("adapters")).unwrap()
    }

    pub(crate) fn run(&self, line: &str) -> Output {
        let arguments: Vec<&str> = line.split(' ').collect();
        understudy(self.0.path(), &arguments)
    }

    /// Runs a command with a reason, by somebody.
    pub(crate) fn by(&self, owner: &str, line: &str) -> Output {
        let arguments: Vec<&str> =
            line.split(' ').chain(["--owner", owner, "--reason", "as the test wants it"]).collect();
        understudy(self.0.path(), &arguments)
    }

    pub(crate) fn json(&self, line: &str) -> Value {
        let output = self.run(&format!("{line} --json"));
        assert!(output.status.success(), "{line}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// A version whose report passes, registered by ada.
    fn version(&self, note: &str) -> AdapterVersion {
        self.trained(note, &lineage())
    }

    pub(crate) fn trained(&self, note: &str, lineage: &AdapterManifest) -> AdapterVersion {
        let directory = self.at(note);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("adapter_config.json"), "{}").unwrap();
        let header = json!({"__metadata__": {"note": note}}).to_string();
        let weights = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
        fs::write(directory.join("adapter_model.safetensors"), weights).unwrap();
        let registry = self.registry();
        let adapter = registry.register(&task(), &directory, lineage, change()).unwrap();
        let record = adapter.record;
        let report = report(&record.generation.to_hex());
        registry.attach_report(&record.version, &report, change()).unwrap();
        record.version
    }

    /// A release on the ramp.
    pub(crate) fn ramping(&self, candidate: &AdapterVersion) -> ReleaseRecord {
        let registry = self.registry();
        let target = registry.stable(&task()).unwrap().unwrap_or(Target::Teacher);
        let loaded_generation = target
            .adapter()
            .map(|version| registry.get(version).unwrap().record.generation.to_hex());
        let verified_by = "a test".to_owned();
        let start = StartRelease {
            candidate: candidate.clone(),
            rollback: RollbackTarget { target, loaded_generation, verified_by },
            policy: json!({}),
            salt: "00".repeat(16),
            forced: None,
        };
        let release = registry.start_release(start, change()).unwrap();
        registry.staged(&release.id, &release.generation.to_hex(), change()).unwrap()
    }
}

fn change() -> Change<'static> {
    Change::new("ada", "for the test", &SystemClock)
}

fn task() -> TaskName {
    "quiz".parse().unwrap()
}

pub(crate) fn lineage() -> AdapterManifest {
    serde_json::from_value(json!({
        "schema": 1, "task": "quiz", "base": "tiny", "base_digest": "b",
        "tokenizer_digest": "t", "template_digest": "c", "recipe_digest": Digest::of(b"recipe"),
        "dataset": {
            "version": format!("quiz@{}", Digest::of(b"data")), "sft_rows": 1, "pair_rows": 0
        },
        "parent": null, "stages": [], "code_version": "0", "device": "cpu", "threads": 1,
        "run": null
    }))
    .unwrap()
}

fn report(generation: &str) -> EvalReport {
    serde_json::from_value(json!({
        "schema": EvalReport::SCHEMA, "suite": "quiz", "suite_digest": Digest::of(b"suite"),
        "cases": 200, "seed": 17,
        "subjects": [{
            "name": "candidate", "generation": generation, "scores": {}, "latency_ms_p50": 10.0,
            "latency_ms_p95": 20.0, "prompt_tokens": 1, "completion_tokens": 1, "errors": 0
        }],
        "comparisons": [{
            "scorer": "exact", "baseline": "base", "candidate": "candidate", "difference": 0.7,
            "low": 0.6, "high": 0.8, "wins": 150, "losses": 1, "ties": 49, "mcnemar_p": null,
            "minimum_detectable": 0.08, "verdict": "better"
        }],
        "decision": {"passed": true, "checks": []},
    }))
    .unwrap()
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub(crate) fn ok(output: &Output) {
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// Exit code 1, and a message that holds these words.
pub(crate) fn refused(output: &Output, words: &str) {
    let message = text(&output.stderr);
    assert_eq!(code(output), 1, "{message}");
    assert!(message.contains(words), "{message}");
}

#[test]
fn a_release_is_paused_resumed_promoted_and_undone() {
    let home = Home::new();
    let version = home.version("one");
    home.ramping(&version);
    ok(&home.by("ada", "release pause quiz"));
    assert_eq!(home.json("release status quiz")["open"]["paused_because"], "manual");
    let stale = home.by("ada", "release resume quiz --if-revision 2");
    refused(&stale, "it is at revision 3");
    ok(&home.by("ada", "release resume quiz --if-revision 3"));
    ok(&home.by("ada", "release promote quiz --request promote-1"));
    // The answer was lost, and the caller asks again.
    let entries = home.json("audit show").as_array().unwrap().len();
    ok(&home.by("ada", "release promote quiz --request promote-1"));
    assert_eq!(home.json("audit show").as_array().unwrap().len(), entries);
    let two = home.version("two");
    home.ramping(&two);
    ok(&home.by("otto", "release abort quiz"));
    assert_eq!(code(&home.by("otto", "release undo quiz --to quiz@9")), 2);
    ok(&home.by("otto", "release undo quiz"));
    let history = home.json("release history quiz");
    let states: Vec<&str> = history["releases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|release| release["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["rolled_back", "aborted"]);
    assert_eq!(history["moves"][1]["to"], "teacher");
    ok(&home.run("audit verify"));
}

#[test]
fn a_freeze_is_shown_stops_promotions_and_is_overridden_with_a_sentence_only() {
    let home = Home::new();
    home.ramping(&home.version("one"));
    ok(&home.by("grace", "release freeze quiz --until 2099-01-01T00:00:00Z"));
    assert_eq!(home.json("release freezes")[0]["id"], "freeze-1");
    assert_eq!(home.json("release status quiz")["freezes"][0]["owner"], "grace");
    refused(&home.by("ada", "release promote quiz"), "freeze-1 until 2099-01-01");
    let forced = |reason| {
        let line = ["release", "promote", "quiz", "--force", "--owner", "ada", "--reason", reason];
        understudy(home.0.path(), &line)
    };
    assert!(text(&forced("urgent").stderr).contains("at least 20 characters"));
    ok(&forced("the frozen version leaks addresses"));
    let forced = home.json("audit show quiz").as_array().unwrap().last().unwrap()["forced"].clone();
    assert_eq!(forced["owner"], "ada");
    assert_eq!(code(&home.by("grace", "release unfreeze freeze-2")), 2);
    ok(&home.by("grace", "release unfreeze freeze-1"));
    assert_eq!(home.json("release freezes"), json!([]));
    assert_eq!(code(&home.by("grace", "release freeze --until yesterday")), 2);
}

#[test]
fn roles_and_approvals_are_asked_for_once_they_are_granted() {
    let home = Home::new();
    let version = home.version("one");
    ok(&home.by("grace", "release grant grace release-manager"));
    ok(&home.by("grace", "release grant ada engineer"));
    ok(&home.by("grace", "release protect quiz --approvals 1 --promote-by-hand"));
    assert_eq!(home.json("release protect quiz")["approvals"], 1);
    assert_eq!(home.json("release people")["ada"], json!(["engineer"]));
    refused(&home.by("ada", "release approve quiz@1"), "that takes release_manager");
    ok(&home.by("grace", "release approve quiz@1"));
    assert_eq!(home.registry().get(&version).unwrap().status, Status::Approved);
    refused(&home.by("ada", "release withdraw grace release-manager"), "that takes");
    assert_eq!(code(&home.by("grace", "release withdraw grace release-manager")), 2);
    assert_eq!(code(&home.by("grace", "release grant ada king")), 2);
}

#[test]
fn a_revoked_version_is_off_in_the_same_commit() {
    let home = Home::new();
    home.ramping(&home.version("one"));
    ok(&home.by("ada", "release promote quiz"));
    let revoke = "release revoke quiz@1 --harm safety";
    assert_eq!(code(&home.by("otto", revoke)), 2);
    ok(&home.by("otto", &format!("{revoke} --with-rollback")));
    assert_eq!(home.json("adapter show quiz@1")["adapter"]["status"], "revoked");
    assert_eq!(home.registry().stable(&task()).unwrap(), Some(Target::Teacher));
}

#[test]
fn a_version_is_signed_verified_and_found_changed() {
    let home = Home::new();
    let version = home.version("one");
    let verify = "adapter verify quiz@1 --key key.pub.pem";
    assert_eq!(code(&home.run(verify)), 2, "nobody has signed it");
    ok(&home.by("ada", "adapter sign quiz@1 --key key.pem --out one.sig"));
    ok(&home.run(verify));
    let directory = home.registry().directory(&version);
    fs::write(directory.join("notes.txt"), "added later").unwrap();
    refused(&home.run(verify), "notes.txt was added after signing");

    // A directory that is no version: the signature goes into a file, and is not recorded.
    ok(&home.run("adapter sign one --key key.pem --out directory.sig"));
    let verify = "adapter verify one --signature directory.sig --key key.pub.pem";
    ok(&home.run(verify));
    fs::write(home.at("one/adapter_config.json"), "{ }").unwrap();
    refused(&home.run(verify), "adapter_config.json is not what was signed");
    assert_eq!(code(&home.run("adapter sign one --key key.pub.pem --out x")), 2);
}

#[test]
fn provenance_names_the_data_and_withdrawn_data_names_the_versions() {
    let home = Home::new();
    home.version("one");
    let statement = home.json("adapter provenance quiz@1");
    let dataset = format!("quiz@{}", Digest::of(b"data"));
    let build = &statement["predicate"]["buildDefinition"];
    assert_eq!(build["resolvedDependencies"][3]["name"], dataset.as_str());
    ok(&home.run("adapter provenance quiz@1 --key key.pem --out one.intoto.json"));
    let sealed: Value =
        serde_json::from_slice(&fs::read(home.at("one.intoto.json")).unwrap()).unwrap();
    assert_eq!(sealed["dsseEnvelope"]["payloadType"], "application/vnd.in-toto+json");
    let output = home.by("ada", &format!("adapter taint {dataset} --json"));
    let withdrawn: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(withdrawn["versions"], json!(["quiz@1"]));
}

#[test]
fn the_chain_is_exported_signed_and_its_changes_are_found() {
    let home = Home::new();
    home.version("one");
    assert_eq!(code(&home.run("audit checkpoint")), 2, "there is no key yet");
    fs::write(home.at(".understudy/audit.pem"), ED25519).unwrap();
    ok(&home.run("audit checkpoint --out kept"));
    ok(&home.run("audit export --out chain.jsonl"));
    ok(&home.run("audit verify --checkpoint kept"));
    ok(&home.run("audit verify --file chain.jsonl --checkpoint kept"));
    let chain = fs::read_to_string(home.at("chain.jsonl")).unwrap();
    let verify = |changed: &str, words: &str| {
        fs::write(home.at("changed.jsonl"), changed).unwrap();
        refused(&home.run("audit verify --file changed.jsonl --checkpoint kept"), words);
    };
    verify(&chain.replacen("for the test", "for the best", 1), "entry 0 is not what it was");
    let lines: Vec<&str> = chain.lines().collect();
    verify(&lines[1..].join("\n"), "entry 0 is missing");
    verify(&lines[..2].join("\n"), "once had 3 entries and has 2 now");
    assert_eq!(code(&home.run("audit verify --file nowhere.jsonl")), 2);
}

#[test]
fn every_command_that_decides_shows_an_example() {
    let home = Home::new();
    for (group, plain) in [
        ("release", &["status", "freezes", "people"][..]),
        ("adapter", &["list", "show"]),
        ("audit", &["show"]),
    ] {
        let help = text(&home.run(&format!("{group} --help")).stdout);
        let commands = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
        let names: Vec<&str> = commands
            .lines()
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help" && !plain.contains(name))
            .collect();
        assert!(names.len() >= 3, "{names:?}");
        for name in names {
            let help = text(&home.run(&format!("{group} {name} --help")).stdout);
            assert!(help.contains("Example"), "{group} {name} has no example");
        }
    }
}

/// The documentation's commands exist, with their options.
#[test]
fn every_command_of_the_documentation_is_understood() {
    let home = Home::new();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/RELEASES.md");
    let page = fs::read_to_string(page).unwrap();
    let lines = page.lines().filter_map(|line| line.strip_prefix("$ understudy "));
    let mut seen = 0;
    for line in lines {
        let line = line.split('#').next().unwrap().trim();
        let options = line.split(' ').filter(|word| word.starts_with("--"));
        let words: Vec<&str> = line.split(' ').take(2).collect();
        let help = text(&home.run(&format!("{} {} --help", words[0], words[1])).stdout);
        for option in options {
            assert!(help.contains(option), "`{line}`: there is no {option}");
        }
        seen += 1;
    }
    assert!(seen >= 20, "{seen}");
}

#[test]
fn a_drill_over_http_ends_as_it_should_and_says_when() {
    let home = Home::new();
    let output = home.run("release drill --fault dead-replica --json");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let drilled: Value = serde_json::from_slice(&output.stdout).unwrap();
    let played = &drilled[0]["played"][0];
    assert_eq!(
        (&played["ending"]["kind"], &played["is_right"]),
        (&json!("rolled_back"), &json!(true))
    );
    assert!(played["sessions"].as_u64().unwrap() > 0, "{played}");
    let output = home.run("release drill --fault no-such-thing");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(!home.at(".understudy").exists(), "a drill touches no data directory");
}

#[test]
fn status_tells_the_rest_when_evidence_or_a_named_server_cannot_be_read() {
    let home = Home::new();
    let candidate = home.version("one");
    home.ramping(&candidate);
    let shown = home.json("release status quiz");
    assert!(shown["evidence"]["unreadable"].as_str().unwrap().contains("rules"), "{shown}");
    assert_eq!(shown["open"]["state"], "ramping");
    let output = home.run("release status quiz --server http://127.0.0.1:9");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("http://127.0.0.1:9"), "{}", text(&output.stderr));
}
