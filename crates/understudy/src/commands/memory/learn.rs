//! Lessons out of what was recorded, and out of attempts that are made to learn from; and a lesson
//! tried before it is released.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::json;
use understudy_dataset::SuiteFingerprints;
use understudy_ident::{Clock as _, SystemClock};
use understudy_inference::Embedder;
use understudy_journal::Query;
use understudy_memory::{
    Attempts, Comparison, Counted, Distil, Episode, Job, Judgement, Key, LearnReport, NoVerifier,
    Proposed, TeacherDistiller, Transcript, Trial, Verifier, records, was_attempted,
};
use understudy_trajectory::{JudgedStep, Trajectory};

use super::{
    Opened, by,
    exchange::write_new,
    practice::{self, Room, Source},
    show,
};
use crate::{
    cli::{LearnArgs, MemoryReplayArgs},
    commands::{Exit, suite},
    config::Config,
    output::Out,
    paths::DataDir,
    wiring::{self, Stores},
};

pub(super) fn learn(args: &LearnArgs, config: &Config, out: Out) -> Result<Exit> {
    practice::check(&args.practice)?;
    let opened = Opened::open(&args.scope, config)?;
    let deployment = &opened.deployment;
    let key = opened.root.key_of(&deployment.tenant);
    let spinner = out.spinner("reading the journal");
    let read = Recorded::read(&config.data, args.task.as_deref())?;
    spinner.finish_and_clear();
    let (mut made, mut left_out) = (None, 0);
    if let Some(path) = args.attempts.as_deref().filter(|path| path.exists()) {
        bail!("{} exists, and attempts are written to a new file", path.display());
    }
    let mut episodes = Vec::new();
    let mut verifier: Box<dyn Verifier> = Box::new(NoVerifier);
    if args.practice.environment.is_none() {
        episodes.extend(read.episodes(&opened, &key));
    }
    if let Some(runs) = args.practice.runs {
        let mut room = practice::room(
            &args.practice,
            practice::FOR_LEARNING,
            &opened,
            &read.source(args.task.as_deref(), config),
        )?;
        left_out = room.left_out;
        let attempted = attempt(runs, &args.practice, &mut room, config, out)?;
        let told = attempted.transcripts.iter();
        episodes.extend(told.map(|told| Episode::read(told, &deployment.catalogue, &key)));
        verifier = room.verifier;
        made = Some(attempted);
    }
    let teacher = match (args.teacher, wiring::teacher(config)?) {
        (true, Some(backend)) => Some(TeacherDistiller::new(backend)),
        (true, None) => bail!("no teacher is configured; set [teacher] in understudy.toml"),
        (false, _) => None,
    };
    let embedder = opened.embedder()?;
    let job = Job {
        catalogue: &deployment.catalogue,
        key: &key,
        settings: &deployment.settings,
        embedder: embedder.as_ref(),
        teacher: teacher.as_ref().map(|teacher| teacher as &dyn Distil),
        now: SystemClock.now(),
    };
    let mut report = job.learn(&episodes, verifier.as_mut())?;
    if args.practice.environment.is_none() {
        report = report.without("it repeats a case of a suite", read.repeats);
        report = report.without("it was attempted to learn from before", read.attempted);
    }
    report = report.without("another suite decides by the case", left_out);
    for (why, runs) in made.iter().flat_map(|made| &made.count.unfit) {
        report = report.without(why, *runs);
    }
    let written = match (&args.attempts, &made) {
        (Some(path), Some(made)) => Some(write(path, &records(&report.groups, made))?),
        _ => None,
    };
    let proposed = propose(args, &opened, &report, embedder.as_ref())?;
    let told = (made.as_ref().map(|made| &made.count), written.as_ref());
    say_learnt(&report, &proposed, told, out)?;
    Ok(Exit::Ok)
}

/// Attempts in a file.
#[derive(Debug, Serialize)]
struct Written {
    file: PathBuf,
    runs: usize,
    steps: usize,
}

