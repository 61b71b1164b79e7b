//! `understudy bench soak`: swaps, rollbacks, cancelled requests, long and short ones, with and
//! without adapters, for as long as asked; afterwards nothing may be left, and memory is flat.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use understudy_engine::Engine;
use understudy_inference::{Backend, InferenceError, LoadAdapter, Student};
use understudy_model::{BaseModel, device};

use super::{report::median, streams};
use crate::{
    cli::BenchSoakArgs,
    commands::{Exit, model},
    config::Config,
    held::HeldIn,
    output::Out,
};

const ALIASES: [&str; 4] = ["one", "two", "three", "four"];
const CLIENTS: u64 = 8;
const GENERATIONS: usize = 8;
const RANK: usize = 8;

/// Memory at the end may be this much of what it was once everything had been used.
const FLAT: f64 = 1.05;

/// And this much more, which allocators keep for themselves.
const SLACK: f64 = (64 << 20) as f64;

#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    base: String,
    seconds: u64,
    finished: u64,
    cancelled: u64,
    failed: u64,
    swaps: u64,
    rollbacks: u64,
    /// Requests that still hold an adapter after the last one ended.
    leaked_leases: usize,
    leaked_sequences: usize,
    /// After every alias was unloaded.
    leaked_adapters: usize,
    /// Medians over the second and the last quarter.
    rss_bytes_early: f64,
    rss_bytes_late: f64,
    flat: bool,
}

/// Numbers that are the same for the same seed: xorshift64*, which is enough to mix a load.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % most
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

pub(super) fn run(args: &BenchSoakArgs, config: &Config, out: Out) -> Result<Exit> {
    ensure!(args.seconds > 0, "--seconds must be at least 1");
    let name = args.base.as_deref().unwrap_or(&config.base);
    let path = model::obtain(config, name, out)?;
    let base = BaseModel::load_with(&path, &device(&config.device)?, HeldIn::default().precision())
        .with_context(|| format!("failed to load the base model {}", path.display()))?;
    let folder = tempfile::tempdir().context("failed to make a directory for adapters")?;
    let adapters =
        streams::write_adapters(&base, folder.path(), &streams::on_every_map(RANK), GENERATIONS)?;
    let prompts = (0..64).map(|n| streams::prompt(&base, n, 1 + n)).collect::<Result<Vec<_>>>()?;
    let engine = Engine::start(base, name, understudy_engine::Config::default())?;
    for (alias, path) in ALIASES.iter().zip(&adapters) {
        engine.load_adapter(alias, path)?;
    }
    let report = soak(&engine, args.seconds, &adapters, &prompts)?;
    let report = Report { base: name.to_owned(), ..report };
    out.either(report.text(), &report)?;
    Ok(report.exit())
}

fn soak(
    engine: &Engine,
    seconds: u64,
    adapters: &[PathBuf],
    prompts: &[Vec<u32>],
) -> Result<Report> {
    let begun = Instant::now();
    let until = begun + Duration::from_secs(seconds);
    let mut memory: Vec<f64> = Vec::new();
    let (swaps, rollbacks) = thread::scope(|scope| {
        let clients: Vec<_> = (1..=CLIENTS)
            .map(|seed| scope.spawn(move || client(engine, Dice(seed), prompts, until)))
            .collect();
        let swapper = scope.spawn(move || change(engine, Dice(99), adapters, until));
        while Instant::now() < until {
            memory.push(resident_bytes());
            thread::sleep(Duration::from_millis(250));
        }
        for client in clients {
            client.join().map_err(|_| anyhow!("a client panicked"))??;
        }
        swapper.join().map_err(|_| anyhow!("the swapper panicked"))?
    })?;
    settle(engine)?;
    let leaked_leases = engine.adapters().iter().map(|info| info.leases).sum();
    ALIASES.iter().try_for_each(|alias| engine.unload_adapter(alias))?;
    let stats = engine.stats();
    let quarter = (memory.len() / 4).max(1);
    let early = median(&memory[quarter.min(memory.len() - 1)..(2 * quarter).min(memory.len())]);
    let late = median(&memory[memory.len() - quarter..]);
    Ok(Report {
        bench: "soak",
        base: String::new(),
        seconds,
        finished: stats.finished,
        cancelled: stats.cancelled,
        failed: stats.failed,
        swaps,
        rollbacks,
        leaked_leases,
        leaked_sequences: stats.running + stats.waiting + stats.kv_tokens,
        leaked_adapters: stats.resident_adapters,
        rss_bytes_early: early,
        rss_bytes_late: late,
        flat: late <= FLAT * early + SLACK,
    })
}

