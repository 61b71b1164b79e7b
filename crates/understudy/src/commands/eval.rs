//! `understudy eval`: one subject beside another on the same cases.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, anyhow, bail};
use understudy_dataset::FrozenDataset;
use understudy_evaluation::{
    Cache, Document, Evidence, Format, Kept, NearestExample, NoCache, RunOptions, Subject,
    SubjectRun, assemble, details, read_recorded, render, table, write_recorded,
};
use understudy_ident::{DatasetVersion, Digest};
use understudy_inference::Student;
use understudy_manifest::{EvalReport, Gate, RequiredVerdict, Split, Suite, Verdict};
use understudy_registry::Registry;
use understudy_storage::atomic;

use super::{Exit, judge::Bench, model, suite};
use crate::{cli::EvalArgs, config::Config, held::HeldIn, kept::KeptLog, output::Out, wiring};

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
    let [baseline, candidate] = answers(args, config, &registry, (&suite, &gate), out)?;
    let evidence =
        Evidence { baseline: &baseline, candidate: &candidate, others: trivial.as_slice() };
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
    let texts = [args.baseline.as_str(), args.subject.as_str()];
    let mut recorded = texts
        .iter()
        .filter(|text| Path::new(text).is_file())
        .map(|text| {
            let answers = fs::read_to_string(text)?;
            read_recorded(text, suite, &answers).with_context(|| format!("failed to use {text}"))
        })
        .collect::<Result<Vec<SubjectRun>>>()?;
    let asked: Vec<&str> =
        texts.iter().copied().filter(|text| !Path::new(text).is_file()).collect();
    if !asked.is_empty() {
        let name = args.base.clone().unwrap_or_else(|| config.base.clone());
        let held = (HeldIn::default(), config.device.as_str());
        let engine = wiring::known_engine(&model::obtain(config, &name, out)?, &name, held)?;
        let cache: &mut dyn Cache =
            if args.no_cache { &mut NoCache } else { &mut KeptLog::open(&config.data.answers())? };
        let names = (registry, asked.as_slice());
        recorded.extend(ask(&engine, names, (suite, gate), cache, out)?);
    }
    let mut take = |text: &str| {
        let at = recorded.iter().position(|run| run.subject == text);
        at.map(|at| recorded.remove(at)).with_context(|| format!("`{text}` gave no answers"))
    };
    Ok([take(texts[0])?, take(texts[1])?])
}

fn ask(
    (engine, weights): &(Arc<dyn Student>, Digest),
    (registry, names): (&Registry, &[&str]),
    (suite, gate): (&Suite, &Gate),
    cache: &mut dyn Cache,
    out: Out,
) -> Result<Vec<SubjectRun>> {
    let load = |name: &&str| subject(name, registry, &**engine);
    let loaded = names.iter().map(load).collect::<Result<Vec<_>>>()?;
    let (subjects, generations): (Vec<Subject>, Vec<String>) = loaded.into_iter().unzip();
    let identity = |generation: &String| {
        Some(Digest::of_parts([weights.as_bytes().as_slice(), generation.as_bytes()]))
    };
    let identities: Vec<Option<Digest>> = generations.iter().map(identity).collect();
    let kept = Kept { cache, subjects: &identities };
    let options = RunOptions { max_new_tokens: gate.max_new_tokens, concurrency: CONCURRENCY };
    let bar = out.bar((subjects.len() * suite.cases.len()) as u64, "evaluation");
    let show = &mut |progress: understudy_evaluation::Progress<'_>| {
        bar.set_position(progress.done as u64);
        if progress.kept > 0 {
            bar.set_message(format!("{} answered before", progress.kept));
        }
    };
    let runs = understudy_evaluation::resume(&**engine, suite, &subjects, options, kept, show)?;
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
    let info = engine.load_adapter(text, &directory)?;
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
        (None, Ok(adapter)) => registry.get(&adapter)?.record.lineage.dataset.version,
        (None, Err(_)) => return Ok(None),
    };
    match FrozenDataset::find(&config.data.datasets(), &version) {
        Ok(dataset) => Ok(Some(NearestExample::fit(&dataset.sft(Split::Train)?))),
        // An adapter from elsewhere names data that need not be here.
        Err(_) if args.examples.is_none() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
