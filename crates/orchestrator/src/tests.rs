mod unattended;

use std::cell::{Cell, RefCell};

use understudy_ident::{AdapterVersion, DatasetVersion, Digest, ReleaseId, SystemClock};
use understudy_manifest::Recipe;

use crate::{
    Ending, Fact, Observer, OrchestratorError, PortError, Ports, ReleaseEnd, Run, RunStore,
    Trained, Turn, drive, plan,
};

const RECIPE: &str = r#"
schema = 1
task = "triage"
base = "tiny"
[[train]]
method = "sft"
[[train]]
method = "dpo"
[gate]
suite = "triage"
[release]
"#;

fn recipe() -> Recipe {
    Recipe::parse("test", RECIPE).unwrap()
}

fn store(directory: &tempfile::TempDir) -> RunStore {
    RunStore::open(&directory.path().join("runs.db"), Box::new(SystemClock)).unwrap()
}

/// Stages that answer at once, count their calls, and fail when told to.
struct Stages {
    dev_scores: [f64; 2],
    gate_passes: bool,
    fail_at: RefCell<Option<&'static str>>,
    calls: RefCell<Vec<&'static str>>,
    not_yet: RefCell<Option<String>>,
    looked: Cell<bool>,
    /// What the dataset is made of.
    rows: RefCell<Vec<u8>>,
}

impl Stages {
    fn new(dev_scores: [f64; 2], gate_passes: bool) -> Self {
        Self {
            dev_scores,
            gate_passes,
            fail_at: RefCell::default(),
            calls: RefCell::default(),
            not_yet: RefCell::default(),
            looked: Cell::default(),
            rows: RefCell::new(b"rows".to_vec()),
        }
    }

    fn call(&self, name: &'static str, fact: Fact) -> Result<Fact, PortError> {
        self.calls.borrow_mut().push(name);
        if self.fail_at.borrow_mut().take_if(|at| *at == name).is_some() {
            return Err("the machine lost power".into());
        }
        Ok(fact)
    }
}

impl Ports for Stages {
    fn build_dataset(&self, _: &Run, recipe: &Recipe, _: Option<&Turn>) -> Result<Fact, PortError> {
        let version =
            DatasetVersion { name: recipe.task.clone(), digest: Digest::of(&self.rows.borrow()) };
        self.call("dataset", Fact::DatasetFrozen { version, sft_rows: 10, pair_rows: 4 })
    }

    fn train(
        &self,
        _: &Run,
        recipe: &Recipe,
        stage: usize,
        _: &DatasetVersion,
        from: Option<&str>,
    ) -> Result<Fact, PortError> {
        assert_eq!(from.is_some(), stage > 0, "a later stage continues from the one before");
        let trained = Trained {
            stage,
            method: recipe.train[stage].method.as_str().to_owned(),
            directory: format!("stage-{stage}"),
            last_loss: 0.1,
            dev_score: self.dev_scores[stage],
            dev_cases: 20,
            seconds: 1.0,
        };
        self.call("train", Fact::StageTrained(trained))
    }

    fn register(&self, _: &Run, _: &Recipe, directory: &str) -> Result<Fact, PortError> {
        let version: AdapterVersion = "triage@1".parse().unwrap();
        let generation = Digest::of(directory.as_bytes());
        self.call("register", Fact::Registered { version, generation })
    }

    fn evaluate(&self, _: &Run, _: &Recipe, _: &AdapterVersion) -> Result<Fact, PortError> {
        let summary = "better by 0.6".to_owned();
        self.call("evaluate", Fact::Evaluated { passed: self.gate_passes, summary })
    }

    fn start_release(&self, _: &Run, _: &Recipe, _: &AdapterVersion) -> Result<Fact, PortError> {
        self.call("release", Fact::ReleaseStarted { release: ReleaseId::derived("r") })
    }

    fn not_yet(&self, _: &Recipe, _: &AdapterVersion) -> Result<Option<String>, PortError> {
        Ok(self.not_yet.borrow().clone())
    }

    /// Live evidence takes one look more than the first.
    fn release_end(&self, _: &Run, _: &ReleaseId) -> Result<Option<Fact>, PortError> {
        if !self.looked.replace(true) {
            return Ok(None);
        }
        let why = "reward held".to_owned();
        self.call("await", Fact::ReleaseEnded { end: ReleaseEnd::Promoted, why }).map(Some)
    }
}

struct Quiet;

impl Observer for Quiet {
    fn begins(&mut self, _: &plan::Next) {}
    fn happened(&mut self, _: &Fact) {}
    fn waits(&mut self) {}
}

#[test]
fn a_run_goes_through_every_step_once_and_ends_promoted() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory);
    let run = store.begin(&recipe(), "ada", "test", None).unwrap();
    let stages = Stages::new([0.8, 0.9], true);
    let ending = drive(&store, &run, &stages, &mut Quiet).unwrap();
    assert_eq!(ending, Ending::Promoted { version: "triage@1".parse().unwrap() });
    let calls = stages.calls.borrow().join(" ");
    assert_eq!(calls, "dataset train train register evaluate release await");
    assert!(store.get(run.id.as_str()).unwrap().ending.is_some());
}