/// Asks for this and that, and sometimes goes away before the end.
fn client(engine: &Engine, mut dice: Dice, prompts: &[Vec<u32>], until: Instant) -> Result<()> {
    while Instant::now() < until {
        let prompt = &prompts[dice.below(prompts.len() as u64) as usize];
        let alias = (!dice.one_in(5)).then(|| ALIASES[dice.below(4) as usize]);
        let most = if dice.one_in(6) { 96 } else { 1 + dice.below(16) as u32 };
        let request = streams::request(prompt, alias, most);
        if dice.one_in(4) {
            let mut patience = dice.below(6);
            let sink = move |_| {
                patience = patience.saturating_sub(1);
                if patience == 0 {
                    std::ops::ControlFlow::Break(())
                } else {
                    std::ops::ControlFlow::Continue(())
                }
            };
            engine.submit(request, Box::new(sink))?;
        } else {
            streams::converse(engine, request, &mut Vec::new())?;
        }
    }
    Ok(())
}

fn change(
    engine: &Engine,
    mut dice: Dice,
    adapters: &[PathBuf],
    until: Instant,
) -> Result<(u64, u64)> {
    let (mut swaps, mut rollbacks) = (0, 0);
    while Instant::now() < until {
        let alias = ALIASES[dice.below(4) as usize];
        if dice.one_in(3) {
            match engine.rollback_adapter(alias, None) {
                Ok(_) => rollbacks += 1,
                // Nothing to go back to: its earlier generation had to make room, or never was.
                Err(InferenceError::BadAdapter { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        } else {
            let directory = &adapters[dice.below(adapters.len() as u64) as usize];
            engine.publish_adapter(LoadAdapter::new(alias, directory))?;
            swaps += 1;
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok((swaps, rollbacks))
}

/// Waits for the engine to let go of everything it was asked.
fn settle(engine: &Engine) -> Result<()> {
    for _ in 0..6_000 {
        let stats = engine.stats();
        if stats.running + stats.waiting == 0 {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err(anyhow!("the engine does not come to rest: {:?}", engine.stats()))
}

/// Of this process, as Linux accounts it; 0 elsewhere.
fn resident_bytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.unwrap_or_default() * 1024.0
}

impl Report {
    fn is_clean(&self) -> bool {
        self.failed == 0
            && (self.leaked_leases, self.leaked_sequences, self.leaked_adapters) == (0, 0, 0)
    }

    fn text(&self) -> String {
        format!(
            "{} s: {} replies, {} cancelled, {} failed; {} swaps, {} rollbacks\n  left behind: {} \
             leases, {} sequences, {} adapters\n  memory: {:.0} MB early, {:.0} MB late: {}",
            self.seconds,
            self.finished,
            self.cancelled,
            self.failed,
            self.swaps,
            self.rollbacks,
            self.leaked_leases,
            self.leaked_sequences,
            self.leaked_adapters,
            self.rss_bytes_early / 1e6,
            self.rss_bytes_late / 1e6,
            if self.flat { "flat" } else { "growing" },
        )
    }

    fn exit(&self) -> Exit {
        if self.is_clean() && self.flat { Exit::Ok } else { Exit::No }
    }
}
