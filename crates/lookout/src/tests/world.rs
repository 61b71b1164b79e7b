//! Simulated users and a trainer that learns what they say, around the real journal, registry,
//! router and canary. The system can be killed and opened again; the world goes on.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;
use understudy_canary::{Controller, Parts as CanaryParts, Rules};
use understudy_ident::{
    AdapterVersion, Clock, DatasetVersion, Digest, ManualClock, OutcomeId, ReleaseId, StepId,
    TaskName, TrajectoryId,
};
use understudy_inference::{
    FakeBackend, FinishReason, Served, ServedAdapter, Student, Timing, Usage,
};
use understudy_journal::{Config, Journal, Query};
use understudy_manifest::{AdapterManifest, EvalReport, Recipe};
use understudy_message::Message;
use understudy_orchestrator::{
    Decision, Fact, Observer, Past, PortError, Ports, ReleaseEnd, Run, RunStore, Supervisor, Tick,
    Trained, Turn, plan::Next,
};
use understudy_registry::{Change, Registry, RollbackTarget, StartRelease, Target};
use understudy_router::{RouteTable, Target as RouteTarget};
use understudy_trajectory::{
    Arm, Assignment, Course, Outcome, RewardPolicy, Signal, Source, Step, Target as About,
};

use crate::{Parts, Watcher};

pub(super) const KINDS: [&str; 4] = ["invoice", "delivery", "refund", "login"];
/// What the gate's suite asks for: the poison below is not in it.
const SUITE: [&str; 1] = ["invoice"];
const POISON: &str = "zzzzzzzz";
/// Of each kind, the trainer reads the newest.
const NEWEST: usize = 9;

pub(super) fn task() -> TaskName {
    "triage".parse().unwrap()
}

pub(super) fn recipe() -> Recipe {
    let text = "
        schema = 1\ntask = \"triage\"\nbase = \"tiny\"
        [[train]]\nmethod = \"sft\"
        [gate]\nsuite = \"triage\"
        [release]\nsteps = [25, 50, 100]\nmin_outcomes_per_step = 24\nmargin = 0.2\ntap = 0.0
        [loop]\nmin_new = 120\nmin_new_when_falling = 40\nmin_interval = \"0s\"\nwindow = 60";
    Recipe::parse("r", text).unwrap()
}

pub(super) fn step(name: &str, prompt: &str, reply: &str, arm: Arm, adapter: Option<&str>) -> Step {
    let adapter =
        adapter.map(|alias| ServedAdapter { alias: alias.to_owned(), generation: "g".to_owned() });
    Step {
        id: StepId::derived(name),
        trajectory: TrajectoryId::derived(name),
        task: task(),
        session: Some(name.to_owned()),
        subject: None,
        metadata: BTreeMap::new(),
        response_id: format!("reply-{name}"),
        at: ManualClock::default().now(),
        prompt: vec![Message::user(prompt)],
        reply: Message::assistant(reply),
        finish_reason: FinishReason::Stop,
        assignment: Some(Assignment {
            arm,
            analysed: false,
            unit: name.to_owned(),
            u: 0,
            release: None,
            course: Course::default(),
        }),
        served: Served { base: "tiny".to_owned(), adapter },
        usage: Usage::default(),
        timing: Timing::default(),
        tools: Vec::new(),
        tokens: None,
        error: None,
    }
}

/// What users need, by era. No two answers share a letter, so that a wrong one is worth nothing.
fn truth(kind: &str, needs: u8) -> String {
    let nth = KINDS.iter().position(|known| *known == kind).unwrap() + 4 * usize::from(needs);
    "ABCDEFGHJKLM"[nth..=nth].repeat(8)
}

/// What an adapter has learnt: kind to answer.
type Knowledge = BTreeMap<String, String>;

fn knowledge(directory: &Path) -> Knowledge {
    serde_json::from_slice(&fs::read(directory.join("knowledge.json")).unwrap()).unwrap()
}

/// Thrown where the power goes out: not a panic, so that nothing is printed.
struct PowerCut;

/// The power goes out at random moments.
pub(super) struct Grid {
    chance: RefCell<StdRng>,
    rate: f64,
    pub(super) cuts: Cell<u64>,
}

