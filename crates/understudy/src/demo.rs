//! The whole loop on a simulated support desk, over the real parts: the HTTP server, the engine,
//! the trainer, the registry. Only the world is simulated: its messages, users and expert.

mod generations;
mod story;
mod users;
mod world;

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use understudy_canary::PolicyDefaults;
use understudy_capture::Levels;
use understudy_gateway::Patience;
use understudy_ident::AdapterVersion;
use understudy_inference::SamplingDefaults;
use understudy_manifest::Recipe;
use understudy_orchestrator::{Ending, Fact, Observer, Run, drive, plan::Next};
use understudy_registry::{Override, ReleaseRecord};
use understudy_storage::DataDirLock;

use crate::{
    cli::DemoArgs,
    commands::{Exit, dataset, model, run::Narrator, suite},
    config::Config,
    demo::{
        users::{Application, Session, Tally, play},
        world::{Size, World},
    },
    held::HeldIn,
    output::Out,
    paths::DataDir,
    ports::Stages,
    wiring::{self, Grpc, Listening, Server, Serving, Stores},
};

/// Users who are at the desk at the same time.
const USERS: usize = 16;

const OWNER: &str = "demo";

pub(crate) fn run(args: &DemoArgs, config: &Config, out: Out) -> Result<Exit> {
    let data = DataDir::new(config.data.root().join("demo"));
    if args.fresh && data.root().exists() {
        fs::remove_dir_all(data.root())
            .with_context(|| format!("failed to clear {}", data.root().display()))?;
    }
    if let Some(count) = args.generations {
        return generations::run(count, args.seed, &Config { data, ..config.clone() }, out);
    }
    let world = World::new(args.seed, Size::of(args.short))?;
    let base = model::obtain(config, &world.recipe.base, out)?;
    let stores = Stores::open(&data)?;
    let _lock = DataDirLock::acquire(data.root().to_owned())?;
    suite::save(&data, &world.suite)?;
    let begun = Instant::now();
    let demo = Demo::open(&stores, &world, (base, &config.device), out)?;
    demo.say_opening();
    let first = demo.learn()?;
    if let Ending::Promoted { .. } = &first
        && !args.short
    {
        demo.poison()?;
    }
    let story = story::Story::gather(&demo, begun.elapsed())?;
    out.either(story.text(), &story)?;
    Ok(if story.went_well(args.short) { Exit::Ok } else { Exit::No })
}

/// Everything that is running.
struct Demo<'a> {
    stores: &'a Stores,
    world: &'a World,
    stages: Stages<'a>,
    application: Application,
    tally: Arc<Tally>,
    seconds: Mutex<BTreeMap<&'static str, f64>>,
    out: Out,
    _server: Server,
}

impl<'a> Demo<'a> {
    fn open(
        stores: &'a Stores,
        world: &'a World,
        (base, device): (std::path::PathBuf, &str),
        out: Out,
    ) -> Result<Self> {
        let held = (HeldIn::default(), device);
        let student = wiring::engine(&base, &world.recipe.base, held)?;
        let runtime = wiring::runtime()?;
        let server = Server::start(Serving {
            listening: Listening::at(([127, 0, 0, 1], 0).into(), &runtime)?,
            runtime,
            stores,
            student: Arc::clone(&student),
            teacher: Some(world::teacher()?),
            tasks: vec![world.recipe.task.clone()],
            grpc: Grpc::Off,
            adapter_updates: understudy_gateway::AdapterUpdates::Forbidden,
            request_templates: false,
            sampling_defaults: SamplingDefaults::default(),
            patience: Patience { drain: Duration::ZERO, ..Patience::default() },
            keep_raw: None,
            flush_replies: false,
            capture: Levels::default(),
            policy: PolicyDefaults::default(),
            on_note: Box::new(move |note| out.say(format!("  ▸ {}", note.text))),
            access: wiring::Access::default(),
            control: None,
            // The demo's lesson is what weights can learn.
            memory: None,
        })?;
        let max_tokens = world.recipe.gate.as_ref().map_or(80, |gate| gate.max_new_tokens);
        let application = Application::new(server.url(), world.recipe.task.as_str(), max_tokens);
        let engine = OnceLock::new();
        engine.get_or_init(|| (student, None));
        let stages = Stages {
            stores,
            base,
            device: device.to_owned(),
            // Its scorers are rules.
            embedder: None,
            out,
            student: engine,
            make_teacher: Box::new(|| Ok(Some(world::teacher()?))),
            recogniser: None,
            accounts: None,
            policy: PolicyDefaults::default(),
            unattended: None,
        };
        let (tally, seconds) = (Arc::default(), Mutex::default());
        Ok(Self { stores, world, stages, application, tally, seconds, out, _server: server })
    }

    fn say_opening(&self) {
        self.out.say(format!(
            "An understudy for `{}`: {} learns from what users do with an expert's answers.\n\
             Everything is real but the world: messages, users and the expert are scripted.\n",
            self.world.recipe.task, self.world.recipe.base
        ));
    }

    /// Traffic answered by the teacher, then one run of the recipe up to a promotion.
    fn learn(&self) -> Result<Ending> {
        self.out.say("1. The expert answers; users accept, edit, ask again or leave");
        self.timed("capture", || {
            let sessions = self.world.captured(self.stores)?;
            let bar = self.out.bar(sessions.len() as u64, "sessions");
            let mut sessions = sessions.into_iter().inspect(|_| bar.inc(1));
            let open = AtomicBool::new(false);
            play(&self.application, || sessions.next(), USERS, &open, &self.tally);
            bar.finish_and_clear();
            Ok(())
        })?;
        let counts = self.stores.journal.counts()?;
        self.out.say(format!(
            "  {} exchanges and {} outcomes are in the journal",
            counts.steps, counts.outcomes
        ));
        self.out.say("\n2. The understudy learns, is proved, and goes on stage");
        let run = self.stores.runs.begin(
            &self.world.recipe,
            OWNER,
            "learn from the first day's outcomes",
            Some("first"),
        )?;
        self.drive(&run)
    }

