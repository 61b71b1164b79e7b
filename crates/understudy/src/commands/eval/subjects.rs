//! Who is held against the suite, and what they say.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use understudy_evaluation::{
    Cache, Kept, NoCache, Progress, PromptOf, Repeats, RunOptions, Subject, SubjectRun, attempt,
    computable, read_recorded, resume,
};
use understudy_ident::{AdapterVersion, Digest};
use understudy_inference::{LogProbsOf, Student};
use understudy_manifest::{Case, Gate, Suite};
use understudy_registry::Registry;

use super::{lessons::Shown, limits, trivial};
use crate::{
    cli::EvalArgs,
    commands::{memory::Remembering, model},
    config::Config,
    held::HeldIn,
    kept::{KeptLog, identity},
    meaning,
    output::Out,
    ports::Answering,
    wiring,
};

/// Requests in flight, which the engine decodes as one batch.
const CONCURRENCY: usize = 16;

/// The answers of baseline and candidate. Those that have to be given first are asked of one
/// engine, interleaved; if both were recorded, no engine starts.
pub(super) fn answers(
    args: &EvalArgs,
    config: &Config,
    registry: &Registry,
    (suite, gate): (&Suite, &Gate),
    out: Out,
) -> Result<[SubjectRun; 2]> {
    let both = [
        Asked::of((&args.baseline, args.baseline_memory.as_deref()), args, config)?,
        Asked::of((&args.subject, args.memory.as_deref()), args, config)?,
    ];
    refuse_pointless(&both, args)?;
    both.iter().try_for_each(|asked| asked.refuse_taught(suite))?;
    let repeats = limits::repeats(args)?;
    let mut answered = Vec::new();
    for asked in &both {
        let recorded = asked.is_recorded().then(|| asked.recorded(suite)).transpose()?;
        computable(suite, gate, &asked.name, recorded.as_ref())?;
        answered.extend(recorded);
    }
    let asked: Vec<&Asked<'_>> = both.iter().filter(|asked| !asked.is_recorded()).collect();
    if !asked.is_empty() {
        let engine = engine(args, config, out)?;
        let cache: &mut dyn Cache =
            if args.no_cache { &mut NoCache } else { &mut KeptLog::open(&config.data.answers())? };
        let device = config.device.as_str();
        let asking = Asking { engine: &engine, registry, device, suite, gate, repeats, out };
        answered.extend(asking.ask(&asked, cache)?);
    }
    let mut take = |asked: &Asked<'_>| {
        let at = answered.iter().position(|run| run.subject == asked.name);
        at.map(|at| answered.remove(at))
            .with_context(|| format!("`{}` gave no answers", asked.name))
    };
    let [mut baseline, mut candidate] = [take(&both[0])?, take(&both[1])?];
    if let Some(prices) = gate.prices {
        baseline.price(prices);
        candidate.price(prices);
    }
    if let Some(lessons) = &both[1].lessons {
        // The report is about the lessons, which are the candidate's content here.
        candidate.generation = Some(lessons.release().to_hex());
    }
    Ok([baseline, candidate])
}

/// A subject beside itself, and settings of lessons where there are none.
fn refuse_pointless(both: &[Asked<'_>; 2], args: &EvalArgs) -> Result<()> {
    let with_lessons = |asked: &Asked<'_>| asked.lessons.is_some();
    ensure!(
        args.agent.is_none() || both.iter().any(with_lessons),
        "--agent says whose lessons are shown, and none are: name a release with --memory"
    );
    let [baseline, candidate] = both;
    ensure!(
        baseline.name != candidate.name,
        "`{}` would be held against itself: name another --baseline, or show one of the two other \
         lessons",
        candidate.name
    );
    Ok(())
}

/// The models that answer: the base, with an adapter or without, unless both were recorded.
pub(super) fn models(args: &EvalArgs, config: &Config) -> Vec<String> {
    let answers_now = |subject: &String| !Path::new(subject).is_file();
    let now = [&args.subject, &args.baseline].into_iter().any(answers_now);
    now.then(|| base(args, config)).into_iter().collect()
}

fn base(args: &EvalArgs, config: &Config) -> String {
    args.base.clone().unwrap_or_else(|| config.base.clone())
}

/// Somebody to hold against the suite.
struct Asked<'a> {
    text: &'a str,
    /// In the report.
    name: String,
    lessons: Option<Remembering>,
    /// Whose lessons they are; none where nothing but the suite says so.
    agent: Option<String>,
}

