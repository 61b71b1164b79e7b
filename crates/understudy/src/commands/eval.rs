//! `understudy eval`: one subject beside another on the same cases.

mod lessons;
mod limits;
mod subjects;
mod trivial;

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use understudy_evaluation::{
    Document, Evidence, Format, assemble, details, gate::VERDICT, render, scorers, table,
    write_recorded,
};
use understudy_manifest::{EvalReport, Suite, Tier, Verdict};
use understudy_registry::Registry;
use understudy_storage::atomic;

use super::{
    Exit,
    judge::{Bench, Statements},
    suite,
};
use crate::{cli::EvalArgs, config::Config, meaning, output::Out};

pub(crate) use lessons::Shown;
pub(crate) use subjects::subject;

pub(crate) fn run(args: &EvalArgs, config: &Config, out: Out) -> Result<Exit> {
    let reports = args.reports.iter().map(|text| target(text)).collect::<Result<Vec<_>>>()?;
    let suite = suite::read(&config.data, &args.suite)?;
    let gate = limits::gate(args, &suite)?;
    refuse_to_show(args, &suite)?;
    // What a judge lacks is said before the minutes that answering takes.
    let mut judge = Bench::of(&args.judge, config)?;
    if let Some(judge) = &judge {
        judge.refuse_own(&subjects::models(args, config))?;
    }
    let mut statements = Statements::of((&suite, &gate), config)?;
    if let Some(statements) = &statements {
        statements.refuse_own(&subjects::models(args, config))?;
    }
    let registry = Registry::open(&config.data.registry(), &config.data.adapters())?;
    let (trivial, note) = trivial::rows(args, config, &registry, &suite)?;
    let [baseline, candidate] = subjects::answers(args, config, &registry, (&suite, &gate), out)?;
    let directory = meaning::directory(config)?;
    let embedder = meaning::wanted(directory.as_deref(), &suite, &scorers(&suite, &gate))?;
    let mut runs = vec![&baseline, &candidate];
    runs.extend(&trivial);
    let rulings = statements.as_mut().map(|judge| judge.hear((&suite, &gate), &runs, out));
    let rulings = rulings.transpose()?;
    let evidence = Evidence {
        baseline: &baseline,
        candidate: &candidate,
        others: &trivial,
        embedder: embedder.as_deref(),
        assessor: rulings.as_ref(),
    };
    let mut report = assemble(&suite, &gate, evidence, args.seed)?;
    report.notes.extend(note);
    let cases = details(&suite, &gate, evidence)?;
    if let (Some(statements), Some(rulings)) = (&statements, &rulings) {
        statements.tell(&mut report, (&suite, &gate), rulings)?;
    }
    if let Some(judge) = &mut judge {
        report.notes.extend(judge.note(config.teacher.as_ref()));
        judge.hear(&mut report, (&suite, &gate), (&candidate, &baseline), out)?;
    }
    let runs = [&baseline, &candidate];
    report.consultation = suite::consult(&config.data, (&suite, &gate), &runs, &report)?;
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

/// More cases could only change a decision that fails on nothing but its verdict.
fn exit(report: &EvalReport) -> Exit {
    let mut failed = report.decision.checks.iter().filter(|check| !check.passed);
    let only_verdict = failed.all(|check| check.name == VERDICT);
    let verdict = report.comparisons.first().map(|primary| primary.verdict);
    match verdict {
        _ if report.decision.passed => Exit::Ok,
        Some(Verdict::Inconclusive) if only_verdict => Exit::Inconclusive,
        _ => Exit::No,
    }
}

/// Answers stand under the names of their cases, which a sealed suite shows to nobody.
fn refuse_to_show(args: &EvalArgs, suite: &Suite) -> Result<()> {
    match &args.answers {
        Some(_) if suite.tier == Tier::Sealed => bail!(
            "suite `{}` is sealed, and --answers would show its cases one by one; leave it out, or \
             evaluate on a dev or gate suite",
            suite.name
        ),
        _ => Ok(()),
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
