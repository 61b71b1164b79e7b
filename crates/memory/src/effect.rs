//! What a lesson does to success: counts that fade, the difference they show, and a sequential test.

use serde::Serialize;
use understudy_ident::Timestamp;
use understudy_statistics::{Block, BlockTally, reaches};

use crate::CounterSettings;

/// A count that halves every half-life.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Fading {
    weight: f64,
    at: Option<Timestamp>,
}

impl Fading {
    fn add(&mut self, now: Timestamp, half_life_days: f64) {
        *self = Self { weight: self.value(now, half_life_days) + 1.0, at: Some(now) };
    }

    fn value(self, now: Timestamp, half_life_days: f64) -> f64 {
        let Some(at) = self.at else { return 0.0 };
        self.weight * fade(at, now, half_life_days)
    }
}

/// `2^(−age / half-life)`, of at most 1.
pub(crate) fn fade(then: Timestamp, now: Timestamp, half_life_days: f64) -> f64 {
    let days = (now.as_second() - then.as_second()).max(0) as f64 / 86_400.0;
    (-days / half_life_days).exp2()
}

/// Everything that was counted for one lesson. Only outcomes of requests move what decides; what a
/// model says it used is noted and decides nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) injected: u64,
    pub(crate) withheld: u64,
    pub(crate) cited: u64,
    pub(crate) last_used: Option<Timestamp>,
    pub(crate) last_confirmed: Option<Timestamp>,
    /// Offered to heal something, and nobody has said yet whether it did.
    pub(crate) offers: u64,
    healed: [Fading; 2],
    with: [Fading; 2],
    control: [Fading; 2],
    /// Successes of either arm that wait for a partner, oldest first: one of the two is empty.
    waiting: [Vec<bool>; 2],
    harm: BlockTally,
    /// Counted since the agent got other weights: with and without the lesson.
    anew: Option<[[Fading; 2]; 2]>,
}

/// The counters as they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Counters {
    pub injected: u64,
    pub withheld: u64,
    pub cited: u64,
    /// Faded.
    pub success_with: f64,
    pub fail_with: f64,
    pub success_control: f64,
    pub fail_control: f64,
    /// Of whoever followed it to get past a failure, faded. It says nothing of the effect.
    pub heal_worked: f64,
    pub heal_failed: f64,
}

impl Tally {
    /// An offer is a use: whoever fails needs it, though no request is shown it.
    pub(crate) fn offer(&mut self, now: Timestamp) {
        self.offers += 1;
        self.last_used = Some(now);
    }

    /// An outcome that nothing was offered for counts nothing.
    pub(crate) fn heal(&mut self, worked: bool, now: Timestamp, settings: &CounterSettings) {
        if let Some(offers) = self.offers.checked_sub(1) {
            self.offers = offers;
            self.healed[usize::from(worked)].add(now, settings.half_life_days);
        }
    }

    pub(crate) fn outcome(
        &mut self,
        injected: bool,
        success: bool,
        now: Timestamp,
        settings: &CounterSettings,
    ) {
        let cells = if injected { &mut self.with } else { &mut self.control };
        cells[usize::from(success)].add(now, settings.half_life_days);
        if let Some(anew) = &mut self.anew {
            let cells = &mut anew[usize::from(injected)];
            cells[usize::from(success)].add(now, settings.half_life_days);
        }
        if injected && success {
            self.last_confirmed = Some(now);
        }
        self.waiting[usize::from(injected)].push(success);
        if !self.waiting[0].is_empty() && !self.waiting[1].is_empty() {
            let (control, with) = (self.waiting[0].remove(0), self.waiting[1].remove(0));
            self.harm.push(Block::single(control), Block::single(with));
        }
    }

    pub(crate) fn counters(&self, now: Timestamp, settings: &CounterSettings) -> Counters {
        let value = |cell: Fading| cell.value(now, settings.half_life_days);
        Counters {
            injected: self.injected,
            withheld: self.withheld,
            cited: self.cited,
            success_with: value(self.with[1]),
            fail_with: value(self.with[0]),
            success_control: value(self.control[1]),
            fail_control: value(self.control[0]),
            heal_worked: value(self.healed[1]),
            heal_failed: value(self.healed[0]),
        }
    }

    /// Begins to count a second time: what other weights did with the lesson says little of these.
    pub(crate) fn begin_anew(&mut self) {
        self.anew = Some(Default::default());
    }

    /// What was counted since.
    pub(crate) fn counters_anew(
        &self,
        now: Timestamp,
        settings: &CounterSettings,
    ) -> Option<Counters> {
        let [control, with] = self.anew?;
        let value = |cell: Fading| cell.value(now, settings.half_life_days);
        Some(Counters {
            success_with: value(with[1]),
            fail_with: value(with[0]),
            success_control: value(control[1]),
            fail_control: value(control[0]),
            ..Counters::default()
        })
    }

