//! One file per command group. A command reads its arguments, calls the stages and prints.

mod adapter;
pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod dataset;
mod doctor;
mod environment;
pub(crate) mod eval;
mod import;
mod init;
mod judge;
pub(crate) mod key;
mod live;
mod logits;
pub(crate) mod memory;
pub(crate) mod model;
mod release;
pub(crate) mod run;
mod serve;
pub(crate) mod suite;
pub(crate) mod train;
mod unattended;

use std::process::ExitCode;

use anyhow::Result;

use crate::{cli::Command, config::Config, demo, output::Out, worker};

/// How a command ended, as the shell sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok,
    /// The gate said no, or there was nothing to do as asked.
    No,
    /// Usage or bad input.
    BadInput,
    /// Not enough evidence either way.
    Inconclusive,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::No => 1,
            Exit::BadInput => 2,
            Exit::Inconclusive => 3,
        })
    }
}

pub(crate) fn run(command: Command, config: &Config) -> Result<Exit> {
    let out = Out::new(config.json);
    match command {
        Command::Demo(args) => demo::run(&args, config, out),
        Command::Init(args) => init::run(&args, config, out),
        Command::Serve(args) => serve::run(&args, config, out),
        Command::Import(args) => import::run(&args, config, out),
        Command::Suite(command) => suite::run(command, config, out),
        Command::Dataset(command) => dataset::run(command, config, out),
        Command::Train(args) => train::run(&args, config, out),
        Command::Eval(args) => eval::run(&args, config, out),
        Command::Live(args) => live::run(&args, config, out),
        Command::Judge(command) => judge::run(command, config, out),
        Command::Adapter(command) => adapter::run(command, config, out),
        Command::Release(command) => release::run(command, config, out),
        Command::Memory(command) => memory::run(command, config, out),
        Command::Run(args) => run::run(&args, config, out),
        Command::Loop(command) => unattended::run(command, config, out),
        Command::Model(command) => model::run(command, config, out),
        Command::Audit(command) => audit::run(command, config, out),
        Command::Key(command) => key::run(command, config, out),
        Command::Doctor => doctor::run(config, out),
        Command::Logits(args) => logits::run(&args, config, out),
        Command::Environment(command) => environment::run(command, out),
        Command::Bench(command) => bench::run(command, config, out),
        Command::TrainWorker { job } => worker::main(&job),
        Command::BenchWorker { job } => bench::worker(&job),
    }
}

/// Says what was attempted and why it failed, cause by cause.
#[expect(clippy::print_stderr, reason = "the last word of a failing command")]
pub(crate) fn complain(error: &anyhow::Error) {
    eprintln!("error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("  because {cause}");
    }
}
