//! Our side of one measurement, in a process of its own.

use std::{
    fs,
    ops::ControlFlow,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use understudy_manifest::{Lora, TrainStage};
use understudy_model::{BaseModel, device};
use understudy_storage::atomic;
use understudy_trainer::{Drill, Prompts, Rehearsal, TrainOptions, TrainRequest, train_on_policy};

use super::{
    floor::Floor,
    job::{Job, Measured, Step},
    load::cpu_seconds,
    policy::Timed,
    profile::Profile,
    work::{ROW, Work},
};
use crate::{
    commands::Exit,
    training::{MICRO_BATCH_TOKENS, recompute_above},
    worker::peak_memory,
};

/// The parent's side: runs this program on the job and reads its last line.
pub(super) fn start(job: &Job, folder: &Path) -> Result<Measured> {
    let program = std::env::current_exe().context("failed to find this program's own file")?;
    let path = folder.join("job.json");
    atomic::write(&path, &serde_json::to_vec_pretty(job)?)?;
    let mut command = Command::new(program);
    command.arg("bench-worker").arg(&path).env("RAYON_NUM_THREADS", job.threads.to_string());
    last_line(&mut command)
}

/// What a measuring process says at its end, or why it failed.
pub(super) fn last_line(command: &mut Command) -> Result<Measured> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("failed to run {}", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "the measuring process ended with {}: {}",
        output.status,
        last_words(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next_back().unwrap_or_default();
    serde_json::from_str(line)
        .with_context(|| format!("failed to understand the measuring process, which said `{line}`"))
}

/// The last line of a complaint, where programs say what it was.
pub(super) fn last_words(complaint: &[u8]) -> String {
    let text = String::from_utf8_lossy(complaint);
    let line = text.lines().rev().find(|line| !line.trim().is_empty());
    line.unwrap_or("it said nothing").trim().to_owned()
}

/// The child's side.
#[expect(clippy::print_stdout, reason = "the one line the parent reads")]
pub(super) fn main(job: &Path) -> Result<Exit> {
    let job: Job = read(job)?;
    let work: Work = read(&job.work)?;
    let base = BaseModel::load_with(&job.base, &device("cpu")?, job.dtype.precision())
        .with_context(|| format!("failed to load the base model {}", job.base.display()))?;
    let measured = match job.step {
        Step::Sft => sft(&job, &work, &base)?,
        Step::Dpo => dpo(&job, &work, &base)?,
        Step::Grpo => grpo(&job, &work, base)?,
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(Exit::Ok)
}

fn sft(job: &Job, work: &Work, base: &BaseModel) -> Result<Measured> {
    let stage = stage(json!({"method": "sft", "learning_rate": work.learning_rate}))?;
    let drill = Drill::Imitate(work.sft.clone());
    let (mut measured, update) = rehearse(job, work, base, (&stage, &drill))?;
    measured.tokens = work.sft.iter().map(|row| row.len() as u64).sum();
    // The peak is taken: what follows explains the step and is no part of it.
    let floor = Floor::measure(base.decoder.config(), job.dtype, work.rank)?;
    let rows = MICRO_BATCH_TOKENS / ROW;
    measured.profile = Some(Profile::of(base, work, (rows, update), &floor)?);
    measured.floor = Some(floor);
    Ok(measured)
}

fn dpo(job: &Job, work: &Work, base: &BaseModel) -> Result<Measured> {
    let stage = stage(json!({"method": "dpo", "learning_rate": work.learning_rate}))?;
    let pairs = work
        .dpo
        .iter()
        .map(|pair| [pair.prompt.clone(), pair.chosen.clone(), pair.rejected.clone()]);
    let (mut measured, _) = rehearse(job, work, base, (&stage, &Drill::Prefer(pairs.collect())))?;
    measured.note = Some(format!(
        "the prompt of a pair runs once: {} of {} tokens ran through the model",
        measured.tokens,
        2 * ROW * work.dpo.len()
    ));
    measured.tokens = (2 * ROW * work.dpo.len()) as u64;
    Ok(measured)
}

/// Whole optimiser steps, the first one unmeasured; and the median of what the update took.
fn rehearse(
    job: &Job,
    work: &Work,
    base: &BaseModel,
    (stage, drill): (&TrainStage, &Drill),
) -> Result<(Measured, f64)> {
    let mut rehearsal = Rehearsal::begin(base, stage, &lora(work), drill, MICRO_BATCH_TOKENS)?;
    rehearsal.step()?;
    let (mut seconds, mut cpu, mut updates, mut tokens) = (vec![], vec![], vec![], 0);
    for _ in 0..job.steps {
        let before = cpu_seconds();
        let step = rehearsal.step()?;
        ensure!(step.loss.is_finite(), "the loss of the measured step is not finite");
        seconds.push(step.took.as_secs_f64());
        cpu.push(cpu_seconds() - before);
        updates.push(step.update.as_secs_f64());
        tokens = step.tokens;
    }
    let measured = measured(seconds, cpu, tokens);
    Ok((measured, super::report::median(&updates)))
}

/// Rounds of rollout and step, as a GRPO stage takes them.
fn grpo(job: &Job, work: &Work, base: BaseModel) -> Result<Measured> {
    let base = Arc::new(base);
    let stage = stage(json!({
        "method": "grpo", "learning_rate": work.learning_rate, "batch_size": work.grpo.len(),
        "epochs": job.steps + 1, "group_size": work.completions,
        "max_new_tokens": work.new_tokens, "health": {"collapse": "off"},
        // As the peers do by default: no reference is asked.
        "kl": {"beta": 0.0},
    }))?;
    let mut sampler = Timed::start(Arc::clone(&base), work)?;
    let lora = lora(work);
    let prompts = Prompts {
        digest: String::new(),
        count: work.grpo.len(),
        tokens: work.grpo.iter().map(Vec::len).sum(),
        longest: work.grpo.iter().map(Vec::len).max().unwrap_or_default(),
    };
    let request = TrainRequest {
        base: &base,
        stage: &stage,
        lora: &lora,
        start: None,
        sft: &[],
        pairs: &[],
        labels: &[],
        groups: &[],
        prompts: Some(&prompts),
        seed: 17,
        options: TrainOptions {
            micro_batch_tokens: MICRO_BATCH_TOKENS,
            recompute_above: recompute_above(&stage),
            ..TrainOptions::default()
        },
    };
    let mut marks: Vec<(Instant, f64)> = Vec::new();
    train_on_policy(&request, &mut sampler, &mut |_| {
        marks.push((Instant::now(), cpu_seconds()));
        ControlFlow::Continue(())
    })?;
    let seconds = marks.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs_f64()).collect();
    let cpu = marks.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
    Ok(per_token(measured(seconds, cpu, 0), &sampler, work))
}

/// Completions may end before they are as long as the other side's always are. Then the step's
/// time is stretched to what as many tokens would have taken.
fn per_token(mut measured: Measured, sampler: &Timed, work: &Work) -> Measured {
    let asked = work.sampled_tokens();
    let rounds = sampler.rounds.get(1..).unwrap_or_default();
    for (at, (tokens, _)) in rounds.iter().enumerate() {
        let stretch = asked as f64 / (*tokens).max(1) as f64;
        measured.seconds[at] *= stretch;
        measured.cpu_seconds[at] *= stretch;
    }
    let tokens: usize = rounds.iter().map(|(tokens, _)| tokens).sum();
    let rollout: Vec<f64> = rounds.iter().map(|(_, seconds)| *seconds).collect();
    measured.tokens = asked as u64;
    measured.note = Some(format!(
        "of the step, sampling took {:.2} s; {:.1} % of the tokens asked for were sampled before \
         completions ended by themselves, and times are stretched to all of them",
        super::report::median(&rollout),
        100.0 * tokens as f64 / (asked * rounds.len().max(1)) as f64
    ));
    measured
}

fn measured(seconds: Vec<f64>, cpu_seconds: Vec<f64>, tokens: u64) -> Measured {
    Measured {
        seconds,
        cpu_seconds,
        tokens,
        peak_rss_bytes: peak_memory(),
        note: None,
        floor: None,
        profile: None,
    }
}

fn stage(written: Value) -> Result<TrainStage> {
    Ok(serde_json::from_value(written)?)
}

fn lora(work: &Work) -> Lora {
    Lora { rank: work.rank, alpha: work.alpha, ..Lora::default() }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text =
        fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("failed to understand {}", path.display()))
}
