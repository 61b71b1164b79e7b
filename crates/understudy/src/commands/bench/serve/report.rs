//! What was measured, as a table and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::{super::load, Bound, Floor, HeldIn, Load, Mixed, Rates, mixed::Kind};

#[derive(Debug, Serialize)]
pub(super) struct Cell {
    #[serde(flatten)]
    pub(super) load: Load,
    pub(super) ours: Rates,
    pub(super) theirs: Option<Rates>,
    /// The most that this machine's memory and multipliers allow.
    pub(super) floor: Rates,
}

impl Cell {
    pub(super) fn line(&self, held_in: HeldIn) -> String {
        let Load { batch, prompt, .. } = self.load;
        let side = |ours: f64, theirs: Option<f64>, floor: f64| {
            let theirs = theirs.map_or_else(
                || "     -      -".to_owned(),
                |theirs| format!("{theirs:>6.0} {:>5.2}x", ours / theirs),
            );
            format!("{ours:>6.0} {theirs} {:>4.0}%", 100.0 * ours / floor)
        };
        format!(
            "{:<5} {batch:>3} x {prompt:<4} {} | {}",
            held_in.as_str(),
            side(self.ours.prefill, self.theirs.map(|one| one.prefill), self.floor.prefill),
            side(self.ours.decode, self.theirs.map(|one| one.decode), self.floor.decode),
        )
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Section {
    pub(super) held_in: HeldIn,
    pub(super) bound: Bound,
    pub(super) floor: Floor,
    pub(super) cells: Vec<Cell>,
}

#[derive(Debug, Serialize)]
pub(super) struct Report {
    bench: &'static str,
    base: String,
    peer: Option<String>,
    rounds: usize,
    sections: Vec<Section>,
    mixed: Mixed,
    load: load::Load,
}

impl Report {
    pub(super) fn new(
        base: String,
        peer: Option<String>,
        rounds: usize,
        sections: Vec<Section>,
        mixed: Mixed,
        load: load::Load,
    ) -> Self {
        Self { bench: "serve", base, peer, rounds, sections, mixed, load }
    }

    pub(super) fn text(&self) -> String {
        let peer = self.peer.as_deref().unwrap_or("no --llama was given");
        let mut text = format!(
            "{}, tokens per second, best of {}; beside: {peer}\n                prefill: ours \
             theirs ratio of floor | decode: the same\n",
            self.base, self.rounds
        );
        for section in &self.sections {
            for cell in &section.cells {
                let _ = writeln!(text, "{}", cell.line(section.held_in));
            }
        }
        for Section { held_in, bound, floor, .. } in &self.sections {
            let _ = writeln!(
                text,
                "{:<5} |Δ log p| against f32: mean {:.4}, p99 {:.3}, max {:.3}, bias {:+.4} over {} \
                 tokens; against the training pass {:.4}, keys and values in f32 {:.4}; floor: {:.0} MB a step at {:.0} GB/s, {:.0} GFLOP/s",
                held_in.as_str(),
                bound.mean,
                bound.p99,
                bound.max,
                bound.bias,
                bound.tokens,
                bound.from_training,
                bound.from_training_exact,
                floor.mb_per_step,
                floor.gb_per_second,
                floor.gflop_per_second
            );
        }
        let Mixed { held_in, adapters, kinds } = &self.mixed;
        for Kind { rank, maps, values, alone, one, eight } in kinds {
            let _ = writeln!(
                text,
                "{} decode at batch 8, rank {rank} on {maps} ({:.1} M values each): base {:.0}, one \
                 adapter {:.0} ({:.2}x), {adapters} adapters {:.0} ({:.2}x)",
                held_in.as_str(),
                *values as f64 / 1e6,
                alone.decode,
                one.decode,
                one.decode / alone.decode,
                eight.decode,
                eight.decode / alone.decode
            );
        }
        if let Some(others) = self.load.others {
            let _ = write!(text, "others took {:.0} % of the processors", 100.0 * others);
        }
        text
    }
}
