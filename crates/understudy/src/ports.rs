//! The loop's steps over the real stages.

mod report;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use anyhow::{Context, Result, anyhow};
use understudy_canary::{Opening, PolicyDefaults};
use understudy_dataset::{
    Accounts, Builder, DatasetError, FrozenDataset, Request, Review, SuiteFingerprints, Verdict,
};
use understudy_evaluation::table;
use understudy_ident::{AdapterVersion, DatasetVersion, Digest, ReleaseId};
use understudy_inference::{Backend, Student};
use understudy_ingest::telemetry::MAPPER_VERSION;
use understudy_journal::Query;
use understudy_manifest::{DataSource, EvalReport, Recipe, Scorer};
use understudy_orchestrator::{Fact, PortError, Ports, ReleaseEnd, Run, Turn};
use understudy_registry::{Change, Override, ReleaseRecord, ReleaseState, Target};
use understudy_storage::atomic;

use crate::{
    commands::{memory::Remembering, suite},
    config::RecogniserSettings,
    held::HeldIn,
    late,
    lengths::BaseTokens,
    output::Out,
    wiring::{self, Stores},
    worker::{self, Job},
};

/// Makes a teacher of its own for an evaluation, so that its memory of live traffic stays out.
pub(crate) type MakeTeacher = Box<dyn Fn() -> Result<Option<Arc<dyn Backend>>>>;

/// An engine, and a digest of all that decides its answers but the adapter, where that is known.
pub(crate) type Answering = (Arc<dyn Student>, Option<Digest>);

/// The stages as this process reaches them.
pub(crate) struct Stages<'a> {
    pub(crate) stores: &'a Stores,
    pub(crate) base: PathBuf,
    /// What models run on.
    pub(crate) device: String,
    /// The directory of the model that compares texts by meaning, if one is here.
    pub(crate) embedder: Option<PathBuf>,
    pub(crate) out: Out,
    /// The engine of a server in this process; without one, an evaluation starts its own, of which
    /// it is also known by what its answers may be kept.
    pub(crate) student: OnceLock<Answering>,
    pub(crate) make_teacher: MakeTeacher,
    /// Who finds the names in what is learnt from, if anybody is configured.
    pub(crate) recogniser: Option<RecogniserSettings>,
    pub(crate) accounts: Option<PathBuf>,
    /// What releases start from where the recipe says nothing.
    pub(crate) policy: PolicyDefaults,
    /// Set where nobody sits in front of the run.
    pub(crate) unattended: Option<Attended>,
}

/// How the loop's runs differ from those a person watches: training steps back behind serving, and
/// a release that needs a person is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attended {
    pub(crate) nice: u8,
}

