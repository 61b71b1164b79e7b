//! `understudy demo --generations N`: the loop by itself. Nobody starts anything: users come, the
//! kinds of message they send grow from era to era, what serves falls behind, and the loop of
//! `understudy serve --loop` notices, trains, gates and releases.
//!
//! A kind of message that what serves has never seen gets a wrong answer, which its sender asks for
//! again and then leaves. What there is to learn about it comes from the tap: the share of sessions
//! that the expert always answers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use understudy_capture::Levels;
use understudy_gateway::{AdapterUpdates, Patience};
use understudy_inference::SamplingDefaults;
use understudy_lookout::{Tally, who};
use understudy_manifest::{Recipe, Tier, Unattended};
use understudy_orchestrator::{Earned, Past, Status, StatusState};
use understudy_registry::ReleaseState;
use understudy_storage::DataDirLock;
use understudy_supportdesk::{Intent, Temper, Ticket, Wording, suite, tickets};
use understudy_trajectory::RewardPolicy;

use super::{
    users::{Application, Session, Tally as Users, play_one},
    world,
};
use crate::{
    attend::Attending,
    commands::{Exit, model, suite as suites},
    config::Config,
    held::HeldIn,
    output::Out,
    ports::MakeTeacher,
    wiring::{self, Access, Grpc, Listening, Server, Serving, Stores},
};

/// Customers at the desk at the same time.
const USERS: usize = 6;

/// The desk is closed while a turn trains or evaluates: demo, customers and trainer share one machine.
const CLOSED: Duration = Duration::from_millis(200);

/// Judged replies of a champion before the next kinds of message arrive.
const SETTLED: u64 = 120;

/// Cases of the sealed suite, all kinds of message from the beginning: enough for a gate that asks
/// for evidence to tell a generation from the one before, which gain a few points on each other.
const CASES: usize = 224;

/// For one generation.
const PATIENCE: Duration = Duration::from_hours(2);

#[derive(Debug, Serialize)]
struct Story {
    generations: Vec<Generation>,
    eras: Vec<Era>,
    turns: u64,
    rolled_back: usize,
    sessions: u64,
    failed_requests: u64,
    seconds: f64,
    log: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Generation {
    version: String,
    because: String,
    seconds: f64,
}

/// What the answers of an era were worth, by who gave them.
#[derive(Debug, Serialize)]
struct Era {
    kinds: usize,
    rewards: Vec<Earned>,
}

pub(super) fn run(count: u8, seed: u64, config: &Config, out: Out) -> Result<Exit> {
    let count = usize::from(count);
    let recipe = recipe(seed, count as u64)?;
    let base = model::obtain(config, &recipe.base, out)?;
    let stores = Stores::open(&config.data)?;
    let _lock = DataDirLock::acquire(config.data.root().to_owned())?;
    suites::save(&config.data, &suite(recipe.task.clone(), Tier::Sealed, seed + 1, CASES))?;
    let student = wiring::engine(&base, &recipe.base, (HeldIn::default(), &config.device))?;
    let runtime = wiring::runtime()?;
    let server = Server::start(Serving {
        listening: Listening::at(([127, 0, 0, 1], 0).into(), &runtime)?,
        runtime,
        stores: &stores,
        student: Arc::clone(&student),
        teacher: Some(world::teacher()?),
        tasks: vec![recipe.task.clone()],
        adapter_updates: AdapterUpdates::Forbidden,
        request_templates: false,
        sampling_defaults: SamplingDefaults::default(),
        patience: Patience { drain: Duration::ZERO, ..Patience::default() },
        keep_raw: None,
        flush_replies: false,
        capture: Levels::default(),
        policy: understudy_canary::PolicyDefaults::default(),
        on_note: Box::new(move |note| out.say(format!("  ▸ {}", note.text))),
        control: None,
        grpc: Grpc::Off,
        access: Access::default(),
        memory: None,
    })?;
    let make_teacher = Arc::new(|| Box::new(|| Ok(Some(world::teacher()?))) as MakeTeacher);
    let (board, recipes) = (server.board(), vec![recipe.clone()]);
    let config = config.clone();
    Attending { config: config.clone(), recipes, student, board, out, base, make_teacher }
        .start()?;
    out.say(format!(
        "The loop of `{}` runs by itself, at {}. Users come; what they ask for grows.\n",
        recipe.task,
        server.url()
    ));
    let desk = Desk::open(seed, count, &server, &recipe, &stores)?;
    let begun = Instant::now();
    desk.live(&config, &recipe, &stores, out)?;
    let story = Story::gather(&desk, &recipe, &stores, begun.elapsed())?;
    out.either(story.text(), &story)?;
    let went_well = story.generations.len() >= count && story.failed_requests == 0;
    Ok(if went_well { Exit::Ok } else { Exit::No })
}

/// The demo's recipe, made for many short generations, with a loop.
fn recipe(seed: u64, generations: u64) -> Result<Recipe> {
    let mut recipe = Recipe { seed, ..super::recipe()? };
    recipe.train.truncate(1);
    // Each generation starts from the base, so it has to see again, and twice, what those before it
    // learnt from: with less it forgot some of the old kinds, and the gate said so.
    (recipe.data.limit, recipe.data.replay) = (Some(400), 0.5);
    // At the default rate a generation lost one of the old kinds in the suite's wordings, which its
    // customers do not use; at this one it did not, from the same rows.
    recipe.train[0].learning_rate = 6e-4;
    let release = recipe.release.as_mut().context("the demo's recipe has a [release]")?;
    (release.steps, release.tap) = (vec![25, 50, 100], 0.5);
    recipe.unattended = Some(Unattended {
        min_new: 600,
        min_new_when_falling: 160,
        min_interval: "0s".parse().map_err(anyhow::Error::msg)?,
        window: 60,
        max_turns: Some(3 * generations),
        // Its customers can wait; whoever watches does not want to.
        nice: 0,
        ..Unattended::default()
    });
    Ok(recipe)
}

/// The customers, and the era they live in.
struct Desk {
    application: Application,
    /// Of each era, what is sent for the first time, and what was before.
    eras: Vec<[Vec<Ticket>; 2]>,
    era: AtomicUsize,
    sessions: AtomicUsize,
    is_busy: AtomicBool,
    is_over: AtomicBool,
    users: Users,
}

impl Desk {
    fn open(
        seed: u64,
        count: usize,
        server: &Server,
        recipe: &Recipe,
        stores: &Stores,
    ) -> Result<Self> {
        let all = tickets(seed + 2, Wording::Production, 20_000);
        let of_era = |era: usize| {
            let before = if era == 0 { 0 } else { kinds(era - 1, count) };
            let of = |kinds: &[Intent]| {
                all.iter().filter(|ticket| kinds.contains(&ticket.triage.intent)).cloned().collect()
            };
            [of(&Intent::ALL[before..kinds(era, count)]), of(&Intent::ALL[..before])]
        };
        let max_tokens = recipe.gate.as_ref().map_or(80, |gate| gate.max_new_tokens);
        let application = Application::new(server.url(), recipe.task.as_str(), max_tokens);
        let promoted = promoted(stores, recipe)?;
        Ok(Self {
            application,
            eras: (0..count).map(of_era).collect(),
            // Where an interrupted demo stood.
            era: AtomicUsize::new(promoted.min(count - 1)),
            sessions: AtomicUsize::new(stores.journal.counts()?.steps as usize),
            is_busy: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            users: Users::default(),
        })
    }

