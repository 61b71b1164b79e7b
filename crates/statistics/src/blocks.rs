//! The 2×2 e-process: two Bernoulli arms, exact from the first block.
//!
//! Before each block the two success rates are estimated from earlier blocks; the bet is that these
//! estimates predict it better than one common rate `θ₀ = (n_C θ_C + n_T θ_T)/(n_C + n_T)` does:
//! `E *= Π p_θ̂(y) / p_θ₀(y)`. Source: Turner, Ly and Grünwald, "Generic E-variables for exact
//! sequential k-sample tests that allow for optional stopping" (2024).

use serde::{Deserialize, Serialize};

/// Pretended earlier successes, and failures, of each arm: the prior with the least regret.
const PRIOR: f64 = 0.18;

/// Successes among the units of one arm in one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    pub successes: u64,
    pub units: u64,
}

impl Block {
    pub fn single(success: bool) -> Self {
        Self { successes: u64::from(success), units: 1 }
    }
}

/// Evidence, block by block, that the treatment succeeds less often than its control.
///
/// One-sided: where the treatment looks better, no bet is made. The order of blocks matters, and
/// the size of a block must not depend on what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct BlockTally {
    pub blocks: u64,
    pub control_units: u64,
    pub control_successes: u64,
    pub treatment_units: u64,
    pub treatment_successes: u64,
    /// Logarithm of the e-value now.
    pub ln_e: f64,
    /// The largest it ever was: what a watcher at every block would have seen.
    pub ln_e_max: f64,
}

impl BlockTally {
    pub fn push(&mut self, control: Block, treatment: Block) {
        let c = estimate(self.control_successes, self.control_units);
        let t = estimate(self.treatment_successes, self.treatment_units);
        let (in_control, in_treatment) = (control.units as f64, treatment.units as f64);
        if t < c {
            let pooled = (in_control * c + in_treatment * t) / (in_control + in_treatment);
            self.ln_e += ln_gain(control, c, pooled) + ln_gain(treatment, t, pooled);
            self.ln_e_max = self.ln_e_max.max(self.ln_e);
        }
        self.blocks += 1;
        self.control_units += control.units;
        self.control_successes += control.successes;
        self.treatment_units += treatment.units;
        self.treatment_successes += treatment.successes;
    }

    /// Joins the evidence of other, independent blocks: e-values multiply. A past maximum of either
    /// process was no maximum of the joint one, so only the present value is kept.
    pub fn merge(&mut self, other: &Self) {
        self.blocks += other.blocks;
        self.control_units += other.control_units;
        self.control_successes += other.control_successes;
        self.treatment_units += other.treatment_units;
        self.treatment_successes += other.treatment_successes;
        self.ln_e += other.ln_e;
        self.ln_e_max = self.ln_e.max(0.0);
    }
}

fn estimate(successes: u64, units: u64) -> f64 {
    (successes as f64 + PRIOR) / (units as f64 + 2.0 * PRIOR)
}

/// How much better a block is predicted by `p` than by `pooled`.
fn ln_gain(block: Block, p: f64, pooled: f64) -> f64 {
    let (good, bad) = (block.successes as f64, (block.units - block.successes) as f64);
    good * (p / pooled).ln() + bad * ((1.0 - p) / (1.0 - pooled)).ln()
}
