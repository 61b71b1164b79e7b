//! The operating characteristics of the formulas and of the default policy, as tables.
//!
//! `cargo run --release -p understudy-simulation --example operating-characteristics -- [RUNS [PART…]]`,
//! where a part is falls, errors, latency, breaker, ratio, users, thresholds, rule or scenarios.
#![allow(clippy::print_stdout, reason = "an example shows what it found")]

use std::time::Instant;

use understudy_manifest::Guard;
use understudy_router::{Policy, Steps};
use understudy_simulation::{
    Behaviour, Characteristics, Counted, Expected, Looks, Method, Scenario, Settings, Share,
    SimulationError, Stopping, Users, World, clustered, replicate, stopping,
};

const SEED: u64 = 17;
/// A look every 20 units per arm, up to 10 000.
const LOOKS: Looks = Looks { every: 20, up_to: 10_000, controls: 1 };

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runs = std::env::args().nth(1).map_or(Ok(1000), |text| text.parse())?;
    let parts: Vec<String> = std::env::args().skip(2).collect();
    if let Some(unknown) = parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
        return Err(format!("there is no part `{unknown}`: say {}", PARTS.join(", ")).into());
    }
    let begun = Instant::now();
    println!("{runs} runs each; share stopped [95 % interval] / median units per arm (p90)");
    for part in PARTS.iter().filter(|part| parts.is_empty() || parts.iter().any(|p| p == *part)) {
        match *part {
            "falls" => falling_success(runs),
            "errors" => rising_errors(runs),
            "latency" => slower_replies(runs),
            "breaker" => breaker(runs),
            "ratio" => sample_ratio(runs),
            "users" => sticky_users(runs),
            "thresholds" => thresholds(runs),
            "rule" => full_rule(runs)?,
            _ => scenarios(runs.min(1000))?,
        }
    }
    println!("\n{:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}

const PARTS: [&str; 9] =
    ["falls", "errors", "latency", "breaker", "ratio", "users", "thresholds", "rule", "scenarios"];

fn falling_success(runs: u32) {
    let planned = Looks { every: 500, ..LOOKS };
    let methods = [
        ("naive z, one-sided", Method::Naive),
        ("sequence, one-sided, N* 5000", Method::OneSided { n_star: 5000.0 }),
        ("sequence, two-sided, N* 5000", Method::TwoSided { n_star: 5000.0 }),
        ("sequence, one-sided, N* 1000", Method::OneSided { n_star: 1000.0 }),
        ("one of four, N* 2000", Method::OneOf { guards: 4, n_star: 2000.0 }),
        ("2×2 e-process", Method::Blocks),
        ("mixture ratio (mSPRT), τ 0.05", Method::MixtureRatio { tau: 0.05 }),
        ("gap ratio of best-arm searches", Method::GapRatio),
        ("twenty planned looks", Method::Planned),
        ("level α/ln n", Method::LogLevel),
    ];
    println!("\n| method | A/A 0.60 | → 0.57 | → 0.55 | → 0.50 | → 0.40 |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (name, method) in methods {
        let looks = if method == Method::Planned { planned } else { LOOKS };
        let cells = [0.60, 0.57, 0.55, 0.50, 0.40]
            .map(|treatment| cell(stopping(method, (0.60, treatment), 0.05, looks, (runs, SEED))));
        println!("| {name} | {} |", cells.join(" | "));
    }
}

fn rising_errors(runs: u32) {
    println!(
        "\n| errors, one-sided, N* 1000 | A/A | A/A, nine controls to one | to 3 % | to 5 % |\n\
         | --- | --- | --- | --- | --- |"
    );
    let at = |bad: f64, worse: f64, controls: u64| {
        let (method, looks) = (Method::OneSided { n_star: 1000.0 }, Looks { controls, ..LOOKS });
        cell(stopping(method, (1.0 - bad, 1.0 - worse), 0.05, looks, (runs, SEED)))
    };
    for bad in [0.05, 0.01, 0.002] {
        let rises = [0.03, 0.05].map(|to| if to > bad { at(bad, to, 1) } else { "–".to_owned() });
        let (percent, same, nine) = (bad * 100.0, at(bad, bad, 1), at(bad, bad, 9));
        println!("| from {percent} % | {same} | {nine} | {} |", rises.join(" | "));
    }
}

fn breaker(runs: u32) {
    println!("\n| breaker at 2 %, α 0.001 | stopped / median |\n| --- | --- |");
    let looks = Looks { every: 1, up_to: 20_000, controls: 1 };
    for bad in [0.005, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0] {
        let method = Method::Limit { limit: 0.02 };
        let runs = (runs.min(300), SEED);
        println!(
            "| {} % | {} |",
            bad * 100.0,
            cell(stopping(method, (1.0, 1.0 - bad), 0.001, looks, runs))
        );
    }
}

fn sample_ratio(runs: u32) {
    for (split, share) in [("fair", 0.5), ("nine to eleven", 0.55)] {
        let found = stopping(Method::SampleRatio, (0.5, share), 0.01, LOOKS, (runs, SEED));
        println!("\nsample ratio, {split} split, α 0.01: {}", cell(found));
    }
}

/// Log-normal latencies against the p95 they had before, once all are so many times as long.
fn slower_replies(runs: u32) {
    println!("\n| latency | exceed the frozen p95 | stopped / median |\n| --- | --- | --- |");
    // Upper tails of the standard normal distribution at 1.645 − ln k / 0.6.
    for (times, exceed) in
        [(1.0, 0.05), (1.05, 0.0589), (1.1, 0.0686), (1.2, 0.0900), (1.5, 0.1663), (2.0, 0.3122)]
    {
        let method = Method::OneSided { n_star: 5000.0 };
        let found = stopping(method, (0.95, 1.0 - exceed), 0.05, LOOKS, (runs, SEED));
        println!("| ×{times} | {:.1} % | {} |", exceed * 100.0, cell(found));
    }
}

fn sticky_users(runs: u32) {
    println!(
        "\n| equal arms, sticky users | requests counted | users counted |\n| --- | --- | --- |"
    );
    for (spread, requests) in [(1.0, 20), (2.0, 50)] {
        let users = Users { success: 0.6, spread, requests, every: 20, up_to: 1_000 };
        let of = |counted| cell(clustered(counted, users, (0.05, 5000.0), (runs, SEED)));
        let (requests_counted, users_counted) = (of(Counted::Requests), of(Counted::Users));
        println!("| {requests} requests, spread {spread} | {requests_counted} | {users_counted} |");
    }
}

/// What other programs do: so many bad windows, and the canary goes.
fn thresholds(runs: u32) {
    println!("\n| threshold | success | rolled back |\n| --- | --- | --- |");
    let minutes = ("ten of sixty minutes of 20 below 99 %", 0.99, 10, 20, 1_200);
    let windows = ("four of twenty-four windows of 100 below 95 %", 0.95, 4, 100, 2_400);
    for ((name, least, bad, every, up_to), success) in
        [(minutes, 0.99), (minutes, 0.995), (windows, 0.95), (windows, 0.96), (windows, 0.97)]
    {
        let (method, looks) = (Method::Windows { least, bad }, Looks { every, up_to, controls: 1 });
        let found = stopping(method, (1.0, success), 0.05, looks, (runs, SEED));
        println!("| {name} | {success} | {} |", percent(found.stopped));
    }
}

/// The whole rule with the reward as its only guard, at one half from the start.
fn full_rule(runs: u32) -> Result<(), SimulationError> {
    println!(
        "\n| full rule, reward only | rolled back | promoted | held | invalid |\n| --- | --- | --- | --- | --- |"
    );
    for (margin, change) in
        [(0.05, 0.0), (0.05, -0.05), (0.05, 0.02), (0.03, 0.0), (0.03, -0.03), (0.03, -0.08)]
    {
        let policy = Policy {
            steps: Steps::new(vec![50, 100])?,
            rollback_on: [Guard::Reward].into(),
            margin: margin.into(),
            ..Policy::default()
        };
        let stable =
            Behaviour { errors: 0.0, slowness: 0.1, unsafe_outputs: 0.0, ..Behaviour::default() };
        let canary = Behaviour { success: stable.success + change, ..stable };
        let world = World { canary, ..World::alike(stable) };
        let found = replicate(&policy, world, &settings(runs.min(500)))?;
        println!("| margin {margin}, change {change:+} {}", row(&found));
    }
    Ok(())
}

/// The default policy, ramp and all, in every named world.
fn scenarios(runs: u32) -> Result<(), SimulationError> {
    println!("\n| default policy | rolled back | promoted | held | invalid | verdicts |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for scenario in Scenario::ALL {
        let mut policy = Policy { max_units: 10_000, ..Policy::default() };
        if scenario == Scenario::Costlier {
            policy.cost_cap = Some(1000.0);
            policy.rollback_on.insert(Guard::Cost);
        }
        let world = scenario.world(&policy, Behaviour::default());
        let found = replicate(&policy, world, &settings(runs))?;
        let should = match scenario.expected() {
            Expected::Promotion => "promote".to_owned(),
            Expected::Rollback(guard) => format!("roll back, {guard}"),
            Expected::NoPromotion => "never promote".to_owned(),
        };
        println!(
            "| {scenario} ({should}) {} {:?} {:?} |",
            row(&found),
            found.verdicts,
            found.guards
        );
    }
    Ok(())
}

fn settings(runs: u32) -> Settings {
    Settings { replications: runs, seed: SEED, ..Settings::default() }
}

fn row(found: &Characteristics) -> String {
    let with = |share: Share, delay: Option<understudy_simulation::Delay>| {
        let delay = delay.map_or(String::new(), |delay| {
            format!(" / {:.0} ({:.0})", delay.units_per_arm.p50, delay.units_per_arm.p90)
        });
        format!("{}{delay}", percent(share))
    };
    format!(
        "| {} | {} | {} | {} |",
        with(found.rolled_back, found.to_rollback),
        with(found.promoted, found.to_promotion),
        percent(found.held),
        with(found.invalid, found.to_invalid),
    )
}

fn cell(stopping: Stopping) -> String {
    let median = stopping
        .units
        .map_or(String::new(), |units| format!(" / {:.0} ({:.0})", units.p50, units.p90));
    format!("{}{median}", percent(stopping.stopped))
}

fn percent(share: Share) -> String {
    let (low, high) = (share.interval.lower * 100.0, share.interval.upper * 100.0);
    format!("{:.1} % [{low:.1}, {high:.1}]", share.share * 100.0)
}