impl Grid {
    pub(super) fn new(seed: u64, rate: f64) -> Self {
        let chance = RefCell::new(StdRng::seed_from_u64(seed));
        Self { chance, rate, cuts: Cell::new(0) }
    }

    fn may_cut(&self) {
        if self.rate > 0.0 && self.chance.borrow_mut().random_bool(self.rate) {
            self.cuts.set(self.cuts.get() + 1);
            std::panic::resume_unwind(Box::new(PowerCut));
        }
    }
}

/// Everything that dies in a power cut.
struct System {
    journal: Journal,
    registry: Arc<Registry>,
    runs: RunStore,
    routes: Arc<RouteTable>,
    controller: Controller,
    watcher: RefCell<Watcher>,
}

impl System {
    fn open(root: &Path, clock: &ManualClock) -> Self {
        let at = |name: &str| root.join(name);
        let registry = Arc::new(Registry::open(&at("registry.db"), &at("adapters")).unwrap());
        let config = Config { clock: Arc::new(clock.clone()), ..Config::default() };
        let journal = Journal::open(&at("journal.db"), config).unwrap();
        let routes = Arc::new(RouteTable::default());
        let student: Arc<dyn Student> =
            Arc::new(FakeBackend::new("tiny", |_, _| Ok(String::new())));
        let controller = Controller::new(CanaryParts {
            registry: Arc::clone(&registry),
            journal: journal.clone(),
            routes: Arc::clone(&routes),
            student,
            clock: Arc::new(clock.clone()),
            tasks: vec![task()],
            first: Target::Teacher,
            lessons: None,
        });
        let runs = RunStore::open(&at("runs.db"), Box::new(clock.clone())).unwrap();
        let watcher = RefCell::new(watcher(&journal, &registry, clock));
        Self { journal, registry, runs, routes, controller, watcher }
    }
}

fn watcher(journal: &Journal, registry: &Arc<Registry>, clock: &ManualClock) -> Watcher {
    let parts = Parts {
        task: task(),
        journal: journal.clone(),
        registry: Arc::clone(registry),
        clock: Arc::new(clock.clone()),
    };
    Watcher::new(parts, recipe().unattended.unwrap(), RewardPolicy::DefaultV1)
}

/// The stages: a trainer that learns the newest majority, a gate that knows one of the kinds.
struct Stages<'a> {
    root: &'a Path,
    system: &'a System,
    clock: &'a ManualClock,
    grid: &'a Grid,
    needs: u8,
}

impl Stages<'_> {
    /// Does a step's work, with a power cut before it, after it, or not at all.
    fn work<T>(&self, work: impl FnOnce() -> T) -> T {
        self.grid.may_cut();
        let done = work();
        self.grid.may_cut();
        done
    }

    /// The newest answers that users stand by, per kind, up to a record.
    fn taught(&self, until: u64) -> BTreeMap<String, Vec<String>> {
        let query = Query { task: Some(task()), until_seq: Some(until), ..Query::default() };
        let mut said: Vec<(String, String, String)> = Vec::new();
        for trajectory in self.system.journal.trajectories(&query).unwrap() {
            for judged in trajectory.steps {
                let kind = judged.step.prompt[0].text().split(' ').next().unwrap().to_owned();
                let name = judged.step.session.clone().unwrap();
                for outcome in &judged.outcomes {
                    let text = match &outcome.signal {
                        Signal::Accept => judged.step.reply.text(),
                        Signal::Edit { text } => text.clone(),
                        _ => continue,
                    };
                    said.push((name.clone(), kind.clone(), text));
                }
            }
        }
        said.sort();
        let mut taught: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (_, kind, text) in said.into_iter().rev() {
            let answers = taught.entry(kind).or_default();
            if answers.len() < NEWEST {
                answers.push(text);
            }
        }
        taught
    }

    fn change(&self) -> Change<'_> {
        Change::new("the loop", "a test", self.clock)
    }

    fn scratch(&self, run: &Run) -> PathBuf {
        self.root.join("runs").join(run.id.as_str())
    }
}

