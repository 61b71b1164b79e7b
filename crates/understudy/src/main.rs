//! The binary: command line, configuration and wiring. What a command does lies in
//! `commands/`, how the parts are put together in `wiring.rs`, the demo in `demo/`.

mod attend;
mod cli;
mod commands;
mod config;
mod demo;
mod exports;
mod follow;
mod groups;
mod held;
mod kept;
mod late;
mod lengths;
mod live;
mod meaning;
mod output;
mod paths;
mod ports;
mod repeat;
mod signals;
mod training;
mod watch;
mod wiring;
mod worker;

use std::{env, process::ExitCode};

use anyhow::Context as _;
use clap::Parser;
use mimalloc::MiMalloc;
use understudy_model::limit_instructions;

use crate::{cli::Cli, commands::Exit, config::Config};

/// Requests, rows and steps are many small texts and some large tensors, made on one thread and
/// dropped on another: see `docs/decisions/0017-whose-memory.md`.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let quiet = tracing_subscriber::EnvFilter::new("warn");
    let filter = tracing_subscriber::EnvFilter::try_from_env("UNDERSTUDY_LOG").unwrap_or(quiet);
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    let outcome = limit_loops()
        .and_then(|()| Config::load(&cli.global))
        .and_then(|config| commands::run(cli.command, &config));
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) => {
            commands::complain(&error);
            Exit::BadInput.into()
        }
    }
}

/// As the environment says, so that the processes a command starts do as it does.
fn limit_loops() -> anyhow::Result<()> {
    const VARIABLE: &str = "UNDERSTUDY_INSTRUCTIONS";
    let Ok(widest) = env::var(VARIABLE) else { return Ok(()) };
    let limit = || limit_instructions(widest.parse()?);
    limit().with_context(|| format!("{VARIABLE}={widest} cannot be followed"))
}
