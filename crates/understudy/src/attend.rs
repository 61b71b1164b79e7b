//! The thread that runs the loop while the server serves: one step at a time, of one loop after the
//! other, so that no two trainers share the machine.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use understudy_gateway::Board;
use understudy_ident::Timestamp;
use understudy_inference::Student;
use understudy_lookout::{Parts, Watcher};
use understudy_manifest::{Recipe, Unattended};
use understudy_orchestrator::{
    Decision, Fact, Observer, Past, Sight, Status, StepHold, Supervisor, Tick, plan::Next,
};
use understudy_storage::atomic;
use understudy_trajectory::RewardPolicy;

use crate::{
    commands::{suite, train},
    config::Config,
    meaning,
    output::Out,
    ports::{Attended, MakeTeacher, Stages},
    wiring::Stores,
};

/// Between looks, while there is nothing to do; a release is looked at as often.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// After the stores could not be read.
const AFTER_ERROR: Duration = Duration::from_secs(5);

/// A status as it lies on disk, for whoever asks without a server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Posted {
    pub(crate) at: Timestamp,
    pub(crate) settings: Unattended,
    pub(crate) status: Status,
}

/// What the loops of a server share.
pub(crate) struct Attending {
    pub(crate) config: Config,
    pub(crate) recipes: Vec<Recipe>,
    pub(crate) student: Arc<dyn Student>,
    pub(crate) board: Arc<Board>,
    pub(crate) out: Out,
    pub(crate) base: PathBuf,
    pub(crate) make_teacher: Arc<dyn Fn() -> MakeTeacher + Send + Sync>,
}

/// Reads the recipes of `--loop` and makes sure that each can run here.
pub(crate) fn recipes(paths: &[PathBuf], config: &Config, base: &str) -> Result<Vec<Recipe>> {
    let mut recipes: Vec<Recipe> = Vec::new();
    for path in paths {
        let recipe = train::recipe(path)?;
        let name = path.display();
        if recipe.unattended.is_none() {
            bail!("{name} has no [loop] table, so nothing says when to train; see docs/LOOP.md");
        }
        if recipe.base != base {
            bail!("{name} trains {}, and this server serves {base}; start another", recipe.base);
        }
        if recipes.iter().any(|other| other.task == recipe.task) {
            bail!("{name} is a second loop for {}; a task has one", recipe.task);
        }
        if let Some(gate) = &recipe.gate {
            suite::read(&config.data, gate.suite.as_str())
                .with_context(|| format!("{name} cannot run unattended"))?;
        }
        recipes.push(recipe);
    }
    Ok(recipes)
}

impl Attending {
    /// Starts the thread. It ends with the process: whatever it was doing is taken up again.
    pub(crate) fn start(self) -> Result<()> {
        // Opened here, so that what cannot be opened stops the server and not only its thread.
        let stores = Stores::open(&self.config.data)?;
        atomic::create_dir(&self.config.data.loops())?;
        let embedder = meaning::directory(&self.config)?;
        let attend = move || self.attend(&stores, embedder.as_deref());
        thread::Builder::new()
            .name("loop".to_owned())
            .spawn(attend)
            .map(drop)
            .context("failed to start the loop")
    }

    fn attend(&self, stores: &Stores, embedder: Option<&Path>) {
        let all: Vec<(Recipe, Unattended, Stages<'_>)> = self
            .recipes
            .iter()
            .filter_map(|recipe| {
                let settings = recipe.unattended.clone()?;
                let stages = self.stages(stores, &settings, embedder);
                Some((recipe.clone(), settings, stages))
            })
            .collect();
        let mut loops: Vec<OneLoop<'_>> = all
            .iter()
            .map(|(recipe, settings, stages)| self.one(stores, recipe, settings, stages))
            .collect();
        loop {
            let mut pause = LOOK_EVERY;
            for one in &mut loops {
                match one.tick() {
                    Ok(true) => pause = Duration::ZERO,
                    Ok(false) => {}
                    Err(error) => {
                        tracing::error!(task = %one.recipe.task, %error, "the loop stumbled");
                        pause = AFTER_ERROR;
                    }
                }
            }
            thread::sleep(pause);
        }
    }

    fn stages<'a>(
        &self,
        stores: &'a Stores,
        settings: &Unattended,
        embedder: Option<&Path>,
    ) -> Stages<'a> {
        Stages {
            stores,
            base: self.base.clone(),
            device: self.config.device.clone(),
            embedder: embedder.map(Path::to_owned),
            out: self.out,
            student: std::sync::OnceLock::from((Arc::clone(&self.student), None)),
            make_teacher: (self.make_teacher)(),
            recogniser: self.config.recogniser.clone(),
            accounts: self.config.accounts.clone(),
            policy: self.config.policy.clone(),
            unattended: Some(Attended { nice: settings.nice }),
        }
    }

    fn one<'a>(
        &'a self,
        stores: &'a Stores,
        recipe: &'a Recipe,
        settings: &'a Unattended,
        stages: &'a Stages<'a>,
    ) -> OneLoop<'a> {
        let parts = Parts {
            task: recipe.task.clone(),
            journal: stores.journal.clone(),
            registry: Arc::clone(&stores.registry),
            clock: Arc::clone(&stores.clock),
        };
        // A recipe names a policy that exists, or it would not have been read.
        let policy = RewardPolicy::named(&recipe.data.reward).unwrap_or(RewardPolicy::DefaultV1);
        let lookout = Box::new(Watcher::new(parts, settings.clone(), policy));
        let supervisor =
            Supervisor::new(recipe.clone(), settings.clone(), &stores.runs, stages, lookout);
        OneLoop { attending: self, stores, recipe, settings, supervisor, said: None }
    }
}

