//! Release after release under load, and afterwards whether all of it is accounted for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use understudy_canary::Rules;
use understudy_ident::SystemClock;
use understudy_journal::Query;
use understudy_manifest::Release;
use understudy_registry::{Change, ReleaseState};
use understudy_simulation::{Behaviour, World};
use understudy_trajectory::RewardPolicy;

use crate::{
    DrillError,
    audience::User,
    crowd::Crowd,
    house::{House, Models, TASK},
    script::{Health, Script},
    tally::{Sum, Tally, median, read, resident_bytes},
};

/// How often the controller looks, as in `understudy serve`.
const TICK: Duration = Duration::from_millis(100);
const SAMPLE: Duration = Duration::from_millis(500);

/// Memory at the end may be this much of what it was once everything had been used.
const FLAT: f64 = 1.05;
/// And this much more, which allocators keep for themselves.
const SLACK: f64 = (64 << 20) as f64;

/// What is soaked.
#[derive(Debug, Clone, PartialEq)]
pub struct Soak {
    pub seconds: u64,
    /// Requests a second; without it, half of what the server was found to take at the beginning.
    pub rate: Option<f64>,
    /// Users who ask at the same time.
    pub clients: usize,
    pub seed: u64,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Soaked {
    pub seconds: f64,
    /// What the server took when everybody asked as fast as they could; none where it was not tried.
    pub most_per_second: Option<f64>,
    /// Asked for, and reached.
    pub rate: f64,
    pub reached: f64,
    pub replies: u64,
    pub streamed: u64,
    pub failed: u64,
    pub outcomes: u64,
    pub early: u64,
    pub releases: u64,
    pub promoted: u64,
    pub rolled_back: u64,
    /// Paused, and given up by a person.
    pub given_up: u64,
    pub sums: Vec<Sum>,
    pub reconciled: bool,
    /// Medians over the second and the last quarter.
    pub rss_bytes_early: u64,
    pub rss_bytes_late: u64,
    pub flat: bool,
    pub journal_bytes: u64,
}

/// Serves, ramps, asks and judges for as long as asked, and then counts.
pub fn soak(settings: &Soak) -> Result<Soaked, DrillError> {
    settings.check()?;
    let harmless = Behaviour { errors: 0.0, unsafe_outputs: 0.0, ..Behaviour::default() };
    let world = World::alike(harmless);
    let script = Script { world, seed: settings.seed, latency_p95_ms: 1e3, cost_cap: None };
    let models = Models::Replicas(vec![Health::Well]);
    let mut house = House::open(&script, &models, Arc::new(SystemClock))?;
    let user = User::of(house.front.address);
    let tally = Tally::default();
    let numbers = AtomicU64::new(0);
    let begun = Instant::now();
    let until = begun + Duration::from_secs(settings.seconds);
    let stop = AtomicBool::new(false);
    let crowd = Crowd { user: &user, script: &script, tally: &tally, numbers: &numbers };
    let (releases, load, memory) = thread::scope(|scope| {
        let manager = scope.spawn(|| ramp(&mut house, &stop));
        let sampler = scope.spawn(|| sample(&stop));
        let load = crowd.load(settings, until);
        stop.store(true, Ordering::Relaxed);
        let releases = manager.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let memory = sampler.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (releases, load, memory)
    });
    let (releases, load) = (releases?, load?);
    let seconds = begun.elapsed().as_secs_f64();
    let sums = reconcile(&house, &user, &tally)?;
    let quarter = (memory.len() / 4).max(1);
    let early = median(memory.get(quarter..2 * quarter).unwrap_or(&memory));
    let late = median(&memory[memory.len().saturating_sub(quarter)..]);
    Ok(Soaked {
        seconds,
        most_per_second: load.most,
        rate: load.rate,
        reached: load.reached,
        replies: read(&tally.replies),
        streamed: read(&tally.streamed),
        failed: read(&tally.failed),
        outcomes: read(&tally.outcomes),
        early: read(&tally.early),
        releases: releases.begun,
        promoted: releases.promoted,
        rolled_back: releases.rolled_back,
        given_up: releases.given_up,
        reconciled: sums.iter().all(Sum::is_exact),
        sums,
        rss_bytes_early: early,
        rss_bytes_late: late,
        flat: late as f64 <= FLAT * early as f64 + SLACK,
        journal_bytes: house.journal_bytes(),
    })
}

impl Soak {
    fn check(&self) -> Result<(), DrillError> {
        let wrong = |field, value, expected| Err(DrillError::Setting { field, value, expected });
        if self.seconds == 0 {
            return wrong("seconds", 0.0, "at least 1");
        }
        if self.clients == 0 || self.clients > 1024 {
            return wrong("clients", self.clients as f64, "1 to 1024");
        }
        match self.rate {
            Some(rate) if !(rate > 0.0 && rate <= 1e6) => {
                wrong("requests a second", rate, "a number above 0, at most a million")
            }
            _ => Ok(()),
        }
    }
}

/// The rules of a soak's releases: a ramp that takes its time, so that one is nearly always ramping.
fn rules() -> Result<Rules, DrillError> {
    let release = Release {
        steps: vec![5, 25, 50, 100],
        margin: 0.1,
        min_step_s: 10,
        tap: 0.0,
        ..Release::default()
    };
    Ok(Rules::of(&release, RewardPolicy::DefaultV1)?)
}

#[derive(Debug, Default)]
struct Releases {
    begun: u64,
    promoted: u64,
    rolled_back: u64,
    given_up: u64,
}

/// The controller, and a person who releases the next candidate when the last one's fate is sealed.
fn ramp(house: &mut House, stop: &AtomicBool) -> Result<Releases, DrillError> {
    let (rules, mut releases) = (rules()?, Releases::default());
    let mut open: Option<understudy_registry::ReleaseRecord> = None;
    while !stop.load(Ordering::Relaxed) {
        if let Some(release) = &open {
            let release = house.registry.release(&release.id)?;
            match release.state {
                ReleaseState::Staging | ReleaseState::Ramping => {}
                ReleaseState::Paused | ReleaseState::AwaitingApproval => {
                    let change = Change::new("drill", "nobody decides it", &*house.clock);
                    house.registry.abort(&release.id, change)?;
                    releases.given_up += 1;
                    open = None;
                }
                ReleaseState::Promoted => {
                    releases.promoted += 1;
                    open = None;
                }
                _ => {
                    releases.rolled_back += 1;
                    open = None;
                }
            }
        }
        if open.is_none() {
            releases.begun += 1;
            open = Some(house.release(&rules, &format!("soak {}", releases.begun))?);
        }
        house.controller.tick()?;
        thread::sleep(TICK);
    }
    Ok(releases)
}

fn sample(stop: &AtomicBool) -> Vec<u64> {
    let mut memory = vec![resident_bytes()];
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(SAMPLE);
        memory.push(resident_bytes());
    }
    memory
}