    /// A generation trained on poisoned outcomes: stopped at the gate, and, forced past it, by
    /// its users.
    fn poison(&self) -> Result<()> {
        self.out.say("\n3. Poisoned users \"correct\" every answer into a wrong one");
        self.timed("poisoned traffic", || {
            let mut sessions = self.world.poisoned(self.stores)?.into_iter();
            let open = AtomicBool::new(false);
            play(&self.application, || sessions.next(), USERS, &open, &self.tally);
            Ok(())
        })?;
        let run = self.stores.runs.begin(
            &self.world.poisoned_recipe(),
            OWNER,
            "learn from the newest outcomes",
            Some("poisoned"),
        )?;
        let ending = self.drive(&run)?;
        let Ending::Refused { version, .. } = ending else {
            self.out.say(format!("  the gate did not refuse it: {ending:?}"));
            return Ok(());
        };
        self.out.say("\n4. Somebody forces it past the gate; live evidence takes it off again");
        self.force(&version)
    }

    fn force(&self, version: &AdapterVersion) -> Result<()> {
        let recipe = &self.world.recipe;
        let known = self.release_of(version)?;
        let release = if let Some(release) = known {
            release
        } else {
            let forced = Override {
                owner: OWNER.to_owned(),
                reason: "to show that a bad version is rolled back".to_owned(),
            };
            let why = "forced past the gate";
            self.stages.release(recipe, version, (OWNER, why), (Some(forced), false))?
        };
        self.timed("forced release", || {
            let crowd = Crowd::gather(self)?;
            while self.stores.registry.release(&release.id)?.state.is_moving() {
                thread::sleep(Duration::from_millis(50));
            }
            crowd.leave();
            Ok(())
        })
    }

    fn release_of(&self, version: &AdapterVersion) -> Result<Option<ReleaseRecord>> {
        let releases = self.stores.registry.releases(&self.world.recipe.task)?;
        Ok(releases.into_iter().rev().find(|release| release.candidate == *version))
    }

    fn drive(&self, run: &Run) -> Result<Ending> {
        let narrator = Narrator::new(self.out);
        let mut stage = Stage { demo: self, narrator, crowd: None, begun: Instant::now() };
        Ok(drive(&self.stores.runs, run, &self.stages, &mut stage)?)
    }

    fn timed<T>(&self, what: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        let result = work();
        self.took(what, begun.elapsed());
        result
    }

    fn took(&self, what: &'static str, time: Duration) {
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        *seconds.entry(what).or_default() += time.as_secs_f64();
    }
}

/// Tells the run's story, and lets users in while a canary waits for them.
struct Stage<'a, 'b> {
    demo: &'a Demo<'b>,
    narrator: Narrator,
    crowd: Option<Crowd>,
    begun: Instant,
}

impl Observer for Stage<'_, '_> {
    fn begins(&mut self, step: &Next) {
        self.narrator.begins(step);
        self.begun = Instant::now();
        if matches!(step, Next::AwaitRelease { .. }) {
            match Crowd::gather(self.demo) {
                Ok(crowd) => self.crowd = Some(crowd),
                Err(error) => tracing::error!(%error, "no users came"),
            }
        }
    }

    fn happened(&mut self, fact: &Fact) {
        if let Some(crowd) = self.crowd.take() {
            crowd.leave();
        }
        let what = match fact {
            Fact::DatasetFrozen { version, .. } => {
                let found = understudy_dataset::FrozenDataset::find(
                    &self.demo.stores.data.datasets(),
                    version,
                );
                if let Ok(found) = found {
                    self.demo.out.say(dataset::describe(found.manifest()));
                }
                "dataset"
            }
            Fact::StageTrained(_) => "training",
            Fact::Evaluated { .. } => "evaluation",
            Fact::ReleaseEnded { .. } => "canary",
            Fact::StageSkipped { .. }
            | Fact::Selected { .. }
            | Fact::Registered { .. }
            | Fact::ReleaseStarted { .. }
            | Fact::NoDataset { .. }
            | Fact::AlreadyTried { .. }
            | Fact::TurnBegan(_)
            | Fact::Approved { .. }
            | Fact::Declined { .. }
            | Fact::StepFailed { .. } => "bookkeeping",
        };
        self.demo.took(what, self.begun.elapsed());
        self.narrator.happened(fact);
    }

    fn waits(&mut self) {
        self.narrator.waits();
    }
}

/// Live traffic on threads of its own, until it is told to leave.
struct Crowd {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    fn gather(demo: &Demo<'_>) -> Result<Self> {
        let mut sessions: Box<dyn Iterator<Item = Session> + Send> =
            Box::new(demo.world.live(demo.stores)?);
        let stop = Arc::new(AtomicBool::new(false));
        let (application, tally, flag) =
            (demo.application.clone(), Arc::clone(&demo.tally), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name("users".to_owned())
            .spawn(move || play(&application, || sessions.next(), USERS, &flag, &tally))
            .context("failed to start the users")?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Sessions in progress are finished first.
    fn leave(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Users that panicked have said so on standard error.
            thread.join().ok();
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.end();
    }
}

/// The demo's recipe is the one in `recipes/`, built in so that the binary needs no file.
fn recipe() -> Result<Recipe> {
    let text = include_str!("../../../recipes/support-triage.toml");
    Ok(Recipe::parse("recipes/support-triage.toml", text)?)
}