impl Ports for Stages<'_> {
    fn build_dataset(
        &self,
        _: &Run,
        recipe: &Recipe,
        turn: Option<&Turn>,
    ) -> Result<Fact, PortError> {
        let error = match self.dataset_until(recipe, turn) {
            Ok(dataset) => return Ok(frozen(&dataset)),
            Err(error) => error,
        };
        // A person is told how much is missing and why the command failed; the loop goes on waiting.
        match error.downcast_ref() {
            Some(why @ (DatasetError::NotEnough { .. } | DatasetError::Nothing { .. }))
                if turn.is_some() =>
            {
                Ok(Fact::NoDataset { why: why.to_string() })
            }
            _ => Err(error.into()),
        }
    }

    fn train(
        &self,
        run: &Run,
        recipe: &Recipe,
        stage: usize,
        dataset: &DatasetVersion,
        from: Option<&str>,
    ) -> Result<Fact, PortError> {
        let dataset = FrozenDataset::find(&self.stores.data.datasets(), dataset)?;
        let method = recipe.train[stage].method;
        if let Some(why) = worker::nothing_for(&recipe.train[stage], &dataset) {
            return Ok(Fact::StageSkipped { stage, why });
        }
        let directory = self.stores.data.run(run.id.as_str());
        let name = format!("{stage}-{}", method.as_str());
        let job = Job {
            base: self.base.clone(),
            device: self.device.clone(),
            embedder: self.embedder.clone(),
            recipe: recipe.clone(),
            stage,
            dataset: dataset.dir().to_owned(),
            from: from.map(PathBuf::from),
            out: directory.join(&name),
            checkpoint: directory.join(format!("{name}.checkpoint")),
            metrics: directory.join(format!("{name}.metrics.jsonl")),
            run: Some(run.id.clone()),
            scorer: self.primary(recipe)?,
            max_new_tokens: recipe.gate.as_ref().map_or(128, |gate| gate.max_new_tokens),
            nice: self.unattended.map_or(0, |attended| attended.nice),
        };
        Ok(Fact::StageTrained(worker::run(&job, self.out)?))
    }

    fn register(&self, run: &Run, recipe: &Recipe, directory: &str) -> Result<Fact, PortError> {
        let directory = PathBuf::from(directory);
        let lineage = worker::manifest(&directory)?;
        let change = self.change(&run.owner, &run.reason);
        let adapter =
            self.stores.registry.register(&recipe.task, &directory, &lineage, change)?.record;
        Ok(Fact::Registered { version: adapter.version, generation: adapter.generation })
    }

    fn evaluate(
        &self,
        run: &Run,
        recipe: &Recipe,
        version: &AdapterVersion,
    ) -> Result<Fact, PortError> {
        let gate = recipe.gate.as_ref().ok_or("the recipe has no [gate]")?;
        let report = self.report(recipe, gate, version)?;
        let directory = self.stores.data.run(run.id.as_str());
        atomic::create_dir(&directory)?;
        let json = serde_json::to_vec_pretty(&report)?;
        atomic::write(&directory.join("report.json"), &json)?;
        self.out.say(table(&report));
        let change = self.change(&run.owner, "evaluated by the run");
        self.stores.registry.attach_report(version, &report, change)?;
        Ok(Fact::Evaluated { passed: report.decision.passed, summary: summary(&report) })
    }

    fn start_release(
        &self,
        run: &Run,
        recipe: &Recipe,
        version: &AdapterVersion,
    ) -> Result<Fact, PortError> {
        if let Some(open) = self.stores.registry.open_release(&recipe.task)?
            && open.candidate == *version
        {
            return Ok(Fact::ReleaseStarted { release: open.id });
        }
        let release = self.release(recipe, version, (&run.owner, &run.reason), (None, false))?;
        Ok(Fact::ReleaseStarted { release: release.id })
    }

    fn not_yet(
        &self,
        recipe: &Recipe,
        version: &AdapterVersion,
    ) -> Result<Option<String>, PortError> {
        let registry = &self.stores.registry;
        let (need, have) =
            (registry.protection(&recipe.task)?.approvals, registry.approvals(version)?.len());
        if have < need as usize {
            return Ok(Some(format!(
                "approvals of {version}, of which there are {have} of {need}; `understudy release \
                 approve {version}` gives one"
            )));
        }
        let now = self.stores.clock.now();
        let frozen = registry.freezes(now)?.into_iter().find(|freeze| {
            freeze.from <= now && freeze.task.as_ref().is_none_or(|task| *task == recipe.task)
        });
        if let Some(freeze) = frozen {
            return Ok(Some(format!("the end of {freeze}")));
        }
        let other = registry.open_release(&recipe.task)?.filter(|open| open.candidate != *version);
        Ok(other.map(|open| format!("the end of {}, a release of {}", open.id, open.candidate)))
    }

    fn release_end(&self, _: &Run, release: &ReleaseId) -> Result<Option<Fact>, PortError> {
        let release = self.stores.registry.release(release)?;
        // Somebody who watches can be told that it is paused; the loop waits for whoever resumes it.
        let goes_on = match self.unattended {
            Some(_) => release.state.is_open(),
            None => release.state.is_moving(),
        };
        if goes_on {
            return Ok(None);
        }
        let end = match release.state {
            ReleaseState::Promoted => ReleaseEnd::Promoted,
            // Given up with nothing against the candidate.
            ReleaseState::Aborted | ReleaseState::Superseded => ReleaseEnd::Inconclusive,
            state if state.has_ended() => ReleaseEnd::RolledBack,
            _ => ReleaseEnd::Inconclusive,
        };
        Ok(Some(Fact::ReleaseEnded { end, why: release.changed_because }))
    }
}