#[test]
fn a_run_that_died_goes_on_where_it_stopped() {
    for step in ["dataset", "train", "register", "evaluate", "release", "await"] {
        let directory = tempfile::tempdir().unwrap();
        let stages = Stages::new([0.8, 0.9], true);
        *stages.fail_at.borrow_mut() = Some(step);
        let run = {
            let store = store(&directory);
            let run = store.begin(&recipe(), "ada", "test", Some("key")).unwrap();
            let failed = drive(&store, &run, &stages, &mut Quiet).unwrap_err();
            assert!(matches!(failed, OrchestratorError::Step { .. }), "{step}: {failed}");
            run
        };
        let store = store(&directory);
        let again = store.begin(&recipe(), "ada", "test", Some("key")).unwrap();
        assert_eq!(again.id, run.id, "the same key finds the same run");
        let ending = drive(&store, &again, &stages, &mut Quiet).unwrap();
        assert!(matches!(ending, Ending::Promoted { .. }), "{step}");
        assert_eq!(stages.calls.borrow().len(), 8, "{step}: only the broken step ran twice");
    }
}

#[test]
fn the_better_stage_on_the_dev_split_is_kept_and_a_tie_keeps_the_earlier() {
    for (scores, kept) in [([0.8, 0.9], 1), ([0.9, 0.8], 0), ([0.9, 0.9], 0)] {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory);
        let run = store.begin(&recipe(), "ada", "test", None).unwrap();
        drive(&store, &run, &Stages::new(scores, true), &mut Quiet).unwrap();
        let facts = store.facts(&run.id).unwrap();
        let selected = facts.iter().find_map(|fact| match fact {
            Fact::Selected { stage, .. } => Some(*stage),
            _ => None,
        });
        assert_eq!(selected, Some(kept));
    }
}

#[test]
fn a_refused_candidate_never_starts_a_release() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory);
    let run = store.begin(&recipe(), "ada", "test", None).unwrap();
    let stages = Stages::new([0.8, 0.9], false);
    let ending = drive(&store, &run, &stages, &mut Quiet).unwrap();
    assert!(matches!(ending, Ending::Refused { .. }));
    assert!(!stages.calls.borrow().contains(&"release"));
}

#[test]
fn facts_are_never_rewritten() {
    let directory = tempfile::tempdir().unwrap();
    let store = store(&directory);
    let run = store.begin(&recipe(), "ada", "test", None).unwrap();
    drive(&store, &run, &Stages::new([0.1, 0.2], true), &mut Quiet).unwrap();
    let raw = rusqlite::Connection::open(directory.path().join("runs.db")).unwrap();
    let error = raw.execute("UPDATE facts SET body = '{}'", []).unwrap_err();
    assert!(error.to_string().contains("never rewritten"), "{error}");
}

fn trained(stage: usize, dev_score: f64) -> Fact {
    Fact::StageTrained(Trained {
        stage,
        method: "sft".to_owned(),
        directory: format!("stage-{stage}"),
        last_loss: 0.1,
        dev_score,
        dev_cases: 20,
        seconds: 1.0,
    })
}

fn frozen() -> Fact {
    let version = DatasetVersion { name: "triage".parse().unwrap(), digest: Digest::of(b"rows") };
    Fact::DatasetFrozen { version, sft_rows: 10, pair_rows: 4 }
}

#[test]
fn a_stage_that_would_start_too_weak_is_skipped_and_says_why() {
    let text = RECIPE.replace("method = \"dpo\"", "method = \"dpo\"\nmin_sft_score = 0.6");
    let recipe = Recipe::parse("test", &text).unwrap();
    let weak = [frozen(), trained(0, 0.5)];
    let plan::Next::Skip { stage: 1, why } = plan::next(&recipe, &weak) else {
        panic!("not skipped")
    };
    assert!(why.contains("0.600") && why.contains("0.500"), "{why}");
    let strong = [frozen(), trained(0, 0.7)];
    assert!(matches!(plan::next(&recipe, &strong), plan::Next::Train { stage: 1, .. }));
    let skipped = [frozen(), trained(0, 0.5), Fact::StageSkipped { stage: 1, why }];
    assert!(matches!(plan::next(&recipe, &skipped), plan::Next::Select { stage: 0, .. }));
}

#[test]
fn a_stage_continues_from_the_best_one_so_far() {
    let text = RECIPE.replace("[gate]", "[[train]]\nmethod = \"dpo\"\n[gate]");
    let recipe = Recipe::parse("test", &text).unwrap();
    let facts = [frozen(), trained(0, 0.7), trained(1, 0.6)];
    let plan::Next::Train { stage: 2, from, .. } = plan::next(&recipe, &facts) else {
        panic!("not trained")
    };
    assert_eq!(from.as_deref(), Some("stage-0"));
}
