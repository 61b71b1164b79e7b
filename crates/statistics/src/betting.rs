//! The mean of values in `[0, 1]`, exact at any time and without assuming a distribution.
//!
//! Both sequences bet a share of their capital on each value; the size of the bet,
//! `λ_t = √(2 ln(1/α) / (σ̂²_{t−1} · t · ln(1+t)))`, depends on earlier values only. Source:
//! Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (2024).

use serde::{Deserialize, Serialize};

use crate::Interval;

/// Regularised running mean and variance: one pretended value at 1/2 with variance 1/4.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Bets {
    n: f64,
    sum: f64,
    squares: f64,
}

impl Bets {
    fn new() -> Self {
        Self { n: 0.0, sum: 0.5, squares: 0.25 }
    }

    /// The next bet, before its value is seen.
    fn next(&self, alpha: f64) -> f64 {
        let t = self.n + 1.0;
        let variance = self.squares / t;
        (-2.0 * alpha.ln() / (t * t.ln_1p() * variance)).sqrt()
    }

    fn push(&mut self, value: f64) {
        self.n += 1.0;
        self.sum += value;
        let mean = (self.sum / (self.n + 1.0)).min(1.0);
        self.squares += (value - mean).powi(2);
    }
}

/// The predictable-mixture empirical Bernstein confidence sequence, from a handful of sums.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EmpiricalBernstein {
    alpha: f64,
    n: f64,
    sum: f64,
    below: Side,
    above: Side,
}

/// One of the two lower bounds: of the mean, and of one minus the mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Side {
    bets: Bets,
    staked: f64,
    won: f64,
    penalty: f64,
}

impl Side {
    fn new() -> Self {
        Self { bets: Bets::new(), staked: 0.0, won: 0.0, penalty: 0.0 }
    }

    fn push(&mut self, value: f64, mean_before: f64, alpha: f64) {
        let bet = self.bets.next(alpha).min(0.5);
        self.bets.push(value);
        self.staked += bet;
        self.won += bet * value;
        self.penalty += (value - mean_before).powi(2) * (-(-bet).ln_1p() - bet);
    }

    fn lower(&self, alpha: f64) -> f64 {
        ((self.won - self.penalty + alpha.ln()) / self.staked).max(0.0)
    }
}

impl EmpiricalBernstein {
    pub fn new(alpha: f64) -> Self {
        Self { alpha, n: 0.0, sum: 0.0, below: Side::new(), above: Side::new() }
    }

    /// Takes a value from 0 to 1.
    pub fn push(&mut self, value: f64) {
        let mean = |sum: f64| if self.n == 0.0 { 0.0 } else { sum / self.n };
        let (direct, mirrored) = (mean(self.sum), mean(self.n - self.sum));
        self.below.push(value, direct, self.alpha / 2.0);
        self.above.push(1.0 - value, mirrored, self.alpha / 2.0);
        self.n += 1.0;
        self.sum += value;
    }

    /// Where the mean lies, at all times but for α; everything before the first value.
    pub fn interval(&self) -> Interval {
        if self.n == 0.0 {
            return Interval { lower: 0.0, upper: 1.0 };
        }
        let half = self.alpha / 2.0;
        Interval { lower: self.below.lower(half), upper: 1.0 - self.above.lower(half) }
    }
}

/// The hedged-capital confidence sequence: one pair of bets against every candidate of a grid.
///
/// Tighter than [`EmpiricalBernstein`], at the price of a grid; for display, not for the hot path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BettingGrid {
    alpha: f64,
    bets: Bets,
    /// Logarithms of the capital won against the candidate from above, and from below.
    capital: Vec<(f64, f64)>,
}

impl BettingGrid {
    /// Candidates are the `breaks + 1` means `0, 1/breaks, …, 1`.
    pub fn new(alpha: f64, breaks: usize) -> Self {
        let breaks = breaks.max(1);
        Self { alpha, bets: Bets::new(), capital: vec![(0.0, 0.0); breaks + 1] }
    }

    /// Takes a value from 0 to 1.
    pub fn push(&mut self, value: f64) {
        let bet = self.bets.next(self.alpha / 2.0);
        self.bets.push(value);
        let breaks = (self.capital.len() - 1) as f64;
        for (nth, (up, down)) in self.capital.iter_mut().enumerate() {
            let mean = nth as f64 / breaks;
            // Half of the largest bet that cannot ruin; infinite bets only meet a certain value.
            let (on_more, on_less) = (bet.min(0.5 / mean), bet.min(0.5 / (1.0 - mean)));
            *up += (on_more * (value - mean)).ln_1p();
            *down += (-on_less * (value - mean)).ln_1p();
        }
    }

    /// The candidates not yet refuted, widened by one break on either side.
    pub fn interval(&self) -> Interval {
        let breaks = (self.capital.len() - 1) as f64;
        let threshold = std::f64::consts::LN_2 - self.alpha.ln();
        let open = |(up, down): &(f64, f64)| up.max(*down) < threshold;
        let first = self.capital.iter().position(open);
        let last = self.capital.iter().rposition(open);
        match (first, last) {
            (Some(first), Some(last)) => Interval {
                lower: (first as f64 / breaks - 1.0 / breaks).max(0.0),
                upper: (last as f64 / breaks + 1.0 / breaks).min(1.0),
            },
            _ => Interval { lower: 0.0, upper: 1.0 },
        }
    }
}