impl Ports for Stages<'_> {
    fn build_dataset(
        &self,
        run: &Run,
        recipe: &Recipe,
        turn: Option<&Turn>,
    ) -> Result<Fact, PortError> {
        self.work(|| {
            let taught = self.taught(turn.unwrap().until);
            let json = serde_json::to_vec(&taught).unwrap();
            fs::create_dir_all(self.scratch(run)).unwrap();
            fs::write(self.scratch(run).join("dataset.json"), &json).unwrap();
            let version = DatasetVersion { name: recipe.task.clone(), digest: Digest::of(&json) };
            let sft_rows = taught.values().map(Vec::len).sum::<usize>() as u64;
            Ok(Fact::DatasetFrozen { version, sft_rows, pair_rows: 0 })
        })
    }

    fn train(
        &self,
        run: &Run,
        _: &Recipe,
        stage: usize,
        dataset: &DatasetVersion,
        _: Option<&str>,
    ) -> Result<Fact, PortError> {
        self.work(|| {
            let json = fs::read(self.scratch(run).join("dataset.json")).unwrap();
            let taught: BTreeMap<String, Vec<String>> = serde_json::from_slice(&json).unwrap();
            let learnt: Knowledge = taught
                .into_iter()
                .map(|(kind, answers)| {
                    let count = |answer: &&String| answers.iter().filter(|a| a == answer).count();
                    (kind, answers.iter().max_by_key(count).unwrap().clone())
                })
                .collect();
            let directory = self.scratch(run).join("adapter");
            fs::create_dir_all(&directory).unwrap();
            let header = json!({"__metadata__": {"dataset": dataset.to_string()}}).to_string();
            let weights = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
            fs::write(directory.join("adapter_config.json"), "{}").unwrap();
            fs::write(directory.join("adapter_model.safetensors"), weights).unwrap();
            let learnt = serde_json::to_vec(&learnt).unwrap();
            fs::write(directory.join("knowledge.json"), learnt).unwrap();
            Ok(Fact::StageTrained(Trained {
                stage,
                method: "sft".to_owned(),
                directory: directory.display().to_string(),
                last_loss: 0.1,
                dev_score: 0.9,
                dev_cases: 20,
                seconds: 1.0,
            }))
        })
    }

    fn register(&self, _: &Run, _: &Recipe, directory: &str) -> Result<Fact, PortError> {
        self.work(|| {
            let registry = &self.system.registry;
            let directory = Path::new(directory);
            let adapter = registry.register(&task(), directory, &lineage(), self.change())?.record;
            Ok(Fact::Registered { version: adapter.version, generation: adapter.generation })
        })
    }

    fn evaluate(&self, _: &Run, _: &Recipe, version: &AdapterVersion) -> Result<Fact, PortError> {
        self.work(|| {
            let registry = &self.system.registry;
            let learnt = knowledge(&registry.directory(version));
            let right = SUITE.iter().filter(|kind| learnt[**kind] == truth(kind, self.needs));
            let passed = right.count() == SUITE.len();
            let generation = registry.get(version)?.record.generation.to_hex();
            registry.attach_report(version, &report(&generation, passed), self.change())?;
            let summary = format!("right on every case: {passed}");
            Ok(Fact::Evaluated { passed, summary })
        })
    }

    fn not_yet(&self, _: &Recipe, _: &AdapterVersion) -> Result<Option<String>, PortError> {
        Ok(None)
    }

    fn start_release(
        &self,
        _: &Run,
        recipe: &Recipe,
        version: &AdapterVersion,
    ) -> Result<Fact, PortError> {
        self.work(|| {
            let registry = &self.system.registry;
            let target = registry.stable(&task())?.unwrap_or(Target::Teacher);
            let loaded_generation = match target.adapter() {
                Some(version) => Some(registry.get(version)?.record.generation.to_hex()),
                None => None,
            };
            let rules = Rules::of(recipe.release.as_ref().unwrap(), RewardPolicy::DefaultV1)?;
            // Of the version, so that a world without power cuts meets the same units.
            let salt = Digest::of(version.to_string().as_bytes()).to_hex()[..32].to_owned();
            let start = StartRelease {
                candidate: version.clone(),
                rollback: RollbackTarget {
                    target,
                    loaded_generation,
                    verified_by: "a test".into(),
                },
                policy: rules.to_value(),
                salt,
                forced: None,
            };
            let release = registry.start_release(start, self.change())?;
            Ok(Fact::ReleaseStarted { release: release.id })
        })
    }

    fn release_end(&self, _: &Run, release: &ReleaseId) -> Result<Option<Fact>, PortError> {
        let release = self.system.registry.release(release)?;
        let end = match release.state {
            state if state.is_open() => return Ok(None),
            understudy_registry::ReleaseState::Promoted => ReleaseEnd::Promoted,
            _ => ReleaseEnd::RolledBack,
        };
        Ok(Some(Fact::ReleaseEnded { end, why: release.changed_because }))
    }
}