    /// Users on threads of their own, until so many generations were promoted.
    fn live(&self, config: &Config, recipe: &Recipe, stores: &Stores, out: Out) -> Result<()> {
        thread::scope(|scope| {
            for _ in 0..USERS {
                scope.spawn(|| self.user());
            }
            let ended = self.supervise(config, recipe, stores, out);
            self.is_over.store(true, Ordering::Relaxed);
            ended
        })
    }

    fn user(&self) {
        while !self.is_over.load(Ordering::Relaxed) {
            if self.is_busy.load(Ordering::Relaxed) {
                thread::sleep(CLOSED);
                continue;
            }
            let nth = self.sessions.fetch_add(1, Ordering::Relaxed);
            let era = self.era.load(Ordering::Relaxed);
            // What is new comes more often than what is not.
            let [new, old] = &self.eras[era];
            let tickets = if nth % 5 < 3 || old.is_empty() { new } else { old };
            let session = Session {
                name: format!("era-{era}-{nth:06}"),
                ticket: tickets[nth % tickets.len()].clone(),
                temper: Temper::Honest,
                replies: Vec::new(),
            };
            if let Err(error) = play_one(&self.application, session, &self.users) {
                self.users.failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "a session failed");
            }
        }
    }

    /// Lets the next era begin when what serves has settled; returns when the last one has.
    fn supervise(&self, config: &Config, recipe: &Recipe, stores: &Stores, out: Out) -> Result<()> {
        let mut since = Instant::now();
        let mut known = usize::MAX;
        loop {
            thread::sleep(Duration::from_millis(250));
            let Some(status) = status(config, recipe) else { continue };
            let step = status.step.as_deref().unwrap_or_default();
            let is_busy =
                ["building", "training", "evaluating"].iter().any(|w| step.starts_with(w));
            self.is_busy.store(is_busy, Ordering::Relaxed);
            let promoted = promoted(stores, recipe)?;
            if promoted != known {
                (known, since) = (promoted, Instant::now());
            }
            if promoted >= self.eras.len() && Self::has_settled(&status, SETTLED) {
                return Ok(());
            }
            if let Some(next) =
                self.next_era(promoted).filter(|_| Self::has_settled(&status, SETTLED))
            {
                out.say(format!(
                    "\n⇒ from now on, {} kinds of message come in",
                    kinds(next, self.eras.len())
                ));
                self.era.store(next, Ordering::Relaxed);
            }
            if status.state == StatusState::Stopped {
                bail!("the loop has stopped before the last generation: {}", status.sentence);
            }
            if since.elapsed() > PATIENCE {
                bail!("no generation was promoted for {PATIENCE:?}: {}", status.sentence);
            }
        }
    }

