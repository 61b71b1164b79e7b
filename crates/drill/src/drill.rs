//! One release in one world, over HTTP, until the controller decides; and the same again and again.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use understudy_canary::Rules;
use understudy_manifest::Release;
use understudy_simulation::{Behaviour, Scenario};
use understudy_trajectory::RewardPolicy;

use crate::{DrillError, Ending, stage::Stage};

/// What is rehearsed.
#[derive(Debug, Clone, PartialEq)]
pub struct Drill {
    pub rules: Rules,
    /// How the stable arm behaves; a scenario says by what the candidate differs.
    pub stable: Behaviour,
    pub seed: u64,
    /// The traffic that seconds are told for.
    pub sessions_per_second: f64,
    /// After so many sessions without a decision the release counts as held.
    pub most_sessions: u64,
}

impl Drill {
    pub fn of(rules: Rules) -> Self {
        let stable = Behaviour::default();
        Self { rules, stable, seed: 17, sessions_per_second: 10.0, most_sessions: 40_000 }
    }
}

/// The rules of a drill where no recipe says others: a ramp of 10, 25 and 50 %, fifty outcomes each,
/// a margin of five points, a p95 of 400 ms, and five hundred units of patience with silent rewards.
pub fn drill_rules() -> Result<Rules, DrillError> {
    let release = Release {
        steps: vec![10, 25, 50, 100],
        latency_slo_ms: Some(400.0),
        tap: 0.0,
        ..Release::default()
    };
    let mut rules = Rules::of(&release, RewardPolicy::DefaultV1)?;
    rules.policy.max_silent_units = 500;
    Ok(rules)
}

/// How one release went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Played {
    pub scenario: Scenario,
    pub seed: u64,
    pub ending: Ending,
    /// Whether a good policy ends like this there.
    pub is_right: bool,
    /// What the release was told, with the numbers it rests on.
    pub reason: String,
    /// Of the ramp, counted from 1, where it ended.
    pub step: u32,
    /// Until the decision, compared or not; what a proxy lost among them.
    pub sessions: u64,
    pub canary_sessions: u64,
    pub requests: u64,
    pub outcomes: u64,
    /// How long so many sessions take at the stated traffic.
    pub seconds: f64,
    pub sessions_per_second: f64,
    /// How long the drill itself took.
    pub wall_ms: u64,
}

/// Rehearses one release.
pub fn play(scenario: Scenario, drill: &Drill) -> Result<Played, DrillError> {
    let begun = Instant::now();
    let policy = &drill.rules.policy;
    if scenario == Scenario::Costlier && policy.cost_cap.is_none() {
        return Err(DrillError::NoCosts);
    }
    if !(drill.sessions_per_second > 0.0 && drill.sessions_per_second.is_finite()) {
        let (field, value) = ("sessions per second", drill.sessions_per_second);
        return Err(DrillError::Setting { field, value, expected: "a number above 0" });
    }
    let mut stage = Stage::open(scenario, drill)?;
    while stage.sessions < drill.most_sessions && stage.is_ramping()? {
        stage.round()?;
    }
    let (release, ending) = stage.ending()?;
    Ok(Played {
        scenario,
        seed: drill.seed,
        ending,
        is_right: ending.is_right_for(scenario),
        reason: release.changed_because,
        step: release.step + 1,
        sessions: stage.sessions,
        canary_sessions: stage.canary_sessions,
        requests: stage.requests,
        outcomes: stage.outcomes,
        seconds: stage.sessions as f64 / drill.sessions_per_second,
        sessions_per_second: drill.sessions_per_second,
        wall_ms: begun.elapsed().as_millis() as u64,
    })
}

/// A scenario under several seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repeated {
    pub scenario: Scenario,
    pub runs: u32,
    pub promoted: u32,
    pub held: u32,
    pub paused: u32,
    pub rolled_back: u32,
    pub right: u32,
    /// The chance, by the policy, that a harmless candidate is ever taken off.
    pub stated: f64,
    /// With that chance, more than so many of these runs are taken off in less than one of a hundred
    /// such series.
    pub most_rolled_back: u32,
    pub played: Vec<Played>,
}

/// Rehearses a scenario with seeds that follow each other; `each` hears of every release.
pub fn repeat(
    scenario: Scenario,
    drill: &Drill,
    runs: u32,
    each: &mut dyn FnMut(&Played),
) -> Result<Repeated, DrillError> {
    let mut played = Vec::new();
    for nth in 0..u64::from(runs) {
        let one = play(scenario, &Drill { seed: drill.seed + nth, ..drill.clone() })?;
        each(&one);
        played.push(one);
    }
    let count =
        |of: fn(&Ending) -> bool| played.iter().filter(|one| of(&one.ending)).count() as u32;
    let policy = &drill.rules.policy;
    // Each acting guard may have a limit, and safety a comparison, outside the shared rate.
    let others = policy.rollback_on.len() as f64 + 1.0;
    let stated = (policy.alpha_rollback + others * policy.alpha_slo).min(1.0);
    Ok(Repeated {
        scenario,
        runs,
        promoted: count(|ending| *ending == Ending::Promoted),
        held: count(|ending| *ending == Ending::Held),
        paused: count(|ending| matches!(ending, Ending::Paused { .. })),
        rolled_back: count(|ending| matches!(ending, Ending::RolledBack { .. })),
        right: played.iter().filter(|one| one.is_right).count() as u32,
        stated,
        most_rolled_back: rarely_exceeded(runs, stated),
        played,
    })
}

/// The least count that a binomial exceeds in at most one of a hundred draws.
pub(crate) fn rarely_exceeded(runs: u32, chance: f64) -> u32 {
    let mut of_count = (1.0 - chance).powf(f64::from(runs));
    let mut up_to = of_count;
    let mut count = 0;
    while up_to < 0.99 && count < runs {
        of_count *= f64::from(runs - count) / f64::from(count + 1) * chance / (1.0 - chance);
        up_to += of_count;
        count += 1;
    }
    count
}

impl Played {
    pub fn text(&self) -> String {
        let Self { scenario, ending, sessions, requests, seconds, step, .. } = self;
        let told = if self.is_right { "" } else { " — NOT as it should be" };
        let time = Duration::from_secs_f64(seconds.max(0.0)).as_secs();
        let decided = if *ending == Ending::Held { "still open" } else { "decided" };
        format!(
            "{scenario}: {ending}{told}\n  {decided} after {sessions} sessions ({requests} \
             requests, {} with the candidate), {time} s at {} a second, at step {step}\n  {}",
            self.canary_sessions, self.sessions_per_second, self.reason
        )
    }
}

impl Repeated {
    /// Whether no more harmless candidates were taken off than the policy states, as far as so many
    /// runs can tell.
    pub fn is_within(&self) -> bool {
        self.rolled_back <= self.most_rolled_back
    }

    pub fn text(&self) -> String {
        let Self { scenario, runs, promoted, held, paused, rolled_back, right, .. } = self;
        format!(
            "{scenario}, {runs} releases: {promoted} promoted, {held} held, {paused} paused, \
             {rolled_back} rolled back; {right} as they should be\n  the policy states at most \
             {:.1} % false rollbacks: more than {} of {runs} would be too many",
            self.stated * 100.0,
            self.most_rolled_back
        )
    }
}
