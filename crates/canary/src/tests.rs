//! A release in progress, with its journal, registry and routes; its tests are in files by subject.

mod attempts;
mod evidence;
mod latency;
mod pause;
mod ramp;
mod rules;
mod staging;

use std::sync::Arc;

use serde_json::json;
use understudy_ident::{
    AdapterVersion, Clock, OutcomeId, StepId, SystemClock, TaskName, TrajectoryId,
};
use understudy_inference::{FakeBackend, FinishReason, Served, Student, Timing, Usage};
use understudy_journal::{Config, Journal};
use understudy_manifest::{AdapterManifest, EvalReport, Release};
use understudy_message::Message;
use understudy_registry::{
    Change, Override, PauseReason, Registry, ReleaseRecord, ReleaseState, RollbackTarget,
    StartRelease, Target,
};
use understudy_router::{Route, RouteTable};
use understudy_trajectory::{Arm, Assignment, Course, Outcome, RewardPolicy, Signal, Source, Step};

use crate::{Controller, Examined, Examiner, Parts, Rules, fresh_salt};

struct Stage {
    directory: tempfile::TempDir,
    registry: Arc<Registry>,
    journal: Journal,
    routes: Arc<RouteTable>,
    student: Arc<dyn Student>,
    release: ReleaseRecord,
}

fn task() -> TaskName {
    "triage".parse().unwrap()
}

fn lineage() -> AdapterManifest {
    serde_json::from_value(json!({
        "schema": 1, "task": "triage", "base": "tiny", "base_digest": "b",
        "tokenizer_digest": "t", "template_digest": "c", "recipe_digest": "0".repeat(64),
        "dataset": {"version": format!("triage@{}", "0".repeat(64)), "sft_rows": 1, "pair_rows": 0},
        "parent": null, "stages": [], "code_version": "0", "device": "cpu", "threads": 1,
        "run": null,
    }))
    .unwrap()
}

