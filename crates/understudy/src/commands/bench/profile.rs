//! Where the time of our step goes, as coarsely as it can be told from outside the decoder.
//!
//! Three things are timed: forward, head and backward. What frozen maps take of them is reckoned
//! from the measured rate of their products; what attention takes is the difference to the same
//! tokens cut into short rows; what adapters take forward is the difference to a run without. The
//! remainder is norms, activation, residuals, and backward the adapters too.

use std::time::Instant;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use understudy_model::{BaseModel, Batch, Lora, LoraSpec, Term};

use super::{
    floor::{Floor, maps},
    work::{BATCH, ROW, Work},
};

/// Attention over rows this short is next to nothing.
const SHORT: usize = 8;
/// The best of so many counts: others may be using the machine.
const TRIES: usize = 3;

/// Parts of one step, in the order they run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Profile {
    pub(super) parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) seconds: f64,
    pub(super) how: How,
}

/// How a part's time is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum How {
    Timed,
    /// One timed run less another.
    Difference,
    /// From the measured rate of products.
    Reckoned,
    /// What the other parts leave of a timed one.
    Remainder,
}

/// Seconds of the three phases over all rows.
#[derive(Debug, Clone, Copy)]
struct Phases {
    forward: f64,
    head: f64,
    backward: f64,
}

impl Profile {
    /// Runs the SFT step's phases in micro-batches of `rows` rows. `update` is what a whole step
    /// spent on the optimiser.
    pub(super) fn of(
        base: &BaseModel,
        work: &Work,
        (rows, update): (usize, f64),
        floor: &Floor,
    ) -> Result<Self> {
        let lora = Lora::init(base.decoder.config(), &LoraSpec::standard(), 17)?;
        let whole: Vec<Vec<u32>> = work.sft.clone();
        let short: Vec<Vec<u32>> =
            whole.iter().flat_map(|row| row.chunks(SHORT).map(<[u32]>::to_vec)).collect();
        let mut best: Option<(Phases, Phases, f64)> = None;
        for _ in 0..TRIES {
            let seen = (
                phases(base, &whole, rows, &lora)?,
                phases(base, &short, rows * ROW / SHORT, &lora)?,
                bare_forward(base, &whole, rows)?,
            );
            best = Some(
                best.map_or(seen, |b| (b.0.least(seen.0), b.1.least(seen.1), b.2.min(seen.2))),
            );
        }
        let Some((whole, short, bare)) = best else { return Ok(Self { parts: Vec::new() }) };
        let products = {
            let config = base.decoder.config();
            let weights: usize =
                maps(config).iter().map(|(inputs, outputs)| inputs * outputs).sum();
            2e-9 * (config.layers * weights * BATCH * ROW) as f64 / floor.gflop_per_second
        };
        Ok(Self { parts: parts(whole, short, bare, products, update) })
    }
}

fn parts(whole: Phases, short: Phases, bare: f64, products: f64, update: f64) -> Vec<Part> {
    let part = |name: &str, seconds: f64, how: How| {
        // A difference of two noisy times can fall below nothing; no part can.
        Part { name: name.to_owned(), seconds: seconds.max(0.0), how }
    };
    let (attention, backwards) =
        ((whole.forward - short.forward).max(0.0), (whole.backward - short.backward).max(0.0));
    let adapters = (whole.forward - bare).max(0.0);
    vec![
        part("forward: frozen maps", products, How::Reckoned),
        part("forward: attention", attention, How::Difference),
        part("forward: adapters", adapters, How::Difference),
        part("forward: the rest", whole.forward - products - attention - adapters, How::Remainder),
        part("head, loss and their gradient", whole.head, How::Timed),
        part("backward: frozen maps", products, How::Reckoned),
        part("backward: attention", backwards, How::Difference),
        part(
            "backward: adapters and the rest",
            whole.backward - products - backwards,
            How::Remainder,
        ),
        part("norm, clip, optimiser", update, How::Timed),
    ]
}

fn phases(base: &BaseModel, rows: &[Vec<u32>], at_once: usize, lora: &Lora) -> Result<Phases> {
    let decoder = &base.decoder;
    let mut sum = Phases { forward: 0.0, head: 0.0, backward: 0.0 };
    let mut grads = lora.zero_grads();
    for rows in rows.chunks(at_once) {
        let batch = Batch::of(rows);
        // As many terms whatever the length of rows, so that the head's share stays the same.
        let terms: Vec<Term> =
            (0..batch.rows() - 1).map(|row| Term { row, target: batch.tokens[row + 1] }).collect();
        let coefficients = vec![-1.0 / terms.len() as f32; terms.len()];
        let begun = Instant::now();
        let (hidden, tape) = decoder.train_forward(&batch, Some(lora))?;
        let forward = begun.elapsed().as_secs_f64();
        let (_, d_hidden) = decoder.log_probs_grad(&hidden, &terms, &coefficients, 1.0)?;
        let head = begun.elapsed().as_secs_f64();
        decoder.backward(tape, &d_hidden, lora, &mut grads)?;
        let all = begun.elapsed().as_secs_f64();
        sum.forward += forward;
        sum.head += head - forward;
        sum.backward += all - head;
    }
    Ok(sum)
}

/// The forward pass without an adapter.
fn bare_forward(base: &BaseModel, rows: &[Vec<u32>], at_once: usize) -> Result<f64> {
    let mut seconds = 0.0;
    for rows in rows.chunks(at_once) {
        let batch = Batch::of(rows);
        let begun = Instant::now();
        let kept = base.decoder.train_forward(&batch, None)?;
        seconds += begun.elapsed().as_secs_f64();
        drop(kept);
    }
    Ok(seconds)
}

impl Phases {
    fn least(self, other: Self) -> Self {
        Self {
            forward: self.forward.min(other.forward),
            head: self.head.min(other.head),
            backward: self.backward.min(other.backward),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_phase_add_up_to_it_and_none_is_negative() {
        let whole = Phases { forward: 1.0, head: 0.5, backward: 2.0 };
        let short = Phases { forward: 0.9, head: 0.5, backward: 2.1 };
        let parts = parts(whole, short, 0.8, 0.6, 0.01);
        assert!(parts.iter().all(|part| part.seconds >= 0.0), "{parts:?}");
        let sum: f64 = parts.iter().map(|part| part.seconds).sum();
        assert!((sum - 3.51).abs() < 1e-9, "{sum}");
    }
}
