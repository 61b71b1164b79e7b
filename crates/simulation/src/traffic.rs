//! What units go through: draws from a world, as the observations a server would record.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use understudy_router::{Observation, Policy, Salt, Side};
use understudy_statistics::Exceedance;

use crate::{Behaviour, World};

/// Spread of log-latencies and log-costs: a p95 about 2.7 times the median.
const LOG_SPREAD: f64 = 0.6;
/// Latencies of the stable arm, before the release, from which the limit is frozen.
const WARM_UP: usize = 2_000;

/// The seeded chance of one world.
pub(crate) struct Draws {
    world: World,
    cost_cap: Option<f64>,
    chance: ChaCha8Rng,
    /// Above the p95 that the stable arm had before the release.
    slow: Exceedance,
    /// Rewards on their way, by when they arrive.
    coming: BTreeMap<(i64, u64), Observation>,
    sent: u64,
}

impl Draws {
    pub(crate) fn new(world: World, policy: &Policy, seed: u64) -> Self {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        let mut before: Vec<f64> = (0..WARM_UP).map(|_| log_normal(&mut chance)).collect();
        let slow =
            Exceedance::at_quantile(&mut before, 0.95).expect("the warm-up has many latencies");
        let cost_cap = policy.cost_cap;
        Self { world, cost_cap, chance, slow, coming: BTreeMap::new(), sent: 0 }
    }

    pub(crate) fn salt(&mut self) -> Salt {
        Salt::new(self.chance.random())
    }

    /// What is recorded of a unit that arrives as the `nth`: each reply, and what was thought of it.
    pub(crate) fn unit(&mut self, unit: &str, arm: Side, nth: u64, at_ms: i64) -> Vec<Observation> {
        let is = match arm {
            Side::Canary => self.world.canary,
            Side::Baseline => self.world.stable,
        };
        if self.chance.random_bool(is.lost) {
            return Vec::new();
        }
        let mut recorded = Vec::new();
        // The unit's own chances, drawn with its first request.
        let (mut is_rewarded, mut mood) = (None, None);
        for _ in 0..self.world.requests_per_unit.max(1) {
            let reply = self.reply(is, unit, arm, at_ms);
            let error = reply.error;
            recorded.push(reply);
            let silent = self.world.silent_from.is_some_and(|from| nth >= from);
            let missing = &mut self.chance;
            if !*is_rewarded.get_or_insert_with(|| !silent && !missing.random_bool(is.missing)) {
                continue;
            }
            let pleased = match mood {
                _ if error => 0.0,
                Some(pleased) => pleased,
                None => *mood.insert(self.success_of_unit(is, nth)),
            };
            recorded.extend(self.reward(is, pleased, (unit, arm), at_ms));
        }
        recorded
    }

    /// One reply, as it was received.
    fn reply(&mut self, is: Behaviour, unit: &str, arm: Side, at_ms: i64) -> Observation {
        let error = self.chance.random_bool(is.errors);
        let latency = is.slowness * log_normal(&mut self.chance);
        let cost = self.cost_cap.map_or(0.0, |cap| cap * is.cost * log_normal(&mut self.chance));
        Observation {
            at_ms: Some(at_ms),
            error,
            latency_exceeded: latency > self.slow.threshold(),
            unsafe_output: self.chance.random_bool(is.unsafe_outputs),
            cost,
            ..Observation::served(unit, arm)
        }
    }

    /// What is thought of a reply: at once, or on its way.
    fn reward(
        &mut self,
        is: Behaviour,
        pleased: f64,
        (unit, arm): (&str, Side),
        at_ms: i64,
    ) -> Option<Observation> {
        let success = self.chance.random_bool(pleased);
        let delay = if success { is.good_news_ms } else { is.bad_news_ms } as i64;
        let reward = Some(f64::from(u8::from(success)));
        let outcome = Observation { reward, ..Observation::served(unit, arm) };
        if delay == 0 {
            return Some(outcome);
        }
        self.sent += 1;
        self.coming.insert((at_ms + delay, self.sent), outcome);
        None
    }

    /// Rewards that have arrived by now.
    pub(crate) fn arrived(&mut self, now_ms: i64) -> Vec<Observation> {
        if self.coming.is_empty() {
            return Vec::new();
        }
        let later = self.coming.split_off(&(now_ms + 1, 0));
        std::mem::replace(&mut self.coming, later).into_values().collect()
    }

    /// One unit's chance of success, which all its requests share.
    fn success_of_unit(&mut self, is: Behaviour, nth: u64) -> f64 {
        let passed = nth.min(self.world.drift_arrivals) as f64 / self.world.drift_arrivals as f64;
        let mean = (is.success - self.world.drift * passed).clamp(0.0, 1.0);
        if self.world.spread == 0.0 {
            return mean;
        }
        let log_odds = (mean / (1.0 - mean)).ln() + self.world.spread * normal(&mut self.chance);
        1.0 / (1.0 + (-log_odds).exp())
    }
}

/// Median 1.
fn log_normal(chance: &mut impl Rng) -> f64 {
    (LOG_SPREAD * normal(chance)).exp()
}

/// Box and Muller's transform.
pub(crate) fn normal(chance: &mut impl Rng) -> f64 {
    let (radius, angle) = (1.0 - chance.random::<f64>(), chance.random::<f64>());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}