/// What users were told against what the server holds.
fn reconcile(house: &House, user: &User, tally: &Tally) -> Result<Vec<Sum>, DrillError> {
    let counts = user.counts()?;
    let held = |name: &str| counts[name].as_u64().unwrap_or(u64::MAX);
    let (outcomes, pending) = (held("outcomes"), held("pending_outcomes"));
    let (told, astray) = (read(&tally.outcomes), read(&tally.astray));
    let query = Query { task: TASK.parse().ok(), ..Query::default() };
    let (mut trajectories, mut judged) = (0, 0);
    for trajectory in house.journal.scan(&query)? {
        trajectories += 1;
        judged += trajectory?.steps.iter().map(|step| step.outcomes.len() as u64).sum::<u64>();
    }
    Ok(vec![
        Sum::of("replies = steps", read(&tally.replies) + read(&tally.failed), held("steps")),
        Sum::of("sessions answered = trajectories", read(&tally.sessions), trajectories),
        Sum::of("outcomes acknowledged = linked + pending", told, judged + pending),
        Sum::of("outcomes acknowledged = outcomes", told, outcomes),
        Sum::of("about nobody's reply = pending", astray, pending),
        Sum::of("nothing unreadable", 0, held("unreadable")),
    ])
}

impl Soaked {
    /// Whether everything that was promised was kept.
    pub fn is_kept(&self) -> bool {
        self.reconciled && self.flat && self.failed == 0 && self.replies > 0
    }

    pub fn text(&self) -> String {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let most = self.most_per_second.map_or_else(String::new, |most| {
            format!(" (half of {most:.0}, which is what it took at most)")
        });
        let mut lines = vec![
            format!(
                "{:.0} s at {:.0} requests a second{most}; reached {:.0}",
                self.seconds, self.rate, self.reached
            ),
            format!(
                "  {} replies, {} of them streamed, {} failed; {} outcomes, {} of them before \
                 their session",
                self.replies, self.streamed, self.failed, self.outcomes, self.early
            ),
            format!(
                "  {} releases: {} promoted, {} rolled back, {} given up, the last one under way",
                self.releases, self.promoted, self.rolled_back, self.given_up
            ),
        ];
        for sum in &self.sums {
            let verdict = if sum.is_exact() { "ok" } else { "WRONG" };
            lines.push(format!("  {verdict}: {}: {} and {}", sum.what, sum.told, sum.held));
        }
        lines.push(format!(
            "  memory {:.0} MB in the second quarter, {:.0} MB in the last: {}; journal {:.0} MB",
            megabytes(self.rss_bytes_early),
            megabytes(self.rss_bytes_late),
            if self.flat { "flat" } else { "GROWING" },
            megabytes(self.journal_bytes)
        ));
        lines.join("\n")
    }
}
