//! `understudy bench rollback`: how long after `understudy release rollback` the bad version still
//! answers anybody, over replicas in processes of their own that clients never stop asking.
//!
//! Replicas journal the moment each request was routed, by the same clock as the command's; clients
//! see when its answer came, which on a busy machine is much later. Both are told: the first is what
//! a rollback decides, the second what users may still read.

mod fleet;

use std::{
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::json;
use understudy_ident::Timestamp;

use self::fleet::{Fleet, GOOD, TASK};
use crate::{cli::BenchRollbackArgs, commands::Exit, output::Out};

/// Every client has met the canary by then, half of the sessions do.
const BEFORE: Duration = Duration::from_millis(1500);
/// Nobody may meet it any more long before this.
const AFTER: Duration = Duration::from_secs(2);

/// What is promised, from the command to the last request routed to the bad version.
const PROMISED_MS: f64 = 1000.0;

#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    replicas: usize,
    requests_a_second_to_each: f64,
    rounds: Vec<Round>,
    /// Of the last request routed to the bad version, over all rounds and replicas, the worst.
    worst_after_command_ms: f64,
    worst_after_commit_ms: f64,
    promised_ms: f64,
}

#[derive(Debug, Serialize)]
struct Round {
    requests: u64,
    of_the_bad_version: u64,
    failed: u64,
    /// How long the command itself ran, from its start to its exit.
    command_ms: f64,
    /// From its start to the commit in the registry.
    commit_ms: f64,
    /// When any replica last routed a request to the bad version, since the command's start and
    /// since the commit; 0 where that was before.
    routed_after_command_ms: f64,
    routed_after_commit_ms: f64,
    /// When the last answer of the bad version came, since the command's start.
    answered_after_command_ms: f64,
    /// From the command's start until every replica had acknowledged.
    acknowledged_ms: f64,
    /// Per replica, from hearing of the table to having it in force.
    applied_ms: Vec<f64>,
}

