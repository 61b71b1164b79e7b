//! What the registry promises, through its public face.

mod adapters;
mod audit;
mod checkpoints;
mod memories;
mod mutations;
mod never_blocked;
mod provenance;
mod releases;
mod rules;
mod signatures;

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::json;
use tempfile::TempDir;
use understudy_ident::{AdapterVersion, Digest, ManualClock, TaskName};
use understudy_manifest::{
    AdapterManifest, Comparison, Decision, EvalReport, GateCheck, SubjectReport, Tier, Verdict,
};

use crate::{
    Adapter, Change, Override, Registry, RegistryError, ReleaseRecord, RollbackTarget,
    StartRelease, Target,
};

/// A registry in a temporary directory, with a clock that stands still.
struct Fixture {
    home: TempDir,
    registry: Registry,
    clock: ManualClock,
}

impl Fixture {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let registry = Self::open(&home).unwrap();
        Self { home, registry, clock: ManualClock::default() }
    }

    fn open(home: &TempDir) -> Result<Registry, RegistryError> {
        Registry::open(&home.path().join("registry.db"), &home.path().join("adapters"))
    }

    fn change(&self) -> Change<'_> {
        Change::new("ada", "trained on last week", &self.clock)
    }

    /// A PEFT directory as a trainer leaves it.
    fn trained(&self, weights: &str) -> PathBuf {
        let directory = self.home.path().join(format!("runs/{}", Digest::of(weights.as_bytes())));
        fs::create_dir_all(directory.join("probes")).unwrap();
        fs::write(directory.join("adapter_config.json"), r#"{"r":16}"#).unwrap();
        fs::write(directory.join("adapter_model.safetensors"), weights_file(weights)).unwrap();
        fs::write(directory.join("probes/one.json"), "[]").unwrap();
        directory
    }

    fn register(&self, weights: &str) -> Adapter {
        let directory = self.trained(weights);
        self.registry.register(&task(), &directory, &lineage(), self.change()).unwrap()
    }

    /// A version with a report that passed or failed.
    fn judged(&self, weights: &str, passed: bool) -> AdapterVersion {
        let adapter = self.register(weights);
        let report = report(&adapter.record.generation.to_hex(), passed);
        let version = adapter.record.version;
        self.registry.attach_report(&version, &report, self.change()).unwrap();
        version
    }

    /// A release whose candidate an engine has loaded, at revision 2.
    fn start(&self, candidate: &AdapterVersion, back_to: Target) -> ReleaseRecord {
        let start = self.start_of(candidate, back_to);
        let release = self.registry.start_release(start, self.change()).unwrap();
        self.staged(&release)
    }

    fn staged(&self, release: &ReleaseRecord) -> ReleaseRecord {
        let loaded = release.generation.to_hex();
        self.registry.staged(&release.id, &loaded, self.change()).unwrap()
    }

    fn start_of(&self, candidate: &AdapterVersion, target: Target) -> StartRelease {
        let loaded_generation = target
            .adapter()
            .map(|version| self.registry.get(version).unwrap().record.generation.to_hex());
        let verified_by = "answered a probe".to_owned();
        StartRelease {
            candidate: candidate.clone(),
            rollback: RollbackTarget { target, loaded_generation, verified_by },
            policy: json!({"steps": [1, 5, 50, 100], "margin": 0.05}),
            salt: "000102030405060708090a0b0c0d0e0f".to_owned(),
            forced: None,
        }
    }

    /// A version that was released and promoted.
    fn promoted(&self, weights: &str, over: Target) -> (AdapterVersion, ReleaseRecord) {
        let version = self.judged(weights, true);
        let release = self.start(&version, over);
        let change = self.change();
        let release = self.registry.promote(&release.id, release.revision, change).unwrap();
        (version, release)
    }

    fn stable(&self) -> Option<Target> {
        self.registry.stable(&task()).unwrap()
    }

    /// What happened, as the chain tells it.
    fn actions(&self) -> Vec<String> {
        let entries = self.registry.audit(None).unwrap();
        entries.into_iter().map(|entry| entry.action).collect()
    }
}

/// A safetensors file that holds nothing but a note.
fn weights_file(note: &str) -> Vec<u8> {
    let header = json!({"__metadata__": {"note": note}}).to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()
}

fn gate_override() -> Override {
    Override { owner: "grace".to_owned(), reason: "to see it rolled back".to_owned() }
}

fn task() -> TaskName {
    "support-triage".parse().unwrap()
}

fn version(number: u32) -> AdapterVersion {
    format!("support-triage@{number}").parse().unwrap()
}

fn lineage() -> AdapterManifest {
    serde_json::from_value(json!({
        "schema": 1, "task": "support-triage", "base": "tiny", "base_digest": "b",
        "tokenizer_digest": "t", "template_digest": "c", "recipe_digest": Digest::of(b"recipe"),
        "dataset": {
            "version": format!("support-triage@{}", Digest::of(b"data")),
            "sft_rows": 256, "pair_rows": 0
        },
        "parent": null, "stages": [], "code_version": "0.0.0", "device": "cpu", "threads": 2,
        "run": null
    }))
    .unwrap()
}

fn report(generation: &str, passed: bool) -> EvalReport {
    let subject = |name: &str, generation: Option<&str>| SubjectReport {
        name: name.to_owned(),
        generation: generation.map(str::to_owned),
        scores: BTreeMap::new(),
        latency_ms_p50: 10.0,
        latency_ms_p95: 20.0,
        prompt_tokens: 100,
        completion_tokens: 100,
        errors: 0,
        unscored: BTreeMap::new(),
        invalid_calls: 0,
        refused: None,
        cost: None,
        conditions: None,
        attempts: None,
    };
    EvalReport {
        schema: EvalReport::SCHEMA,
        suite: "support-triage".to_owned(),
        suite_digest: Digest::of(b"suite"),
        cases: 200,
        tier: Tier::Sealed,
        consultation: None,
        seed: 17,
        subjects: vec![subject("base", None), subject("candidate", Some(generation))],
        comparisons: vec![Comparison {
            scorer: "field_f1".to_owned(),
            baseline: "base".to_owned(),
            candidate: "candidate".to_owned(),
            difference: 0.7,
            low: 0.6,
            high: 0.8,
            wins: 150,
            losses: 1,
            ties: 49,
            mcnemar_p: None,
            mcnemar_mid_p: None,
            permutation_p: None,
            minimum_detectable: 0.08,
            verdict: if passed { Verdict::Better } else { Verdict::Worse },
            regressions: None,
            fixes: None,
            unscored: 0,
        }],
        slices: Vec::new(),
        notes: Vec::new(),
        judge: None,
        decision: Decision {
            passed,
            checks: vec![GateCheck {
                name: "verdict".to_owned(),
                passed,
                detail: "as the verdict says".to_owned(),
            }],
        },
    }
}