impl Stages<'_> {
    /// Builds and freezes what a recipe names, or finds the version it names.
    pub(crate) fn dataset(&self, recipe: &Recipe) -> Result<FrozenDataset> {
        self.dataset_until(recipe, None)
    }

    /// A turn names its last record and its moment, so that a dataset built again after a crash is
    /// the same one.
    fn dataset_until(&self, recipe: &Recipe, turn: Option<&Turn>) -> Result<FrozenDataset> {
        let root = self.stores.data.datasets();
        if let DataSource::Version(version) = &recipe.data.source {
            return Ok(FrozenDataset::find(&root, version)?);
        }
        self.read(recipe, (turn, None), |builder| Ok(builder.finish()?.freeze(&root)?))
    }

    /// What every stage of a build by this recipe does to one step.
    pub(crate) fn explain(&self, recipe: &Recipe, step: &str) -> Result<Vec<Verdict>> {
        self.read(recipe, (None, Some(step)), |builder| Ok(builder.explain()?))
    }

    /// The replies that no row is made of until a person has settled what was said of them, and the
    /// bursts that a person should look at.
    pub(crate) fn review(&self, recipe: &Recipe) -> Result<Vec<Review>> {
        self.read(recipe, (None, None), |builder| Ok(builder.review()?))
    }

    /// Feeds a build with what the journal holds.
    fn read<T>(
        &self,
        recipe: &Recipe,
        (turn, follow): (Option<&Turn>, Option<&str>),
        end: impl FnOnce(Builder<'_>) -> Result<T>,
    ) -> Result<T> {
        let suites: Vec<SuiteFingerprints> =
            suite::all(&self.stores.data)?.iter().map(SuiteFingerprints::of).collect();
        let until_seq = turn.map(|turn| turn.until);
        let query = Query { task: Some(recipe.task.clone()), until_seq, ..Query::default() };
        let scan = self.stores.journal.scan(&query)?;
        let sources = [
            late::source(scan.until_seq()),
            format!("telemetry by the rules of mapper@{MAPPER_VERSION}"),
        ];
        let request = Request {
            task: &recipe.task,
            data: &recipe.data,
            seed: recipe.seed,
            sources: &sources,
            suites: &suites,
            now: turn.map_or_else(|| self.stores.clock.now(), |turn| turn.at),
        };
        // Beside the versions, because a system's own directory for temporary files may be memory.
        let root = self.stores.data.datasets();
        atomic::create_dir(&root)?;
        let recogniser = self.recogniser.as_ref().map(RecogniserSettings::open).transpose()?;
        let late = late::late(&self.stores.journal, &root, &recipe.task, scan.until_seq())?;
        let mut builder = Builder::new(request, &root)?.late(late);
        if let Some(recogniser) = &recogniser {
            builder = builder.recognising(recogniser);
        }
        let accounts = self.accounts.as_deref().map(accounts).transpose()?;
        if let Some(accounts) = &accounts {
            builder = builder.knowing(accounts);
        }
        let lessons = (recipe.data.memory_slot > 0.0)
            .then(|| {
                Remembering::open(None, None, &self.stores.data.memory(), self.embedder.clone())
            })
            .transpose()
            .context("the recipe's memory_slot needs lessons")?;
        if let Some(lessons) = &lessons {
            builder = builder.remembering(lessons);
        }
        let tokens = recipe.data.counts_tokens().then(|| BaseTokens::of(&self.base)).transpose()?;
        if let Some(tokens) = &tokens {
            builder = builder.counting(tokens);
        }
        if let Some(name) = follow {
            builder = builder.following(name);
        }
        for trajectory in scan {
            builder.add(trajectory?)?;
        }
        end(builder)
    }

    /// Opens a release after making sure that what it would return to still loads.
    pub(crate) fn release(
        &self,
        recipe: &Recipe,
        version: &AdapterVersion,
        (owner, reason): (&str, &str),
        (forced, supersede): (Option<Override>, bool),
    ) -> Result<ReleaseRecord> {
        if forced.is_none() {
            report::about_gate(recipe, version, &self.stores.registry.reports(version)?)?;
        }
        let change = self.change(owner, reason);
        // What serves already is what a rollback returns to, and no teacher is looked for.
        let serves = self.stores.registry.stable(&version.task)?.is_some();
        let has_teacher = !serves && (self.make_teacher)()?.is_some();
        let first = if has_teacher { Target::Teacher } else { Target::Base };
        let defaults = &self.policy;
        let opening = Opening { candidate: version, recipe, forced, supersede, first, defaults };
        let student = || -> Result<&dyn Student> { Ok(&**self.student(recipe)?) };
        understudy_canary::open(&self.stores.registry, student, opening, change)
    }

    /// The loop acts as a program, whatever roles people have.
    fn change<'a>(&'a self, owner: &'a str, reason: &'a str) -> Change<'a> {
        let change = Change::new(owner, reason, &*self.stores.clock);
        if self.unattended.is_some() { change.by_program() } else { change }
    }

    /// Loads a registered version into the engine and returns the generation it reports.
    fn load(&self, recipe: &Recipe, version: &AdapterVersion) -> Result<String> {
        let directory = self.stores.registry.verify(version)?;
        let info = self.student(recipe)?.load_adapter(&version.to_string(), &directory)?;
        Ok(info.generation)
    }

    fn student(&self, recipe: &Recipe) -> Result<&Arc<dyn Student>> {
        Ok(&self.answering(recipe)?.0)
    }

    fn answering(&self, recipe: &Recipe) -> Result<&Answering> {
        if let Some(answering) = self.student.get() {
            return Ok(answering);
        }
        let held = (HeldIn::default(), self.device.as_str());
        let (engine, weights) = wiring::known_engine(&self.base, &recipe.base, held)?;
        Ok(self.student.get_or_init(|| (engine, Some(weights))))
    }

    /// What the dev split is scored by: the gate's scorer, the suite's first, or equality.
    pub(crate) fn primary(&self, recipe: &Recipe) -> Result<Scorer> {
        let Some(gate) = &recipe.gate else { return Ok(Scorer::Exact) };
        if let Some(scorer) = &gate.scorer {
            return Ok(scorer.clone());
        }
        let suite = suite::read(&self.stores.data, gate.suite.as_str())?;
        suite.scorers.first().cloned().ok_or_else(|| anyhow!("the suite names no scorer"))
    }
}

fn accounts(path: &Path) -> Result<Accounts> {
    let read = || -> Result<Accounts> { Ok(Accounts::parse(&fs::read_to_string(path)?)?) };
    read().with_context(|| format!("failed to read the account records in {}", path.display()))
}

pub(crate) fn frozen(dataset: &FrozenDataset) -> Fact {
    let manifest = dataset.manifest();
    Fact::DatasetFrozen {
        version: dataset.version().clone(),
        sft_rows: manifest.rows("sft.train.jsonl"),
        pair_rows: manifest.rows("pairs.train.jsonl"),
    }
}

/// The primary comparison in one line.
fn summary(report: &EvalReport) -> String {
    let failed: Vec<&str> = report
        .decision
        .checks
        .iter()
        .filter(|check| !check.passed)
        .map(|check| check.detail.as_str())
        .collect();
    if !failed.is_empty() {
        return failed.join("; ");
    }
    let primary = report.comparisons.first().map(|primary| {
        format!(
            "{} on {}: {:+.3} [{:+.3}, {:+.3}]",
            primary.verdict.as_str(),
            primary.scorer,
            primary.difference,
            primary.low,
            primary.high
        )
    });
    primary.unwrap_or_else(|| "no scorer compared".to_owned())
}
