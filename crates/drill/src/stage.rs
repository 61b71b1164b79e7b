//! A drill under way: rounds of sessions, and a look of the controller after each.

use std::{sync::Arc, thread};

use serde_json::Value;
use understudy_ident::ManualClock;
use understudy_manifest::Guard;
use understudy_registry::{ReleaseRecord, ReleaseState};
use understudy_router::Verdict;
use understudy_simulation::{Scenario, World};
use understudy_trajectory::Arm;

use crate::{
    Drill, DrillError, Ending,
    audience::{Heard, Judge, User},
    house::{House, Models, task},
    script::{Health, Script},
};

/// Sessions between two looks of the controller, who looks ten times a second in production.
const ROUND: u64 = 32;
const CLIENTS: usize = 8;

/// The stable arm's p95 where the rules name no limit.
const SCRIPTED_P95_MS: f64 = 400.0;

/// Where a drill's clock begins: some day, and not the beginning of time.
const SOME_DAY_MS: i64 = 1_767_225_600_000;

/// A release under way.
pub(crate) struct Stage {
    house: House,
    release: ReleaseRecord,
    script: Script,
    user: User,
    clock: ManualClock,
    judge: Judge,
    /// Milliseconds of the drill's clock that a round takes.
    round_ms: i64,
    pub(crate) sessions: u64,
    pub(crate) canary_sessions: u64,
    pub(crate) requests: u64,
    pub(crate) outcomes: u64,
}

impl Stage {
    pub(crate) fn open(scenario: Scenario, drill: &Drill) -> Result<Self, DrillError> {
        let policy = &drill.rules.policy;
        let mut rules = drill.rules.clone();
        // Nothing was served here before, so what the script says stands for what a release would find.
        let latency_p95_ms = *rules.latency_slo_ms.get_or_insert(SCRIPTED_P95_MS);
        // Where a replica is dead, the errors are its own and not the script's.
        let on_replicas = scenario == Scenario::DeadReplica;
        let world = if on_replicas {
            World::alike(drill.stable)
        } else {
            scenario.world(policy, drill.stable)
        };
        let script = Script { world, seed: drill.seed, latency_p95_ms, cost_cap: policy.cost_cap };
        let models = if on_replicas {
            Models::Replicas(vec![Health::Well, Health::DeadForAdapters])
        } else {
            Models::Inside
        };
        let clock = ManualClock::default();
        clock.advance_ms(SOME_DAY_MS);
        let mut house = House::open(&script, &models, Arc::new(clock.clone()))?;
        let release = house.release(&rules, &format!("{scenario} {}", drill.seed))?;
        house.controller.tick()?;
        let user = User::of(house.front.address);
        let judge = match scenario {
            Scenario::SilentTeacher => Judge::Teacher,
            _ => Judge::User,
        };
        let round_ms = (ROUND as f64 * 1e3 / drill.sessions_per_second).round().max(1.0) as i64;
        let (sessions, canary_sessions, requests, outcomes) = (0, 0, 0, 0);
        Ok(Self {
            house,
            release,
            script,
            user,
            clock,
            judge,
            round_ms,
            sessions,
            canary_sessions,
            requests,
            outcomes,
        })
    }

    pub(crate) fn is_ramping(&self) -> Result<bool, DrillError> {
        Ok(self.house.registry.release(&self.release.id)?.state == ReleaseState::Ramping)
    }

    /// Sessions all at once, then everything that is said of them, then a look of the controller.
    pub(crate) fn round(&mut self) -> Result<(), DrillError> {
        let first = self.sessions;
        let mut asking = Vec::new();
        for nth in first..first + ROUND {
            let is_canary = self.is_canary(nth);
            self.canary_sessions += u64::from(is_canary);
            // A proxy in front of the server, which loses some of one arm's sessions.
            let lost = is_canary && self.chance_of(nth, "lost") < self.script.world.canary.lost;
            if !lost {
                asking.push(nth);
            }
        }
        self.sessions += ROUND;
        let turns = self.script.world.requests_per_unit.max(1);
        let heard = converse(&self.user, &asking, turns)?;
        self.requests += heard.len() as u64;
        let silent_from = self.script.world.silent_from.unwrap_or(u64::MAX);
        let events: Vec<Value> = heard
            .iter()
            .filter(|(nth, _)| *nth < silent_from)
            .filter_map(|(_, heard)| heard.event(self.judge))
            .collect();
        self.outcomes += self.user.tell(&events)?.len() as u64;
        self.clock.advance_ms(self.round_ms);
        self.house.controller.tick()?;
        Ok(())
    }

    fn is_canary(&self, nth: u64) -> bool {
        let route = self.house.routes.get(&task());
        route.is_some_and(|task| task.route.assign(&session(nth)).arm == Arm::Canary)
    }

    fn chance_of(&self, nth: u64, what: &str) -> f64 {
        self.script.chance(what, &session(nth))
    }

    /// The release as it stands now, and what that means.
    pub(crate) fn ending(&self) -> Result<(ReleaseRecord, Ending), DrillError> {
        let release = self.house.registry.release(&self.release.id)?;
        let ending = match release.state {
            ReleaseState::Promoted => Ending::Promoted,
            ReleaseState::RolledBack => Ending::RolledBack { guard: self.blamed()? },
            ReleaseState::Paused => match release.paused_because {
                Some(because) => Ending::Paused { because },
                None => Ending::Held,
            },
            _ => Ending::Held,
        };
        Ok((release, ending))
    }

    /// The guard of the verdict that the audit chain holds; none where no evidence was needed.
    fn blamed(&self) -> Result<Option<Guard>, DrillError> {
        let audit = self.house.registry.audit(Some(&task()))?;
        let last = audit.iter().rev().find(|entry| entry.action == "release.roll_back");
        let Some(evidence) = last.and_then(|entry| entry.evidence.as_ref()) else {
            return Ok(None);
        };
        let verdict: Verdict = serde_json::from_value(evidence["judgement"]["verdict"].clone())?;
        Ok(match verdict {
            Verdict::RollBack { guard } => Some(guard),
            _ => None,
        })
    }
}

fn session(nth: u64) -> String {
    format!("visitor-{nth}")
}

/// Every session's turns, one after the other; sessions beside each other. In the order of sessions.
fn converse(user: &User, sessions: &[u64], turns: u32) -> Result<Vec<(u64, Heard)>, DrillError> {
    let share = sessions.len().div_ceil(CLIENTS).max(1);
    thread::scope(|scope| {
        let clients: Vec<_> = sessions
            .chunks(share)
            .map(|mine| {
                let user = user.clone();
                scope.spawn(move || ask_all(&user, mine, turns))
            })
            .collect();
        let mut all = Vec::new();
        for client in clients {
            // A client that panicked has said so; the drill ends with it.
            let heard = client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            all.extend(heard?);
        }
        Ok(all)
    })
}

fn ask_all(user: &User, sessions: &[u64], turns: u32) -> Result<Vec<(u64, Heard)>, DrillError> {
    let mut heard = Vec::new();
    for nth in sessions {
        for turn in 0..turns {
            let question = Script::question(*nth, turn);
            heard.push((*nth, user.ask(&session(*nth), &question, false)?));
        }
    }
    Ok(heard)
}