impl<'a> Asked<'a> {
    fn of(
        (text, memory): (&'a str, Option<&str>),
        args: &EvalArgs,
        config: &Config,
    ) -> Result<Self> {
        let lessons = memory.map(|asked| remembering(asked, config)).transpose()?;
        let name = match &lessons {
            Some(lessons) => format!("{text} with memory {}", lessons.release().short()),
            None => text.to_owned(),
        };
        let either = || task(text).or_else(|| task(&args.subject)).or_else(|| task(&args.baseline));
        Ok(Self { text, name, lessons, agent: args.agent.clone().or_else(either) })
    }

    fn is_recorded(&self) -> bool {
        Path::new(self.text).is_file()
    }

    fn recorded(&self, suite: &Suite) -> Result<SubjectRun> {
        let Self { text, name, lessons, .. } = self;
        if lessons.is_some() {
            bail!("{text} was answered before; lessons can only be shown to whoever answers now");
        }
        let answers = fs::read_to_string(text)?;
        read_recorded(name, suite, &answers).with_context(|| format!("failed to use {text}"))
    }

    /// Cases can say nothing of what was learnt from them.
    fn refuse_taught(&self, suite: &Suite) -> Result<()> {
        let Some(lessons) = &self.lessons else { return Ok(()) };
        if let Some(lesson) = lessons.taught_by(&suite.cases)? {
            bail!(
                "lesson {lesson} of memory release {} was learnt from cases of suite `{}`, which can \
                 say nothing of it then; evaluate on another suite",
                lessons.release().short(),
                suite.name
            );
        }
        Ok(())
    }

    /// The lessons for every case. A comparison without any would be of equals.
    fn shown(
        &self,
        suite: &Suite,
        engine: &dyn Student,
        kept: (Option<Digest>, &mut dyn Cache),
    ) -> Result<Option<Shown>> {
        let Some(lessons) = &self.lessons else { return Ok(None) };
        let agent = self.agent.as_deref().unwrap_or(suite.name.as_str());
        let shown = Shown::of((lessons, agent), suite, engine, kept)?;
        if shown.used.cases == 0 {
            bail!(
                "no case of suite `{}` gets a lesson of memory release {} as agent `{agent}`, so \
                 there is nothing to compare; --agent names whose lessons are meant",
                suite.name,
                lessons.release().short()
            );
        }
        Ok(Some(shown))
    }
}

/// What a registered version or an adapter directory was made for.
fn task(subject: &str) -> Option<String> {
    if let Ok(version) = subject.parse::<AdapterVersion>() {
        return Some(version.task.to_string());
    }
    trivial::manifest(Path::new(subject)).map(|manifest| manifest.task)
}

fn remembering(asked: &str, config: &Config) -> Result<Remembering> {
    let release = (asked != "serves").then_some(asked);
    Remembering::open(None, release, &config.data.memory(), meaning::directory(config)?)
}

/// Who answers, and by what its answers may be kept; those of a fake are not worth it.
fn engine(args: &EvalArgs, config: &Config, out: Out) -> Result<Answering> {
    if args.mock_engine {
        return Ok((wiring::mock_engine(args.base.as_deref(), 0, LogProbsOf::Raw)?, None));
    }
    let name = base(args, config);
    let held = (HeldIn::default(), config.device.as_str());
    let (engine, weights) = wiring::known_engine(&model::obtain(config, &name, out)?, &name, held)?;
    Ok((engine, Some(weights)))
}

/// One engine, asked on behalf of everybody who has to answer now.
struct Asking<'a> {
    engine: &'a Answering,
    registry: &'a Registry,
    device: &'a str,
    suite: &'a Suite,
    gate: &'a Gate,
    repeats: Option<Repeats>,
    out: Out,
}

