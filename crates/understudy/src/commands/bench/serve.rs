//! `understudy bench serve`: prompts and completions per second through our engine, beside
//! llama.cpp's on the same weights, in one run.
//!
//! Ours and theirs take turns, cell by cell, and of every cell the best of several rounds counts:
//! what else the machine does then hits both. What adapters cost is the median of more turns. Ours is what a client of the engine gets, sampling and
//! detokenising included; theirs is `llama-batched-bench`, which does neither.

mod bound;
mod floor;
mod llama;
mod mixed;
mod ours;
mod report;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use understudy_engine::Engine;
use understudy_model::{BaseModel, Precision, device};

use self::{
    bound::Bound,
    floor::Floor,
    llama::Llama,
    mixed::Mixed,
    report::{Cell, Report, Section},
};
use super::{load::Watch, report::median, streams};
use crate::{
    cli::BenchServeArgs,
    commands::{Exit, model},
    config::Config,
    held::HeldIn,
    output::Out,
};

/// One kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Load {
    batch: usize,
    /// Tokens of every prompt.
    prompt: usize,
    /// Tokens of every completion.
    tokens: usize,
}

const LOADS: [Load; 3] = [
    Load { batch: 1, prompt: 512, tokens: 64 },
    Load { batch: 8, prompt: 128, tokens: 64 },
    Load { batch: 32, prompt: 128, tokens: 64 },
];

/// Tokens per second.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Rates {
    prefill: f64,
    decode: f64,
}

impl Rates {
    fn best(self, other: Self) -> Self {
        Self { prefill: self.prefill.max(other.prefill), decode: self.decode.max(other.decode) }
    }

    fn median(of: &[Self]) -> Self {
        let median = |rate: fn(&Self) -> f64| median(&of.iter().map(rate).collect::<Vec<f64>>());
        Self { prefill: median(|rates| rates.prefill), decode: median(|rates| rates.decode) }
    }
}

pub(super) fn run(args: &BenchServeArgs, config: &Config, out: Out) -> Result<Exit> {
    ensure!(args.rounds > 0, "--rounds must be at least 1: a figure needs something measured");
    let name = args.base.as_deref().unwrap_or(&config.base);
    let base = model::obtain(config, name, out)?;
    let llama = args.llama.as_deref().map(|folder| Llama::find(folder, &base)).transpose()?;
    let folder = tempfile::tempdir().context("failed to make a directory for the bench")?;
    let asked = if args.only.is_empty() { HeldIn::ALL.to_vec() } else { args.only.clone() };
    let watch = Watch::begin();
    let bench = Bench { args, base: &base, name, folder: folder.path(), llama, out };
    let exact = bench.load(Precision::F32)?;
    let reference = Bound::reference(&exact)?;
    drop(exact);
    let sections = asked
        .into_iter()
        .map(|held_in| bench.section(held_in, &reference))
        .collect::<Result<Vec<Section>>>()?;
    let mixed = Mixed::measure(&bench)?;
    let peer = bench.llama.as_ref().map(|llama| llama.describe().to_owned());
    let rounds = args.rounds;
    let report = Report::new(name.to_owned(), peer, rounds, sections, mixed, watch.end());
    out.either(report.text(), &report)?;
    Ok(Exit::Ok)
}

struct Bench<'a> {
    args: &'a BenchServeArgs,
    base: &'a Path,
    name: &'a str,
    folder: &'a Path,
    llama: Option<Llama>,
    out: Out,
}

impl Bench<'_> {
    fn load(&self, precision: Precision) -> Result<BaseModel> {
        BaseModel::load_with(self.base, &device("cpu")?, precision)
            .with_context(|| format!("failed to load the base model {}", self.base.display()))
    }

    /// Every load at one precision, ours and theirs by turns.
    fn section(&self, held_in: HeldIn, reference: &[Vec<f32>]) -> Result<Section> {
        let model = self.load(held_in.precision())?;
        if model.precision != held_in.precision() {
            bail!(
                "this processor has no {} products; measure the others with --only",
                held_in.as_str()
            );
        }
        let bound = Bound::of(&model, reference)?;
        let floor = Floor::measure(&model, held_in)?;
        let prompts = prompts(&model)?;
        let file = self.llama.as_ref().map(|llama| llama.file(held_in, self.folder)).transpose()?;
        let engine = Engine::start(model, self.name, settings())?;
        let mut cells = Vec::new();
        for load in LOADS {
            let (mut ours, mut theirs) = (Rates::default(), None::<Rates>);
            for _ in 0..self.args.rounds {
                ours = ours.best(ours::measure(&engine, load, &prompts, &[])?);
                if let (Some(llama), Some(file)) = (&self.llama, &file) {
                    let rates = llama.measure(file, load)?;
                    theirs = Some(theirs.map_or(rates, |best| best.best(rates)));
                }
            }
            let cell = Cell { load, ours, theirs, floor: floor.rates(load) };
            self.out.say(cell.line(held_in));
            cells.push(cell);
        }
        if let Some(file) = &file {
            llama::forget(file, self.folder)?;
        }
        Ok(Section { held_in, bound, floor, cells })
    }
}

/// As served, but that no prompt is found cached, since every round asks the same, and that prompts
/// are read before anybody decodes, as the peer does it.
fn settings() -> understudy_engine::Config {
    let served = understudy_engine::Config::default();
    understudy_engine::Config { prefix_tokens: 0, beside_decoding: served.step_tokens, ..served }
}

/// One prompt for every stream of the largest load.
fn prompts(model: &BaseModel) -> Result<Vec<Vec<u32>>> {
    let streams = LOADS.iter().map(|load| load.batch).max().unwrap_or(1);
    let longest = LOADS.iter().map(|load| load.prompt).max().unwrap_or(1);
    (0..streams).map(|stream| streams::prompt(model, stream, longest)).collect()
}