pub(super) fn run(args: &BenchRollbackArgs, out: Out) -> Result<Exit> {
    ensure!(args.replicas > 0 && args.rounds > 0, "--replicas and --rounds must be at least 1");
    ensure!(args.rate > 0.0 && args.rate <= 10_000.0, "--rate must be above 0, at most 10000");
    let bar = out.bar(args.rounds as u64, "rolling back");
    let fleet = Fleet::start(args.replicas)?;
    let mut rounds = Vec::new();
    for _ in 0..args.rounds {
        fleet.release()?;
        rounds.push(round(&fleet, Duration::from_secs_f64(1.0 / args.rate))?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let worst = |of: fn(&Round) -> f64| rounds.iter().map(of).fold(0.0, f64::max);
    let report = Report {
        bench: "rollback",
        replicas: args.replicas,
        requests_a_second_to_each: args.rate,
        worst_after_command_ms: worst(|round| round.routed_after_command_ms),
        worst_after_commit_ms: worst(|round| round.routed_after_commit_ms),
        promised_ms: PROMISED_MS,
        rounds,
    };
    out.either(report.text(), &report)?;
    let clean = report.rounds.iter().all(|round| round.failed == 0);
    let kept = clean && report.worst_after_command_ms <= PROMISED_MS;
    Ok(if kept { Exit::Ok } else { Exit::No })
}

/// What the clients saw.
#[derive(Default)]
struct Seen {
    requests: AtomicU64,
    failed: AtomicU64,
    /// When each answer of the bad version had come.
    bad: Mutex<Vec<Timestamp>>,
}

fn round(fleet: &Fleet, every: Duration) -> Result<Round> {
    let seen = Seen::default();
    let stop = AtomicBool::new(false);
    let told = thread::scope(|scope| {
        for url in fleet.replicas() {
            let (seen, stop) = (&seen, &stop);
            scope.spawn(move || client(url, every, seen, stop));
        }
        thread::sleep(BEFORE);
        let told = roll_back(fleet);
        thread::sleep(AFTER);
        stop.store(true, Ordering::Relaxed);
        told
    })?;
    let bad = seen.bad.into_inner().unwrap_or_else(PoisonError::into_inner);
    if bad.is_empty() {
        bail!("no request met the bad version before the rollback, so nothing was measured");
    }
    let answered = bad.iter().max().copied().unwrap_or(told.begun);
    let routed = fleet.last_routed_to_bad()?.unwrap_or(told.begun);
    Ok(Round {
        requests: seen.requests.into_inner(),
        of_the_bad_version: bad.len() as u64,
        failed: seen.failed.into_inner(),
        command_ms: told.command.as_secs_f64() * 1e3,
        commit_ms: since(told.committed, told.begun),
        routed_after_command_ms: since(routed, told.begun),
        routed_after_commit_ms: since(routed, told.committed),
        answered_after_command_ms: since(answered, told.begun),
        acknowledged_ms: told.acknowledged.as_secs_f64() * 1e3,
        applied_ms: told.applied_ms,
    })
}

/// Milliseconds from the second to the first; 0 where it came before.
fn since(later: Timestamp, moment: Timestamp) -> f64 {
    ((later.as_nanosecond() - moment.as_nanosecond()) as f64 / 1e6).max(0.0)
}

struct RolledBack {
    begun: Timestamp,
    committed: Timestamp,
    command: Duration,
    acknowledged: Duration,
    applied_ms: Vec<f64>,
}

/// The command as a person types it.
fn roll_back(fleet: &Fleet) -> Result<RolledBack> {
    let program = std::env::current_exe().context("failed to find this program")?;
    let (begun, clock) = (Timestamp::now(), Instant::now());
    let output = Command::new(program)
        .args(["release", "rollback", TASK, "--reason", "the benchmark", "--owner", "bench"])
        .env("UNDERSTUDY_DATA_DIR", fleet.data())
        .output()
        .context("failed to run `understudy release rollback`")?;
    let command = clock.elapsed();
    if !output.status.success() {
        bail!("`understudy release rollback` failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let applied_ms = fleet.wait_until_acknowledged()?;
    let acknowledged = clock.elapsed();
    let committed = fleet.rolled_back_at()?;
    Ok(RolledBack { begun, committed, command, acknowledged, applied_ms })
}

/// Asks one replica, one session after the other, and notes who answered.
fn client(url: &str, every: Duration, seen: &Seen, stop: &AtomicBool) {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(10)))
        .http_status_as_error(false)
        .build();
    let agent: ureq::Agent = config.into();
    let url = format!("{url}/v1/chat/completions");
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        // Behind its time it asks at once, and does not catch up.
        next = (next + every).max(Instant::now());
        thread::sleep(next - Instant::now().min(next));
        let nth = seen.requests.fetch_add(1, Ordering::Relaxed);
        let body = json!({
            "model": TASK,
            "messages": [{"role": "user", "content": "which one are you?"}],
            "max_tokens": 4,
        });
        let sent = agent.post(&url).header("x-session-id", format!("{url}-{nth}")).send_json(body);
        match sent {
            Ok(response) if response.status().is_success() => {
                let adapter = response.headers().get("x-understudy-adapter");
                let adapter = adapter.and_then(|value| value.to_str().ok()).unwrap_or_default();
                if !adapter.starts_with(GOOD) {
                    let mut bad = seen.bad.lock().unwrap_or_else(PoisonError::into_inner);
                    bad.push(Timestamp::now());
                }
                // Read to its end, or the connection cannot be used again.
                response.into_body().read_to_vec().ok();
            }
            _ => {
                seen.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Report {
    fn text(&self) -> String {
        let mut lines = vec![format!(
            "{} replicas; the last request routed to the bad version, in ms since `release rollback`",
            self.replicas
        )];
        for (nth, round) in self.rounds.iter().enumerate() {
            let applied = round.applied_ms.iter().copied().fold(0.0, f64::max);
            lines.push(format!(
                "  round {}: {:.0} after the command began, {:.0} after its commit (which came at \
                 {:.0}); its last answer came at {:.0}; all acknowledged by {:.0}, in force within \
                 {applied:.1} of hearing; {} requests, {} of the bad version, {} failed",
                nth + 1,
                round.routed_after_command_ms,
                round.routed_after_commit_ms,
                round.commit_ms,
                round.answered_after_command_ms,
                round.acknowledged_ms,
                round.requests,
                round.of_the_bad_version,
                round.failed
            ));
        }
        lines.push(format!(
            "  worst: {:.0} ms after the command began, {:.0} ms after its commit; promised {:.0}",
            self.worst_after_command_ms, self.worst_after_commit_ms, self.promised_ms
        ));
        lines.join("\n")
    }
}
