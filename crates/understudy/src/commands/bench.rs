//! `understudy bench`: figures that anybody can repeat. `serve`, `swap`, `soak`, `ingest`,
//! `gateway`, `gateway-soak`, `rollback` and `retrieval` are in files of their own.
//!
//! `understudy bench train`: our training step beside torch + PEFT and TRL, in one run, as ratios.
//!
//! Every configuration runs in a process of its own, so that its peak memory is its own, and ours
//! take turns with theirs, so that what else the machine does hits both sides. Both sides read the
//! same token ids from one file.

mod floor;
mod gateway;
mod gateway_soak;
mod ingest;
mod job;
mod load;
mod peer;
mod policy;
mod process;
mod profile;
mod report;
mod retrieval;
mod rollback;
mod serve;
mod soak;
mod streams;
mod swap;
mod work;
mod worker;

use std::path::Path;

use anyhow::{Context, Result, bail};
use understudy_model::{BaseModel, device};
use understudy_storage::atomic;

pub(crate) use self::job::Step;
use self::{
    job::{Dtype, Job, Program},
    load::Watch,
    peer::Peers,
    report::{Entry, Report},
    work::Work,
};
use super::{Exit, model};
use crate::{
    cli::{BenchCommand, BenchTrainArgs},
    config::Config,
    output::Out,
};

/// The hidden command's side: one measurement of ours.
pub(crate) fn worker(job: &Path) -> Result<Exit> {
    worker::main(job)
}

pub(crate) fn run(command: BenchCommand, config: &Config, out: Out) -> Result<Exit> {
    let beside_peers = matches!(command, BenchCommand::Train(_) | BenchCommand::Serve(_));
    if beside_peers && config.device != "cpu" {
        bail!("peers are measured on the processor; leave --device {} out", config.device);
    }
    match command {
        BenchCommand::Train(args) => train(&args, config, out),
        BenchCommand::Serve(args) => serve::run(&args, config, out),
        BenchCommand::Swap(args) => swap::run(&args, config, out),
        BenchCommand::Soak(args) => soak::run(&args, config, out),
        BenchCommand::Ingest(args) => ingest::run(&args, out),
        BenchCommand::Gateway(args) => gateway::run(&args, out),
        BenchCommand::GatewaySoak(args) => gateway_soak::run(&args, out),
        BenchCommand::Rollback(args) => rollback::run(&args, out),
        BenchCommand::Retrieval(args) => retrieval::run(&args, config, out),
    }
}

fn train(args: &BenchTrainArgs, config: &Config, out: Out) -> Result<Exit> {
    if args.steps == 0 {
        bail!("--steps must be at least 1: a figure needs something measured");
    }
    let mut peers = Peers::find(args.python.as_deref())?;
    let name = args.base.as_deref().unwrap_or(&config.base);
    let base = model::obtain(config, name, out)?;
    let folder = config.data.run("bench");
    atomic::create_dir(&folder)?;
    let work = folder.join("work.json");
    atomic::write(&work, &serde_json::to_vec(&prepare(&base)?)?)?;
    peers.prepare(&base, &folder)?;
    out.say(peers.describe());

    let measured = measure(&jobs(args, &base, &work, &peers), &peers, &folder, out);
    Peers::tidy(&folder)?;
    let report = Report::of(name, args.steps, &peers, measured?);
    out.either(report.text(), &report)?;
    Ok(report.exit(args.python.is_some()))
}

fn measure(jobs: &[Job], peers: &Peers, folder: &Path, out: Out) -> Result<Vec<Entry>> {
    let bar = out.bar(jobs.len() as u64, "measuring");
    let mut entries = Vec::new();
    for job in jobs {
        bar.set_message(job.to_string());
        let watch = Watch::begin();
        let outcome = match job.program {
            Program::Understudy => worker::start(job, folder),
            Program::Torch | Program::Trl => peers.measure(job, folder),
        };
        let entry = Entry::of(job, outcome, watch.end())?;
        bar.suspend(|| out.say(entry.line()));
        bar.inc(1);
        entries.push(entry);
    }
    bar.finish_and_clear();
    Ok(entries)
}

/// Ours and theirs by turns: what disturbs one measurement then disturbs its rival as well.
fn jobs(args: &BenchTrainArgs, base: &Path, work: &Path, peers: &Peers) -> Vec<Job> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let asked = if args.only.is_empty() { Step::ALL.to_vec() } else { args.only.clone() };
    let mut jobs = Vec::new();
    for step in asked {
        for dtype in Dtype::ALL {
            for program in Program::ALL.into_iter().filter(|program| peers.have(*program)) {
                let (base, work) = (base.to_owned(), work.to_owned());
                jobs.push(Job { base, work, step, program, dtype, threads, steps: args.steps });
            }
        }
    }
    jobs
}

/// The ids both sides read, in our tokenizer's words.
fn prepare(base: &Path) -> Result<Work> {
    let base = BaseModel::load(base, &device("cpu")?)
        .with_context(|| format!("failed to load the base model {}", base.display()))?;
    Work::of(&base)
}