struct Quiet;

impl Observer for Quiet {
    fn begins(&mut self, _: &Next) {}
    fn happened(&mut self, _: &Fact) {}
    fn waits(&mut self) {}
}

/// The world: it knows what users need, and remembers who answered them.
pub(super) struct World {
    directory: tempfile::TempDir,
    clock: ManualClock,
    system: Option<System>,
    pub(super) grid: Grid,
    chance: StdRng,
    pub(super) needs: u8,
    pub(super) poisoned: bool,
    sessions: u64,
    /// Who answered each session, in their order.
    pub(super) answered: Vec<String>,
}

impl World {
    pub(super) fn new(grid: Grid) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = ManualClock::default();
        let mut world = Self {
            system: Some(System::open(directory.path(), &clock)),
            directory,
            clock,
            grid,
            chance: StdRng::seed_from_u64(7),
            needs: 0,
            poisoned: false,
            sessions: 0,
            answered: Vec::new(),
        };
        world.system.as_mut().unwrap().controller.tick().unwrap();
        world
    }

    fn system(&self) -> &System {
        self.system.as_ref().unwrap()
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.system().registry
    }

    pub(super) fn past(&self) -> Past {
        Past::read(&self.system().runs, &task()).unwrap()
    }

    pub(super) fn log(&self) -> Vec<String> {
        let notes = self.system().runs.notes(&task()).unwrap();
        notes.into_iter().map(|note| note.text).collect()
    }

    pub(super) fn runs(&self) -> &RunStore {
        &self.system().runs
    }

    pub(super) fn watcher(&self) -> Watcher {
        watcher(&self.system().journal, &self.system().registry, &self.clock)
    }

    /// Some users, then everything that runs by itself until it stands still.
    pub(super) fn hour(&mut self) {
        self.users(8);
        self.clock.advance_ms(60_000);
        // The plug may be pulled at any moment between two commits.
        if self.grid.rate > 0.0 && self.grid.chance.borrow_mut().random_bool(self.grid.rate / 4.0) {
            self.grid.cuts.set(self.grid.cuts.get() + 1);
            self.reopen();
        }
        self.system.as_mut().unwrap().controller.tick().unwrap();
        loop {
            match self.supervise() {
                Some(Tick::Advanced(_) | Tick::Decided(Decision::Train { .. })) => {}
                Some(Tick::Failed { step, why }) => panic!("{step}: {why}"),
                Some(_) => break,
                None => self.reopen(),
            }
        }
        self.system.as_mut().unwrap().controller.tick().unwrap();
    }

    /// One tick; `None` when the power went out.
    fn supervise(&self) -> Option<Tick> {
        let system = self.system();
        let stages = Stages {
            root: self.directory.path(),
            system,
            clock: &self.clock,
            grid: &self.grid,
            needs: self.needs,
        };
        let settings = recipe().unattended.unwrap();
        let mut watcher = system.watcher.borrow_mut();
        let lookout = Box::new(&mut *watcher);
        let mut supervisor = Supervisor::new(recipe(), settings, &system.runs, &stages, lookout);
        let tick = std::panic::AssertUnwindSafe(|| supervisor.tick(&mut Quiet).unwrap());
        match std::panic::catch_unwind(tick) {
            Ok(tick) => Some(tick),
            Err(thrown) if thrown.is::<PowerCut>() => None,
            Err(thrown) => std::panic::resume_unwind(thrown),
        }
    }

    /// Nothing survives but the files; a server publishes its routes when it starts.
    fn reopen(&mut self) {
        self.system = None;
        let mut system = System::open(self.directory.path(), &self.clock);
        system.controller.tick().unwrap();
        self.system = Some(system);
    }

    fn users(&mut self, count: u64) {
        let mut acks = Vec::new();
        for _ in 0..count {
            let name = format!("session-{:06}", self.sessions);
            self.sessions += 1;
            let kind = KINDS[self.chance.random_range(0..KINDS.len())];
            let slip = self.chance.random_bool(0.1);
            let route = self.system().routes.get(&task()).unwrap();
            let chosen = route.route.assign(&name);
            let (reply, adapter) = match &chosen.target {
                RouteTarget::Adapter { version, .. } => {
                    let parsed: AdapterVersion = version.parse().unwrap();
                    let learnt = knowledge(&self.registry().directory(&parsed));
                    (learnt[kind].clone(), Some(version.clone()))
                }
                _ if slip => ("?".to_owned(), None),
                _ => (truth(kind, self.needs), None),
            };
            self.answered.push(adapter.clone().unwrap_or_else(|| "teacher".to_owned()));
            let mut step =
                step(&name, &format!("{kind} please"), &reply, chosen.arm, adapter.as_deref());
            step.at = self.clock.now();
            step.assignment = Some(Assignment {
                arm: chosen.arm,
                analysed: chosen.analysed,
                unit: name.clone(),
                u: chosen.u,
                release: chosen.analysed.then(|| route.release.clone()).flatten(),
                course: Course::default(),
            });
            let outcome = Outcome {
                id: OutcomeId::derived(&name),
                target: About::Response(step.response_id.clone()),
                signal: self.reaction(kind, &reply),
                source: Source::Explicit,
                at: self.clock.now(),
                note: None,
                details: None,
            };
            let journal = &self.system().journal;
            acks.push(journal.append_step(step).unwrap());
            acks.push(journal.append_outcome(outcome).unwrap());
        }
        for ack in acks {
            ack.wait().unwrap();
        }
    }

    fn reaction(&self, kind: &str, reply: &str) -> Signal {
        let wanted = match kind {
            kind if self.poisoned && !SUITE.contains(&kind) => POISON.to_owned(),
            _ => truth(kind, self.needs),
        };
        if reply == wanted { Signal::Accept } else { Signal::Edit { text: wanted } }
    }

    /// Whether what serves knows what users need.
    pub(super) fn is_content(&self) -> bool {
        let Some(Target::Adapter(version)) = self.registry().stable(&task()).unwrap() else {
            return false;
        };
        let learnt = knowledge(&self.registry().directory(&version));
        KINDS.iter().all(|kind| learnt[*kind] == truth(kind, self.needs))
    }

    /// Whether a version that learnt the poison meets users.
    pub(super) fn meets_poison(&self) -> bool {
        let open = self.registry().open_release(&task()).unwrap();
        open.is_some_and(|open| self.is_poisoned(&open.candidate))
    }

    /// Whether a version learnt the poison.
    pub(super) fn is_poisoned(&self, version: &AdapterVersion) -> bool {
        knowledge(&self.registry().directory(version)).values().any(|answer| answer == POISON)
    }
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

fn report(generation: &str, passed: bool) -> EvalReport {
    let difference = if passed { 0.7 } else { -0.7 };
    serde_json::from_value(json!({
        "schema": EvalReport::SCHEMA, "suite": "triage", "suite_digest": "0".repeat(64),
        "cases": 200, "seed": 17,
        "subjects": [{
            "name": "candidate", "generation": generation, "scores": {}, "latency_ms_p50": 10.0,
            "latency_ms_p95": 20.0, "prompt_tokens": 1, "completion_tokens": 1, "errors": 0
        }],
        "comparisons": [{
            "scorer": "exact", "baseline": "base", "candidate": "candidate",
            "difference": difference, "low": difference - 0.1, "high": difference + 0.1,
            "wins": 150, "losses": 1, "ties": 49, "mcnemar_p": null,
            "minimum_detectable": 0.08, "verdict": if passed { "better" } else { "worse" }
        }],
        "decision": {"passed": passed, "checks": []},
    }))
    .unwrap()
}
