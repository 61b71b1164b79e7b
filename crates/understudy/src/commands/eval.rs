//! `understudy eval`: one subject beside another on the same cases.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use understudy_dataset::{FrozenDataset, Placed};
use understudy_evaluation::{
    Cache, Document, Evidence, Format, Kept, NearestExample, NoCache, PromptOf, RunOptions,
    Subject, SubjectRun, assemble, details, read_recorded, render, resume, scorers, table,
    write_recorded,
};
use understudy_ident::{DatasetVersion, Digest};
use understudy_inference::{Prompt, Student};
use understudy_manifest::{Case, EvalReport, Gate, RequiredVerdict, Split, Suite, Verdict};
use understudy_memory::estimated_tokens;
use understudy_message::Message;
use understudy_registry::Registry;
use understudy_storage::atomic;

use super::{Exit, judge::Bench, memory::Remembering, model, suite};
use crate::{
    cli::EvalArgs, config::Config, held::HeldIn, kept::KeptLog, meaning, output::Out, wiring,
};

/// Requests in flight, which the engine decodes as one batch.
const CONCURRENCY: usize = 16;

pub(crate) fn run(args: &EvalArgs, config: &Config, out: Out) -> Result<Exit> {
    let reports = args.reports.iter().map(|text| target(text)).collect::<Result<Vec<_>>>()?;
    let suite = suite::read(&config.data, &args.suite)?;
    let gate = gate(args, &suite)?;
    // What a judge lacks is said before the minutes that answering takes.
    let mut judge = Bench::of(&args.judge, config)?;
    let registry = Registry::open(&config.data.registry(), &config.data.adapters())?;
    let trivial = nearest(args, config, &registry)?.map(|nearest| nearest.run(&suite));
    let [baseline, mut candidate] = answers(args, config, &registry, (&suite, &gate), out)?;
    if let Some(asked) = &args.memory {
        // The report is about the lessons, which are the candidate's content here.
        candidate.generation = Some(remembering(asked, config)?.release().to_hex());
    }
    let directory = meaning::directory(config)?;
    let embedder = meaning::wanted(directory.as_deref(), &suite, &scorers(&suite, &gate))?;
    let evidence = Evidence {
        baseline: &baseline,
        candidate: &candidate,
        others: trivial.as_slice(),
        embedder: embedder.as_deref(),
    };
    let mut report = assemble(&suite, &gate, evidence, args.seed)?;
    let cases = details(&suite, &gate, evidence)?;
    if let Some(judge) = &mut judge {
        judge.hear(&mut report, (&suite, &gate), (&candidate, &baseline), out)?;
    }
    report.consultation = suite::consult(&config.data, &suite)?;
    for (format, path) in &reports {
        let text = render(*format, Document { report: &report, cases: &cases });
        atomic::write(path, text.as_bytes())?;
    }
    if let Some(directory) = &args.answers {
        atomic::create_dir(directory)?;
        for (name, run) in [("baseline", &baseline), ("candidate", &candidate)] {
            let path = directory.join(name).with_extension("jsonl");
            atomic::write(&path, write_recorded(run).as_bytes())?;
        }
    }
    if let Some(file) = &args.out {
        atomic::write(file, &serde_json::to_vec_pretty(&report)?)?;
    }
    out.either(table(&report), &report)?;
    Ok(exit(&report))
}

fn exit(report: &EvalReport) -> Exit {
    let verdict = report.comparisons.first().map(|primary| primary.verdict);
    match verdict {
        _ if report.decision.passed => Exit::Ok,
        Some(Verdict::Inconclusive) => Exit::Inconclusive,
        _ => Exit::No,
    }
}

/// `html=report.html`.
fn target(text: &str) -> Result<(Format, PathBuf)> {
    let (format, path) = text
        .split_once('=')
        .with_context(|| format!("`--report {text}` names no file: write FORMAT=PATH"))?;
    let format = format.parse().map_err(|why: String| anyhow!(why))?;
    Ok((format, PathBuf::from(path)))
}