/// As `understudy import` reads them.
fn write(path: &Path, records: &[JudgedStep]) -> Result<Written> {
    let mut lines = Vec::new();
    let mut runs = 0;
    for JudgedStep { step, outcomes } in records {
        lines.push(json!({"step": step}).to_string());
        lines.extend(outcomes.iter().map(|outcome| json!({"outcome": outcome}).to_string()));
        runs += outcomes.len();
    }
    write_new(path, &lines)?;
    Ok(Written { file: path.to_owned(), runs, steps: records.len() })
}

fn propose(
    args: &LearnArgs,
    opened: &Opened,
    report: &LearnReport,
    embedder: &dyn Embedder,
) -> Result<Vec<Proposed>> {
    if args.dry_run {
        return Ok(Vec::new());
    }
    let by = by(&args.scope, &args.reason)?;
    let propose = |item: &_| Ok(opened.store.propose(Clone::clone(item), embedder, &by)?);
    report.proposals.iter().map(propose).collect()
}

/// Has the requests attempted by the student, and by the teacher where there is one.
fn attempt(
    runs: u32,
    args: &crate::cli::PracticeArgs,
    room: &mut Room<'_>,
    config: &Config,
    out: Out,
) -> Result<understudy_memory::Made> {
    let mut teacher = practice::teacher(args, config)?;
    if teacher.is_none() && args.environment.is_none() && args.suite.is_none() {
        bail!(
            "runs of recorded requests are judged by what they and a teacher agree on, and no \
             teacher is configured: set [teacher] in understudy.toml, or practise with --suite or \
             --environment desk"
        );
    }
    let mut student = practice::student(args, practice::FOR_LEARNING, config, out)?;
    let attempts = Attempts { runs, seed: practice::seed(args), at: SystemClock.now() };
    let each = u64::from(runs) + u64::from(teacher.is_some());
    let bar = out.bar(each * room.practice.tasks().len() as u64, "attempts");
    let made = attempts.make(
        room.practice.as_mut(),
        &mut student,
        teacher.as_mut().map(|teacher| teacher as &mut dyn understudy_memory::Player),
        &mut || bar.inc(1),
    )?;
    bar.finish_and_clear();
    Ok(made)
}

/// What the journal holds, but for what would be judged by what it was learnt from.
struct Recorded {
    trajectories: Vec<Trajectory>,
    /// Left out because they repeat a case of a suite.
    repeats: u64,
    /// Left out because nobody asked for them.
    attempted: u64,
}

impl Recorded {
    fn read(data: &DataDir, task: Option<&str>) -> Result<Self> {
        let stores = Stores::open(data)?;
        let task = task.map(str::parse).transpose()?;
        let suites: Vec<SuiteFingerprints> =
            suite::all(data)?.iter().map(SuiteFingerprints::of).collect();
        let mut read = Self { trajectories: Vec::new(), repeats: 0, attempted: 0 };
        for trajectory in stores.journal.scan(&Query { task, ..Query::default() })? {
            let trajectory = trajectory?;
            if was_attempted(&trajectory) {
                read.attempted += 1;
            } else if repeats_a_case(&trajectory, &suites) {
                read.repeats += 1;
            } else {
                read.trajectories.push(trajectory);
            }
        }
        Ok(read)
    }

    fn source<'a>(&'a self, agent: Option<&'a str>, config: &'a Config) -> Source<'a> {
        Source { data: &config.data, agent, recorded: &self.trajectories }
    }

    fn episodes(&self, opened: &Opened, key: &Key) -> Vec<Episode> {
        let catalogue = &opened.deployment.catalogue;
        let told = self.trajectories.iter().filter_map(Transcript::of_trajectory);
        told.map(|told| Episode::read(&told, catalogue, key)).collect()
    }
}

fn repeats_a_case(trajectory: &Trajectory, suites: &[SuiteFingerprints]) -> bool {
    let mut prompts = trajectory.steps.iter().map(|judged| &judged.step.prompt);
    prompts.any(|prompt| suites.iter().any(|suite| suite.find(prompt).is_some()))
}

