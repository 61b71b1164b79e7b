//! What adapters cost a batch of eight: one for all, or eight at once.

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;
use understudy_engine::Engine;
use understudy_inference::Student as _;
use understudy_model::{Device, LoraSpec, Precision, Targets};

use super::{Bench, LOADS, Rates, ours, prompts, settings};
use crate::{commands::bench::streams, held::HeldIn};

/// Adapters that share a batch with each other.
const ADAPTERS: usize = 8;

/// Turns at least: what adapters cost is less than what one turn may differ from the next, and the
/// luckiest turns of two loads do not compare.
const TURNS: usize = 7;

/// One kind of adapters.
#[derive(Debug, Serialize)]
pub(super) struct Kind {
    pub(super) rank: usize,
    /// What they adapt.
    pub(super) maps: &'static str,
    /// Values of one adapter.
    pub(super) values: usize,
    /// Batch 8 on the base alone, on one adapter, and on eight at once; the median of all turns.
    pub(super) alone: Rates,
    pub(super) one: Rates,
    pub(super) eight: Rates,
}

#[derive(Debug, Serialize)]
pub(super) struct Mixed {
    pub(super) held_in: HeldIn,
    pub(super) adapters: usize,
    pub(super) kinds: Vec<Kind>,
}

impl Mixed {
    pub(super) fn measure(bench: &Bench<'_>) -> Result<Self> {
        let queries_and_values = Targets::names(&["q_proj", "v_proj"])?;
        let kinds = [
            (16, "every linear map", Targets::AllLinear),
            (8, "every linear map", Targets::AllLinear),
            // What PEFT adapts of such a model when it is told nothing.
            (8, "q_proj and v_proj", queries_and_values),
        ];
        let kind = |(rank, maps, targets)| {
            let spec = LoraSpec::new(rank, 2.0 * rank as f32, targets);
            kind(bench, &spec, maps)
        };
        let kinds: Vec<Kind> = kinds.into_iter().map(kind).collect::<Result<_>>()?;
        let precision = Precision::Bf16.supported(&Device::Cpu);
        let held_in = if precision == Precision::Bf16 { HeldIn::Bf16 } else { HeldIn::F32 };
        Ok(Self { held_in, adapters: ADAPTERS, kinds })
    }
}

/// The three by turns.
fn kind(bench: &Bench<'_>, spec: &LoraSpec, maps: &'static str) -> Result<Kind> {
    let model = bench.load(Precision::Bf16)?;
    let folder = tempfile::tempdir_in(bench.folder)?;
    let paths: Vec<PathBuf> = streams::write_adapters(&model, folder.path(), spec, ADAPTERS)?;
    let values = streams::values(&model, spec)?;
    let prompts = prompts(&model)?;
    let engine = Engine::start(model, bench.name, settings())?;
    let names: Vec<String> = (0..ADAPTERS).map(|number| format!("adapter-{number}")).collect();
    for (name, path) in names.iter().zip(&paths) {
        engine.load_adapter(name, path)?;
    }
    let loads: [&[String]; 3] = [&[], &names[..1], &names];
    let mut turns = [const { Vec::new() }; 3];
    for _ in 0..bench.args.rounds.max(TURNS) {
        for (turns, adapters) in turns.iter_mut().zip(loads) {
            turns.push(ours::measure(&engine, LOADS[1], &prompts, adapters)?);
        }
    }
    let [alone, one, eight] = turns.map(|turns| Rates::median(&turns));
    Ok(Kind { rank: spec.rank, maps, values, alone, one, eight })
}