fn gate(args: &EvalArgs, suite: &Suite) -> Result<Gate> {
    let verdict = match args.verdict.as_str() {
        "better" => RequiredVerdict::Better,
        "non_inferior" => RequiredVerdict::NonInferior,
        other => bail!("unknown verdict `{other}`: use better or non_inferior"),
    };
    Ok(Gate {
        suite: suite.name.clone(),
        verdict,
        margin: args.margin,
        scorer: None,
        latency_ratio_max: None,
        latency_p95_ratio_max: None,
        tokens_ratio_max: None,
        known_failures_fixed: 0,
        max_new_tokens: args.max_new_tokens,
    })
}

/// The answers of baseline and candidate. Those that have to be given first are asked of one
/// engine, interleaved; if both were recorded, no engine starts.
fn answers(
    args: &EvalArgs,
    config: &Config,
    registry: &Registry,
    (suite, gate): (&Suite, &Gate),
    out: Out,
) -> Result<[SubjectRun; 2]> {
    let both = [
        Asked::of(&args.baseline, args.baseline_memory.as_deref(), config)?,
        Asked::of(&args.subject, args.memory.as_deref(), config)?,
    ];
    let mut recorded = Vec::new();
    for Asked { text, name, lessons } in both.iter().filter(|asked| asked.is_recorded()) {
        if lessons.is_some() {
            bail!("{text} was answered before; lessons can only be shown to whoever answers now");
        }
        let answers = fs::read_to_string(text)?;
        let run = read_recorded(name, suite, &answers);
        recorded.push(run.with_context(|| format!("failed to use {text}"))?);
    }
    let asked: Vec<&Asked<'_>> = both.iter().filter(|asked| !asked.is_recorded()).collect();
    if !asked.is_empty() {
        let engine = engine(args, config, out)?;
        let cache: &mut dyn Cache =
            if args.no_cache { &mut NoCache } else { &mut KeptLog::open(&config.data.answers())? };
        recorded.extend(ask(&engine, (registry, &asked), (suite, gate), cache, out)?);
    }
    let mut take = |asked: &Asked<'_>| {
        let at = recorded.iter().position(|run| run.subject == asked.name);
        at.map(|at| recorded.remove(at))
            .with_context(|| format!("`{}` gave no answers", asked.name))
    };
    Ok([take(&both[0])?, take(&both[1])?])
}

/// Somebody to hold against the suite.
struct Asked<'a> {
    text: &'a str,
    /// In the report.
    name: String,
    lessons: Option<Remembering>,
}

impl<'a> Asked<'a> {
    fn of(text: &'a str, memory: Option<&str>, config: &Config) -> Result<Self> {
        let lessons = memory.map(|asked| remembering(asked, config)).transpose()?;
        let name = match &lessons {
            Some(lessons) => format!("{text} with memory {}", lessons.release().short()),
            None => text.to_owned(),
        };
        Ok(Self { text, name, lessons })
    }

    fn is_recorded(&self) -> bool {
        Path::new(self.text).is_file()
    }

    /// A case as a server would put it: with the lessons that fit, in the model's own tokens.
    fn prompt(&self, suite: &Suite, case: &Case, engine: &dyn Student) -> Result<Vec<Message>> {
        let Some(lessons) = &self.lessons else { return Ok(case.prompt.clone()) };
        let count = |text: &str| {
            let ids = engine.tokenize(&Prompt::Text(text.to_owned()));
            ids.map_or_else(|_| estimated_tokens(text), |ids| ids.len())
        };
        let tools = case.tools.iter().filter_map(|tool| {
            tool.get("function").unwrap_or(tool).get("name").and_then(Value::as_str)
        });
        let asked = (case.prompt.as_slice(), Some(tools.collect()));
        let room: (_, &dyn Fn(&str) -> usize) = (Some(engine.context()), &count);
        Ok(match lessons.prompt(suite.name.as_str(), asked, room)? {
            Placed::Shown(prompt) => prompt,
            Placed::NothingFits | Placed::ShownBefore => case.prompt.clone(),
        })
    }
}

fn remembering(asked: &str, config: &Config) -> Result<Remembering> {
    let release = (asked != "serves").then_some(asked);
    Remembering::open(None, release, &config.data.memory(), meaning::directory(config)?)
}