impl Asking<'_> {
    fn ask(&self, asked: &[&Asked<'_>], cache: &mut dyn Cache) -> Result<Vec<SubjectRun>> {
        let (engine, weights) = (&*self.engine.0, self.engine.1);
        let (mut subjects, mut identities, mut shown) = (Vec::new(), Vec::new(), Vec::new());
        for one in asked {
            let (subject, generation) = subject(one.text, self.registry, engine)?;
            subjects.push(Subject { name: one.name.clone(), ..subject });
            let release = one.lessons.as_ref().map(Remembering::release);
            let identity = identity(weights, &generation, release);
            shown.push(one.shown(self.suite, engine, (identity, &mut *cache))?);
            identities.push(identity);
        }
        for (one, shown) in asked.iter().zip(&shown) {
            if let Some(shown) = shown {
                let (with, all) = (shown.used.cases, self.suite.cases.len());
                self.out.say(format!("{} has lessons for {with} of {all} cases", one.name));
            }
        }
        let mut runs = self.run(&subjects, &shown, Kept { cache, subjects: &identities })?;
        for (run, shown) in runs.iter_mut().zip(shown) {
            let conditions = run.conditions.get_or_insert_default();
            conditions.weights = weights;
            conditions.device = weights.map(|_| self.device.to_owned());
            conditions.memory = shown.map(|shown| shown.used);
        }
        Ok(runs)
    }

    fn run(
        &self,
        subjects: &[Subject],
        shown: &[Option<Shown>],
        kept: Kept<'_>,
    ) -> Result<Vec<SubjectRun>> {
        let prompt_of = |subject: usize, case: &Case| match &shown[subject] {
            Some(shown) => shown.prompt(case),
            None => case.prompt.clone(),
        };
        let options =
            RunOptions { max_new_tokens: self.gate.max_new_tokens, concurrency: CONCURRENCY };
        let attempts = self.repeats.map_or(1, |repeats| repeats.each as usize);
        let total = attempts * subjects.len() * self.suite.cases.len();
        let bar = self.out.bar(total as u64, "evaluation");
        let show = &mut |progress: Progress<'_>| {
            bar.set_position(progress.done as u64);
            if progress.kept > 0 {
                bar.set_message(format!("{} answered before", progress.kept));
            }
        };
        let (engine, asked) = (&*self.engine.0, (subjects, &prompt_of as PromptOf<'_>));
        let runs = match self.repeats {
            Some(repeats) => attempt(engine, self.suite, asked, (options, repeats), kept, show)?,
            None => resume(engine, self.suite, asked, options, kept, show)?,
        };
        bar.finish_and_clear();
        Ok(runs)
    }
}

/// `base`, a registered version, or a directory, loaded into the engine, and its generation: of the
/// base, none.
pub(crate) fn subject(
    text: &str,
    registry: &Registry,
    engine: &dyn Student,
) -> Result<(Subject, String)> {
    if text == "base" {
        return Ok((Subject { name: text.to_owned(), adapter: None }, String::new()));
    }
    let directory = if Path::new(text).is_dir() {
        PathBuf::from(text)
    } else {
        let version = text.parse().with_context(|| {
            format!(
                "`{text}` is neither `base`, a version task@N, an adapter directory, nor a file of answers"
            )
        })?;
        registry.verify(&version)?
    };
    // The same adapter may answer twice: with lessons and without.
    let loaded = engine.adapters().into_iter().find(|loaded| loaded.alias == text);
    let info = match loaded {
        Some(info) => info,
        None => engine.load_adapter(text, &directory)?,
    };
    let subject = Subject { name: text.to_owned(), adapter: Some(text.to_owned()) };
    Ok((subject, info.generation))
}
