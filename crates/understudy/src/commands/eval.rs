//! `understudy eval`: one subject beside another on the same cases.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, anyhow, bail};
use understudy_dataset::FrozenDataset;
use understudy_evaluation::{
    Document, Evidence, Format, NearestExample, RunOptions, Subject, SubjectRun, assemble, details,
    read_recorded, render, table, write_recorded,
};
use understudy_ident::DatasetVersion;
use understudy_inference::Student;
use understudy_manifest::{EvalReport, Gate, RequiredVerdict, Split, Suite, Verdict};
use understudy_registry::Registry;
use understudy_storage::atomic;

use super::{Exit, model, suite};
use crate::{cli::EvalArgs, config::Config, held::HeldIn, meaning, output::Out, wiring};

/// Requests in flight, which the engine decodes as one batch.
const CONCURRENCY: usize = 16;

pub(crate) fn run(args: &EvalArgs, config: &Config, out: Out) -> Result<Exit> {
    let reports = args.reports.iter().map(|text| target(text)).collect::<Result<Vec<_>>>()?;
    let suite = suite::read(&config.data, &args.suite)?;
    let gate = gate(args, &suite)?;
    let registry = Registry::open(&config.data.registry(), &config.data.adapters())?;
    let trivial = nearest(args, config, &registry)?.map(|nearest| nearest.run(&suite));
    let [baseline, candidate] = answers(args, config, &registry, (&suite, &gate), out)?;
    let embedder = meaning::sentences(config)?;
    let evidence = Evidence {
        baseline: &baseline,
        candidate: &candidate,
        others: trivial.as_slice(),
        embedder: embedder.as_deref(),
    };
    let mut report = assemble(&suite, &gate, evidence, args.seed)?;
    let cases = details(&suite, &gate, evidence)?;
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
        let engine = wiring::engine(&model::obtain(config, &name, out)?, &name, held)?;
        recorded.extend(ask(&engine, &asked, registry, (suite, gate), out)?);
    }
    let mut take = |text: &str| {
        let at = recorded.iter().position(|run| run.subject == text);
        at.map(|at| recorded.remove(at)).with_context(|| format!("`{text}` gave no answers"))
    };
    Ok([take(texts[0])?, take(texts[1])?])
}

fn ask(
    engine: &Arc<dyn Student>,
    names: &[&str],
    registry: &Registry,
    (suite, gate): (&Suite, &Gate),
    out: Out,
) -> Result<Vec<SubjectRun>> {
    let load = |name: &&str| subject(name, registry, &**engine);
    let subjects = names.iter().map(load).collect::<Result<Vec<_>>>()?;
    let options = RunOptions { max_new_tokens: gate.max_new_tokens, concurrency: CONCURRENCY };
    let bar = out.bar((subjects.len() * suite.cases.len()) as u64, "evaluation");
    let runs = understudy_evaluation::run(&**engine, suite, &subjects, options, &mut |progress| {
        bar.set_position(progress.done as u64);
    })?;
    bar.finish_and_clear();
    Ok(runs)
}

/// `base`, a registered version, or a directory, loaded into the engine.
fn subject(text: &str, registry: &Registry, engine: &dyn Student) -> Result<Subject> {
    if text == "base" {
        return Ok(Subject { name: text.to_owned(), adapter: None });
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
    engine.load_adapter(text, &directory)?;
    Ok(Subject { name: text.to_owned(), adapter: Some(text.to_owned()) })
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