fn say_learnt(
    report: &LearnReport,
    proposed: &[Proposed],
    (made, written): (Option<&Counted>, Option<&Written>),
    out: Out,
) -> Result<()> {
    if let Some(made) = made {
        let (runs, requests) = (made.runs, made.requests);
        let writes = made.shadow.stubbed_writes;
        out.say(format!(
            "{runs} runs of {requests} requests; {writes} writes only seemed to happen"
        ));
    }
    let eligible = format!("{} of {} episodes may teach", report.eligible, report.episodes);
    out.say(format!("{eligible}, in {} kinds of task", report.patterns));
    for (why, count) in report.skipped.iter().chain(&report.no_learning) {
        out.say(format!("  {count:>6} passed over: {why}"));
    }
    for (why, count) in &report.refused {
        out.say(format!("  {count:>6} lessons refused: {why}"));
    }
    if !report.quarantined.is_empty() {
        out.say(format!("  words to approve or to avoid: {}", report.quarantined.join(", ")));
    }
    for (nth, item) in report.proposals.iter().enumerate() {
        out.say(format!("  {} {}", show::short(&item.id), show::sentence(item)));
        if let Some(Proposed::Settled { by, reason }) = proposed.get(nth) {
            let by = show::short(by);
            out.say(format!("         not proposed: retired before as {by}, because {reason}"));
        }
    }
    out.say(&report.verdict);
    if let Some(Written { file, runs, steps }) = written {
        out.say(format!(
            "{runs} attempts at {} requests that some won and others lost, in {steps} steps, are in {}",
            report.groups.len(),
            file.display()
        ));
    }
    out.value(&json!({"report": report, "lessons": report.proposals, "proposed": proposed,
        "attempts": made, "written": written}))
}

pub(super) fn replay(args: &MemoryReplayArgs, config: &Config, out: Out) -> Result<Exit> {
    let opened = Opened::open(&args.scope, config)?;
    let id = opened.lesson(&args.lesson)?;
    let lesson = opened.store.get(&id, SystemClock.now())?.item;
    let read = Recorded::read(&config.data, None)?;
    let (practised, requests) = (&args.practice, practice::FOR_TRYING);
    let agent = lesson.agent.as_ref().map(understudy_memory::Declared::as_str);
    let source = read.source(agent, config);
    let mut room = practice::room(practised, requests, &opened, &source)?;
    let mut student = practice::student(practised, requests, config, out)?;
    let embedder = opened.embedder()?;
    let trial = Trial {
        catalogue: &opened.deployment.catalogue,
        key: opened.store.key(),
        embedder: embedder.as_ref(),
        runs: practised.runs.unwrap_or(1),
        seed: practice::seed(practised),
        at: SystemClock.now(),
    };
    let bar = out.bar(room.practice.tasks().len() as u64, "requests");
    let compared =
        trial.compare(room.practice.as_mut(), &mut student, &lesson, &mut || bar.inc(1))?;
    bar.finish_and_clear();
    out.say(format!("{} {}", show::short(&id), show::sentence(&lesson)));
    say_compared(&compared, out);
    out.value(&json!({"lesson": id, "comparison": compared}))?;
    Ok(if compared.verdict == Judgement::Worse { Exit::No } else { Exit::Ok })
}

fn say_compared(compared: &Comparison, out: Out) {
    for (why, count) in &compared.skipped {
        out.say(format!("  {count:>6} requests passed over: {why}"));
    }
    for (side, means) in [("without", &compared.without), ("with", &compared.with)] {
        out.say(format!(
            "  {side:<8} {:.3} right, {:.3} of the calls sound, {:.1} calls",
            means.correctness, means.tools, means.calls
        ));
    }
    let [low, high] = compared.interval.map(|bound| 100.0 * bound);
    let verdict = match compared.verdict {
        Judgement::Better => "better",
        Judgement::Worse => "worse",
        Judgement::Inconclusive => "inconclusive",
    };
    out.say(format!(
        "{verdict}: {:+.1} points, from {low:+.1} to {high:+.1}, over {} requests; {} writes only \
         seemed to happen",
        100.0 * compared.difference,
        compared.requests,
        compared.shadow.stubbed_writes
    ));
}
