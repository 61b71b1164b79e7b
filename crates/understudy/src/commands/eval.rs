//! `understudy eval`: one subject beside another on the same cases.

use std::path::Path;

use anyhow::{Context, Result};
use understudy_evaluation::{Plan, Subject, render};
use understudy_inference::Student;
use understudy_manifest::{Gate, RequiredVerdict};
use understudy_registry::Registry;
use understudy_storage::atomic;

use super::{Exit, model, suite};
use crate::{cli::EvalArgs, config::Config, output::Out, wiring};

pub(crate) fn run(args: &EvalArgs, config: &Config, out: Out) -> Result<Exit> {
    let suite = suite::read(&config.data, &args.suite)?;
    let name = args.base.clone().unwrap_or_else(|| config.base.clone());
    let engine = wiring::engine(&model::obtain(config, &name, out)?, &name)?;
    let registry = Registry::open(&config.data.registry(), &config.data.adapters())?;
    let baseline = subject(&args.baseline, &registry, &*engine)?;
    let candidate = subject(&args.subject, &registry, &*engine)?;
    let gate = Gate {
        suite: suite.name.clone(),
        verdict: RequiredVerdict::Better,
        margin: args.margin,
        scorer: None,
        latency_ratio_max: None,
        latency_p95_ratio_max: None,
        tokens_ratio_max: None,
        known_failures_fixed: 0,
        max_new_tokens: args.max_new_tokens,
    };
    let plan = Plan {
        suite: &suite,
        gate: &gate,
        baseline: &baseline,
        candidate: &candidate,
        seed: 17,
        concurrency: 16,
    };
    let bar = out.bar(2 * suite.cases.len() as u64, "evaluation");
    let report = understudy_evaluation::evaluate(&*engine, plan, &[], &mut |progress| {
        bar.set_position(progress.done as u64);
    })?;
    bar.finish_and_clear();
    if let Some(file) = &args.out {
        atomic::write(file, &serde_json::to_vec_pretty(&report)?)?;
    }
    out.either(render(&report), &report)?;
    let verdict = report.comparisons.first().map(|primary| primary.verdict);
    Ok(match verdict {
        _ if report.decision.passed => Exit::Ok,
        Some(understudy_manifest::Verdict::Inconclusive) => Exit::Inconclusive,
        _ => Exit::No,
    })
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
            format!("`{text}` is neither `base`, a version task@N, nor an adapter directory")
        })?;
        registry.verify(&version)?
    };
    engine.load_adapter(text, &directory)?;
    Ok(Subject { name: text.to_owned(), adapter: Some(text.to_owned()) })
}