    /// Whether the sequential test says, at a level, that it does harm. Looking after every outcome
    /// is what the test is for: the chance that a harmless lesson is ever found harmful is at most
    /// `alpha`.
    pub(crate) fn harm_is_shown(&self, alpha: f64) -> bool {
        reaches(self.harm.ln_e_max, alpha)
    }
}

/// The difference of two success rates: with the lesson, less without.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Effect {
    pub mean: f64,
    /// One-sided bounds at the settings' level.
    pub lower: f64,
    pub upper: f64,
    /// Outcomes behind it, faded.
    pub outcomes: f64,
}

/// How finely a rate's distribution is cut.
const CELLS: usize = 200;

impl Effect {
    /// The difference of two Beta posteriors under uniform priors, by summing over a grid.
    pub fn of(counters: &Counters, bound: f64) -> Self {
        let outcomes = counters.success_with
            + counters.fail_with
            + counters.success_control
            + counters.fail_control;
        if outcomes == 0.0 {
            // The difference of two uniform rates: P(D ≤ d) = (1 + d)²/2 below 0.
            let bound = 1.0 - (2.0 * (1.0 - bound)).sqrt();
            return Self { mean: 0.0, lower: -bound, upper: bound, outcomes };
        }
        let with = beta(counters.success_with, counters.fail_with);
        let control = beta(counters.success_control, counters.fail_control);
        let mut difference = vec![0.0; 2 * CELLS - 1];
        for (i, p) in with.iter().enumerate() {
            for (j, q) in control.iter().enumerate() {
                difference[i + CELLS - 1 - j] += p * q;
            }
        }
        let value = |cell: usize| (cell as f64 - (CELLS as f64 - 1.0)) / CELLS as f64;
        let mean = difference.iter().enumerate().map(|(cell, p)| value(cell) * p).sum();
        let quantile = |share: f64| {
            let mut sum = 0.0;
            let at = difference.iter().position(|p| {
                sum += p;
                sum >= share
            });
            value(at.unwrap_or(difference.len() - 1))
        };
        Self { mean, lower: quantile(1.0 - bound), upper: quantile(bound), outcomes }
    }

    pub fn helps(&self) -> bool {
        self.lower > 0.0
    }

    pub fn harms(&self) -> bool {
        self.upper < 0.0
    }
}

/// The probability of each cell under Beta(1 + successes, 1 + failures).
fn beta(successes: f64, failures: f64) -> Vec<f64> {
    let middle = |cell: usize| (cell as f64 + 0.5) / CELLS as f64;
    let ln: Vec<f64> = (0..CELLS)
        .map(|cell| successes * middle(cell).ln() + failures * (1.0 - middle(cell)).ln())
        .collect();
    let largest = ln.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = ln.iter().map(|ln| (ln - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effect(with: (f64, f64), control: (f64, f64)) -> Effect {
        let counters = Counters {
            success_with: with.0,
            fail_with: with.1,
            success_control: control.0,
            fail_control: control.1,
            ..Counters::default()
        };
        Effect::of(&counters, 0.9)
    }

    #[test]
    fn differences_have_the_mean_of_their_posteriors_and_bounds_around_it() {
        let none = effect((0.0, 0.0), (0.0, 0.0));
        assert!(none.mean.abs() < 1e-9 && none.lower < -0.5 && none.upper > 0.5, "{none:?}");
        let almost = effect((1e-6, 0.0), (0.0, 0.0));
        assert!(
            (almost.lower - none.lower).abs() < 0.01 && (almost.upper - none.upper).abs() < 0.01
        );
        let good = effect((18.0, 2.0), (8.0, 12.0));
        // 19/22 − 9/22, the posterior means.
        assert!(
            (good.mean - 10.0 / 22.0).abs() < 5e-3 && good.helps() && !good.harms(),
            "{good:?}"
        );
        assert!(effect((2.0, 18.0), (18.0, 2.0)).harms());
        let same = effect((10.0, 10.0), (10.0, 10.0));
        assert!(!same.helps() && !same.harms());
    }

    #[test]
    fn counts_halve_and_the_test_waits_for_pairs() {
        let settings = CounterSettings::default();
        let start = Timestamp::UNIX_EPOCH;
        let later = Timestamp::from_second(30 * 86_400).unwrap();
        let mut tally = Tally::default();
        for _ in 0..8 {
            tally.outcome(true, false, start, &settings);
        }
        assert!((tally.counters(later, &settings).fail_with - 4.0).abs() < 1e-9);
        assert!(!tally.harm_is_shown(settings.suspect), "nothing to compare with yet");
        for _ in 0..20 {
            tally.outcome(false, true, start, &settings);
            tally.outcome(true, false, start, &settings);
        }
        assert!(tally.harm_is_shown(settings.alpha));
    }
}
