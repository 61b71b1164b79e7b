//! Requests of users who each stay on one arm: what becomes of a test that counts requests.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_statistics::{Difference, Moments};

use crate::{Quantiles, Share, Stopping, traffic::normal};

/// Users of two arms that are alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Users {
    pub success: f64,
    /// Standard deviation, between users, of the log-odds of success.
    pub spread: f64,
    pub requests: u64,
    /// Users per arm from one look to the next, and at the last.
    pub every: u64,
    pub up_to: u64,
}

/// What a comparison counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// As if each came from another user.
    Requests,
    /// By the mean of a user's requests.
    Users,
}

/// How often two equal arms are told apart by the one-sided sequence, and after how many users of each.
pub fn clustered(
    counted: Counted,
    users: Users,
    (alpha, n_star): (f64, f64),
    (replications, seed): (u32, u64),
) -> Stopping {
    let stops: Vec<f64> = (0..replications)
        .filter_map(|nth| {
            let mut chance = ChaCha8Rng::seed_from_u64(seed.wrapping_add(u64::from(nth)));
            let mut arms = [Sums::default(); 2];
            (1..=users.up_to).find(|n| {
                for arm in &mut arms {
                    arm.add(counted, users.rate_of_one(&mut chance));
                }
                let [treatment, control] = arms.map(Sums::moments);
                let apart = || Difference::of(treatment, control).upper(alpha, n_star) < 0.0;
                n % users.every == 0 && apart()
            })
        })
        .map(|units| units as f64)
        .collect();
    let stopped = Share::of(stops.len() as u64, u64::from(replications));
    Stopping { stopped, units: Quantiles::of(stops) }
}

impl Users {
    /// How many of one user's requests succeed, and how many there are.
    fn rate_of_one(&self, chance: &mut ChaCha8Rng) -> (u64, u64) {
        let log_odds = (self.success / (1.0 - self.success)).ln() + self.spread * normal(chance);
        let rate = 1.0 / (1.0 + (-log_odds).exp());
        let successes = (0..self.requests).filter(|_| chance.random::<f64>() < rate).count();
        (successes as u64, self.requests)
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    n: u64,
    sum: f64,
    squares: f64,
}

impl Sums {
    fn add(&mut self, counted: Counted, (successes, requests): (u64, u64)) {
        let mean = successes as f64 / requests as f64;
        let (n, sum, squares) = match counted {
            Counted::Requests => (requests, successes as f64, successes as f64),
            Counted::Users => (1, mean, mean * mean),
        };
        self.n += n;
        self.sum += sum;
        self.squares += squares;
    }

    fn moments(self) -> Moments {
        Moments::smoothed(self.n, self.sum, self.squares)
    }
}