/// A report that passes, about an adapter with this content.
fn passing(generation: &str) -> EvalReport {
    serde_json::from_value(json!({
        "schema": EvalReport::SCHEMA, "suite": "triage", "suite_digest": "0".repeat(64),
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

/// A release of `triage@1` in progress, with the teacher serving.
fn stage() -> Stage {
    let forced = Override { owner: "test".into(), reason: "no gate in this test".into() };
    staged(Some(forced))
}

/// The same with a passing report, because an override of the gate overrides a freeze as well.
fn admitted() -> Stage {
    staged(None)
}

fn staged(forced: Option<Override>) -> Stage {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let registry = Arc::new(Registry::open(&at("registry.db"), &at("adapters")).unwrap());
    let journal = Journal::open(&at("journal.db"), Config::default()).unwrap();
    std::fs::create_dir(at("new")).unwrap();
    std::fs::write(at("new").join("adapter_config.json"), "{}").unwrap();
    // Weights without a tensor: the length of the header, and the header.
    std::fs::write(at("new").join("adapter_model.safetensors"), b"\x02\0\0\0\0\0\0\0{}").unwrap();
    let change = Change::new("test", "a test", &SystemClock);
    let adapter = registry.register(&task(), &at("new"), &lineage(), change).unwrap();
    if forced.is_none() {
        let report = passing(&adapter.record.generation.to_hex());
        registry.attach_report(&adapter.record.version, &report, change).unwrap();
    }
    let release = Release {
        steps: vec![10, 50, 100],
        min_outcomes_per_step: 10,
        margin: 0.2,
        ..Release::default()
    };
    let start = StartRelease {
        candidate: "triage@1".parse::<AdapterVersion>().unwrap(),
        rollback: RollbackTarget {
            target: Target::Teacher,
            loaded_generation: None,
            verified_by: "the teacher needs no loading".to_owned(),
        },
        policy: Rules::of(&release, RewardPolicy::DefaultV1).unwrap().to_value(),
        salt: fresh_salt().to_string(),
        forced,
    };
    let release = registry.start_release(start, change).unwrap();
    let student: Arc<dyn Student> =
        Arc::new(FakeBackend::new("tiny", |_, _| Ok("an answer".to_owned())));
    let routes = Arc::new(RouteTable::default());
    Stage { directory, registry, journal, routes, student, release }
}

impl Stage {
    fn controller(&self) -> Controller {
        self.controller_at(Arc::new(SystemClock))
    }

    fn controller_at(&self, clock: Arc<dyn Clock>) -> Controller {
        Controller::new(Parts {
            registry: Arc::clone(&self.registry),
            journal: self.journal.clone(),
            routes: Arc::clone(&self.routes),
            student: Arc::clone(&self.student),
            clock,
            tasks: Vec::new(),
            first: Target::Teacher,
            lessons: None,
        })
    }

    fn route(&self) -> Route {
        self.routes.get(&task()).unwrap().route.clone()
    }

    /// The release as it stands by now.
    fn now(&self) -> ReleaseRecord {
        self.registry.release(&self.release.id).unwrap()
    }

    /// The same as somebody who looks at it is shown it.
    fn examined(&self) -> Examined {
        let examined = Examiner::default().examine(&self.registry, &self.journal, &self.now());
        examined.unwrap().expect("it is open")
    }

    fn state(&self) -> ReleaseState {
        self.now().state
    }

    /// One judged session in each slice: the canary's reply is accepted or abandoned.
    fn session(&self, n: usize, canary_is_good: bool) {
        for (arm, good) in [(Arm::Canary, canary_is_good), (Arm::Stable, true)] {
            let name = format!("{} {n}", arm.as_str());
            let step = step(&name, arm, self.release.id.as_str());
            let outcome = Outcome {
                id: OutcomeId::derived(&name),
                target: understudy_trajectory::Target::Response(step.response_id.clone()),
                signal: if good { Signal::Accept } else { Signal::Abandon },
                source: Source::Explicit,
                at: SystemClock.now(),
                note: None,
                details: None,
            };
            // Every other outcome overtakes its step.
            if n.is_multiple_of(2) {
                self.journal.append_outcome(outcome.clone()).unwrap().wait().unwrap();
            }
            self.journal.append_step(step).unwrap().wait().unwrap();
            self.journal.append_outcome(outcome).unwrap().wait().unwrap();
        }
    }

    fn paused_because(&self) -> Option<PauseReason> {
        self.now().paused_because
    }

    /// Sessions of one side only, after which no comparison is valid.
    fn lopsided(&self, controller: &mut Controller) {
        controller.tick().unwrap();
        for n in 0..60 {
            self.served(&format!("lopsided {n}"), Arm::Canary, SystemClock.now());
        }
        controller.tick().unwrap();
        assert_eq!(self.paused_because(), Some(PauseReason::Invalid));
    }

    fn resume(&self, clock: &dyn Clock) {
        let revision = self.now().revision;
        let change = Change::new("ada", "read it, and it may go on", clock);
        self.registry.resume(&self.release.id, revision, change).unwrap();
    }

    fn served(&self, name: &str, arm: Arm, at: understudy_ident::Timestamp) {
        let step = Step { at, ..step(name, arm, self.release.id.as_str()) };
        self.journal.append_step(step).unwrap().wait().unwrap();
    }
}

fn step(name: &str, arm: Arm, release: &str) -> Step {
    Step {
        id: StepId::derived(name),
        trajectory: TrajectoryId::derived(name),
        task: task(),
        session: Some(name.to_owned()),
        subject: None,
        metadata: std::collections::BTreeMap::new(),
        response_id: format!("chatcmpl-{name}"),
        at: SystemClock.now(),
        prompt: vec![Message::user("help")],
        reply: Message::assistant("an answer"),
        finish_reason: FinishReason::Stop,
        assignment: Some(Assignment {
            arm,
            analysed: true,
            unit: name.to_owned(),
            u: 0,
            release: Some(release.to_owned()),
            course: Course::default(),
        }),
        served: Served { base: "tiny".to_owned(), adapter: None },
        usage: Usage::default(),
        timing: Timing::default(),
        tools: Vec::new(),
        tokens: None,
        error: None,
    }
}

/// The same with another policy.
fn with_rules(change: impl Fn(&mut understudy_router::Policy)) -> Stage {
    with_all_rules(|rules| change(&mut rules.policy))
}

/// The same with other rules, started anew.
fn with_all_rules(change: impl Fn(&mut Rules)) -> Stage {
    let mut stage = stage();
    let now = Change::new("test", "with other rules", &SystemClock);
    stage.registry.abort(&stage.release.id, now).unwrap();
    let mut rules: Rules = serde_json::from_value(stage.release.policy.clone()).unwrap();
    change(&mut rules);
    let start = StartRelease {
        candidate: stage.release.candidate.clone(),
        rollback: stage.release.rollback.clone(),
        policy: rules.to_value(),
        salt: fresh_salt().to_string(),
        forced: stage.release.forced.clone(),
    };
    stage.release = stage.registry.start_release(start, now).unwrap();
    stage
}