/// Who answers, and by what its answers may be kept; those of a fake are not worth it.
fn engine(
    args: &EvalArgs,
    config: &Config,
    out: Out,
) -> Result<(Arc<dyn Student>, Option<Digest>)> {
    if args.mock_engine {
        return Ok((wiring::mock_engine(args.base.as_deref().unwrap_or("mock"), 0)?, None));
    }
    let name = args.base.clone().unwrap_or_else(|| config.base.clone());
    let held = (HeldIn::default(), config.device.as_str());
    let (engine, weights) = wiring::known_engine(&model::obtain(config, &name, out)?, &name, held)?;
    Ok((engine, Some(weights)))
}

fn ask(
    (engine, weights): &(Arc<dyn Student>, Option<Digest>),
    (registry, asked): (&Registry, &[&Asked<'_>]),
    (suite, gate): (&Suite, &Gate),
    cache: &mut dyn Cache,
    out: Out,
) -> Result<Vec<SubjectRun>> {
    let (mut subjects, mut identities) = (Vec::new(), Vec::new());
    let mut prompts: Vec<BTreeMap<&str, Vec<Message>>> = Vec::new();
    for one in asked {
        let (subject, generation) = subject(one.text, registry, &**engine)?;
        subjects.push(Subject { name: one.name.clone(), ..subject });
        let release = one.lessons.as_ref().map(|lessons| lessons.release().to_hex());
        identities.push(weights.map(|weights| {
            let parts = [generation.as_str(), release.as_deref().unwrap_or_default()];
            Digest::of_parts([weights.to_hex().as_str(), parts[0], parts[1]].map(str::as_bytes))
        }));
        let own = suite
            .cases
            .iter()
            .map(|case| Ok((case.id.as_str(), one.prompt(suite, case, &**engine)?)));
        prompts.push(own.collect::<Result<_>>()?);
    }
    let shown = prompts.iter().zip(asked).filter(|(_, one)| one.lessons.is_some());
    for (prompts, one) in shown {
        let differs = |case: &&Case| prompts.get(case.id.as_str()) != Some(&case.prompt);
        let count = suite.cases.iter().filter(differs).count();
        out.say(format!("{} has lessons for {count} of {} cases", one.name, suite.cases.len()));
    }
    let prompt_of = |subject: usize, case: &Case| {
        prompts[subject].get(case.id.as_str()).cloned().unwrap_or_else(|| case.prompt.clone())
    };
    let kept = Kept { cache, subjects: &identities };
    let options = RunOptions { max_new_tokens: gate.max_new_tokens, concurrency: CONCURRENCY };
    let bar = out.bar((subjects.len() * suite.cases.len()) as u64, "evaluation");
    let show = &mut |progress: understudy_evaluation::Progress<'_>| {
        bar.set_position(progress.done as u64);
        if progress.kept > 0 {
            bar.set_message(format!("{} answered before", progress.kept));
        }
    };
    let asked = (subjects.as_slice(), &prompt_of as PromptOf<'_>);
    let runs = resume(&**engine, suite, asked, options, kept, show)?;
    bar.finish_and_clear();
    Ok(runs)
}

/// `base`, a registered version, or a directory, loaded into the engine, and its generation: of the
/// base, none.
fn subject(text: &str, registry: &Registry, engine: &dyn Student) -> Result<(Subject, String)> {
    if text == "base" {
        return Ok((Subject { name: text.to_owned(), adapter: None }, String::new()));
    }
    let directory = if Path::new(text).is_dir() {
        Path::new(text).to_owned()
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

/// Look-up in the named dataset, or in the one a registered subject was trained on.
fn nearest(
    args: &EvalArgs,
    config: &Config,
    registry: &Registry,
) -> Result<Option<NearestExample>> {
    let version: DatasetVersion = match (&args.examples, args.subject.parse()) {
        (Some(named), _) => named.parse()?,
        (None, Ok(adapter)) => match registry.get(&adapter)?.record.lineage.adapter() {
            Some(lineage) => lineage.dataset.version.clone(),
            None => return Ok(None),
        },
        (None, Err(_)) => return Ok(None),
    };
    match FrozenDataset::find(&config.data.datasets(), &version) {
        Ok(dataset) => Ok(Some(NearestExample::fit(&dataset.sft(Split::Train)?))),
        // An adapter from elsewhere names data that need not be here.
        Err(_) if args.examples.is_none() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