struct OneLoop<'a> {
    attending: &'a Attending,
    stores: &'a Stores,
    recipe: &'a Recipe,
    settings: &'a Unattended,
    supervisor: Supervisor<'a>,
    /// Sentences that were printed; unknown before the first tick.
    said: Option<usize>,
}

impl OneLoop<'_> {
    /// One step; true when there may be another one at once.
    fn tick(&mut self) -> Result<bool> {
        if self.said.is_none() {
            self.said = Some(self.stores.runs.notes(&self.recipe.task)?.len());
        }
        let mut poster = Poster {
            attending: self.attending,
            stores: self.stores,
            recipe: self.recipe,
            settings: self.settings,
        };
        let tick = self.supervisor.tick(&mut poster)?;
        self.print()?;
        let past = Past::read(&self.stores.runs, &self.recipe.task)?;
        let sight = self.supervisor.look(&past)?;
        match &tick {
            Tick::Decided(decision) => poster.between(decision, &past, sight)?,
            Tick::Held { step, by } => poster.within(step, Some(by.clone()), &past, sight)?,
            Tick::Waits { step } => poster.within(step, None, &past, sight)?,
            _ => {}
        }
        Ok(matches!(tick, Tick::Advanced(_) | Tick::Ended(_))
            || matches!(tick, Tick::Decided(Decision::Train { .. })))
    }

    /// Says what has been added to the log.
    fn print(&mut self) -> Result<()> {
        let notes = self.stores.runs.notes(&self.recipe.task)?;
        for note in notes.iter().skip(self.said.unwrap_or(0)) {
            self.attending.out.say(note.line());
        }
        self.said = Some(notes.len());
        Ok(())
    }
}

/// Tells the board, and the disk, what a loop is at.
struct Poster<'a> {
    attending: &'a Attending,
    stores: &'a Stores,
    recipe: &'a Recipe,
    settings: &'a Unattended,
}

impl Poster<'_> {
    fn between(&self, decision: &Decision, past: &Past, sight: Sight) -> Result<()> {
        let task = &self.recipe.task;
        let notes = self.stores.runs.notes(task)?;
        self.post(Status::between(task, decision, past, sight, &notes))
    }

    fn within(&self, step: &Next, hold: Option<StepHold>, past: &Past, sight: Sight) -> Result<()> {
        let Some(run) = &past.open else { return Ok(()) };
        let task = &self.recipe.task;
        let notes = self.stores.runs.notes(task)?;
        self.post(Status::within(task, (&run.id, step), hold, past, sight, &notes))
    }

    fn post(&self, status: Status) -> Result<()> {
        let task = &self.recipe.task;
        let told = serde_json::to_value(&status)?;
        let posted =
            Posted { at: self.stores.clock.now(), settings: self.settings.clone(), status };
        let path = self.attending.config.data.loop_status(task);
        // First the file, so that who has heard it over HTTP reads nothing older there.
        atomic::write(&path, &serde_json::to_vec_pretty(&posted)?)?;
        self.attending.board.post(task.as_str(), told);
        Ok(())
    }

    fn working(&self, step: &Next) -> Result<()> {
        let past = Past::read(&self.stores.runs, &self.recipe.task)?;
        let sight = self.last_sight();
        self.within(step, None, &past, sight)
    }

    /// What was last seen: a step that begins is no reason to read the journal.
    fn last_sight(&self) -> Sight {
        let path = self.attending.config.data.loop_status(&self.recipe.task);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        serde_json::from_str::<Posted>(&text).map(|posted| posted.status.sight).unwrap_or_default()
    }
}

impl Observer for Poster<'_> {
    fn begins(&mut self, step: &Next) {
        if let Err(error) = self.working(step) {
            tracing::warn!(%error, "the loop's status could not be posted");
        }
    }

    fn happened(&mut self, _: &Fact) {}

    fn waits(&mut self) {}
}