    fn next_era(&self, promoted: usize) -> Option<usize> {
        let next = self.era.load(Ordering::Relaxed) + 1;
        (next <= promoted && next < self.eras.len()).then_some(next)
    }

    fn has_settled(status: &Status, judged: u64) -> bool {
        let serving = status.sight.serving.as_deref();
        let mut rewards = status.sight.rewards.iter();
        rewards.any(|earned| Some(earned.who.as_str()) == serving && earned.n >= judged)
    }
}

/// How many kinds of message an era has: three in the first, all in the last.
fn kinds(era: usize, eras: usize) -> usize {
    let all = Intent::ALL.len();
    match eras {
        0 | 1 => all,
        _ => 3 + (all - 3) * era / (eras - 1),
    }
}

fn promoted(stores: &Stores, recipe: &Recipe) -> Result<usize> {
    let releases = stores.registry.releases(&recipe.task)?;
    Ok(releases.iter().filter(|release| release.state == ReleaseState::Promoted).count())
}

fn status(config: &Config, recipe: &Recipe) -> Option<Status> {
    let text = std::fs::read_to_string(config.data.loop_status(&recipe.task)).ok()?;
    serde_json::from_str::<crate::attend::Posted>(&text).ok().map(|posted| posted.status)
}

impl Story {
    fn gather(desk: &Desk, recipe: &Recipe, stores: &Stores, took: Duration) -> Result<Self> {
        let task = &recipe.task;
        let mut generations = Vec::new();
        for run in stores.runs.turns(task)? {
            let facts = stores.runs.dated_facts(&run.id)?;
            let undated: Vec<_> = facts.iter().map(|(_, fact)| fact.clone()).collect();
            let Some(turn) = understudy_orchestrator::turn_of(&undated) else { continue };
            let ended = facts.last().map_or(turn.at, |(at, _)| *at);
            if let Some(version) =
                run.ending.as_deref().and_then(|e| e.strip_suffix(" is promoted"))
            {
                let span = ended.as_millisecond() - turn.at.as_millisecond();
                generations.push(Generation {
                    version: version.to_owned(),
                    because: turn.because.clone(),
                    seconds: span as f64 / 1e3,
                });
            }
        }
        let releases = stores.registry.releases(task)?;
        let rolled_back = releases.iter().filter(|r| r.state == ReleaseState::RolledBack).count();
        Ok(Self {
            generations,
            eras: eras(desk, stores)?,
            turns: Past::read(&stores.runs, task)?.turns,
            rolled_back,
            sessions: desk.sessions.load(Ordering::Relaxed) as u64,
            failed_requests: desk.users.failed.load(Ordering::Relaxed),
            seconds: took.as_secs_f64(),
            log: stores.runs.notes(task)?.iter().map(understudy_orchestrator::Note::line).collect(),
        })
    }

    fn text(&self) -> String {
        let mut lines = vec!["\nThe loop's log".to_owned()];
        lines.extend(self.log.iter().map(|line| format!("  {line}")));
        lines.push("\nGenerations".to_owned());
        for generation in &self.generations {
            let Generation { version, because, seconds } = generation;
            lines.push(format!("  {version}: {seconds:.0} s, because {because}"));
        }
        lines.push(
            "\nReward by era and by who answered, with 95 % bounds that hold at all times"
                .to_owned(),
        );
        for (nth, era) in self.eras.iter().enumerate() {
            lines.push(format!("  era {}, {} kinds of message", nth + 1, era.kinds));
            for Earned { who, n, mean, low, high } in &era.rewards {
                lines.push(format!("    {who:<18} {mean:.3} [{low:.3}, {high:.3}] of {n}"));
            }
        }
        lines.push(format!(
            "\n{} turns, {} rolled back, {} sessions, {} failed requests, {:.0} s",
            self.turns, self.rolled_back, self.sessions, self.failed_requests, self.seconds
        ));
        lines.join("\n")
    }
}

/// What the journal says of each era. A session says in its name when it was.
fn eras(desk: &Desk, stores: &Stores) -> Result<Vec<Era>> {
    let mut tallies: Vec<BTreeMap<String, Tally>> = Vec::new();
    tallies.resize_with(desk.eras.len(), BTreeMap::new);
    for trajectory in stores.journal.scan(&understudy_journal::Query::default())? {
        for judged in trajectory?.steps {
            let session = judged.step.session.as_deref().unwrap_or_default();
            let era = session.split('-').nth(1).and_then(|era| era.parse::<usize>().ok());
            let reward =
                RewardPolicy::DefaultV1.reward(&judged.step.reply.text(), &judged.outcomes);
            if let (Some(era), Some(reward), Some(who)) = (era, reward, who(&judged.step))
                && let Some(tally) = tallies.get_mut(era)
            {
                tally.entry(who).or_default().push(reward.value);
            }
        }
    }
    let eras = tallies.iter().enumerate().map(|(nth, tallies)| Era {
        kinds: kinds(nth, desk.eras.len()),
        rewards: tallies.iter().map(|(who, tally)| tally.earned(who)).collect(),
    });
    Ok(eras.collect())
}
