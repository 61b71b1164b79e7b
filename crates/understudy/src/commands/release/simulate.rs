//! `understudy release simulate` and `plan`: a policy meets worlds whose truth is known, before it
//! decides about a release.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::json;
use understudy_canary::{PolicyDefaults, Rules};
use understudy_manifest::{Guard, Recipe};
use understudy_router::Policy;
use understudy_simulation::{
    Behaviour, Characteristics, Delay, Expected, Plan, Quantiles, Scenario, Settings, Share,
    Traffic, replicate,
};
use understudy_trajectory::RewardPolicy;

use crate::{
    cli::{ReleasePlanArgs, ReleaseSimulateArgs, SimulationArgs},
    commands::Exit,
    config::Config,
    output::Out,
};

/// A scenario and what the policy did there.
#[derive(Debug, Serialize)]
struct Played {
    scenario: Scenario,
    about: &'static str,
    expected: Expected,
    #[serde(flatten)]
    found: Characteristics,
}

pub(super) fn simulate(args: &ReleaseSimulateArgs, config: &Config, out: Out) -> Result<Exit> {
    let policy = policy(&args.simulation.policy, &config.policy)?;
    if args.scenario == Some(Scenario::Costlier) && policy.cost_cap.is_none() {
        bail!("the policy compares no costs: set `cost_cap` to simulate `{}`", Scenario::Costlier);
    }
    let compared =
        |scenario: &Scenario| *scenario != Scenario::Costlier || policy.cost_cap.is_some();
    let scenarios = match args.scenario {
        Some(one) => vec![one],
        None => Scenario::ALL.into_iter().filter(compared).collect(),
    };
    let settings = settings(&args.simulation);
    let bar = out.bar(scenarios.len() as u64, "simulating");
    let mut played = Vec::with_capacity(scenarios.len());
    for scenario in scenarios {
        let world = scenario.world(&policy, stable(&args.simulation)?);
        let found = replicate(&policy, world, &settings)?;
        let (about, expected) = (scenario.about(), scenario.expected());
        played.push(Played { scenario, about, expected, found });
        bar.inc(1);
    }
    bar.finish_and_clear();
    for one in &played {
        out.say(told(one));
    }
    out.value(&played)?;
    Ok(Exit::Ok)
}

pub(super) fn plan(args: &ReleasePlanArgs, config: &Config, out: Out) -> Result<Exit> {
    let policy = policy(&args.simulation.policy, &config.policy)?;
    let traffic = Traffic {
        units_per_hour: args.simulation.units_per_hour,
        stable: Behaviour { missing: share("missing", args.missing)?, ..stable(&args.simulation)? },
        patience_hours: args.patience_hours,
    };
    let plan = understudy_simulation::plan(&policy, &traffic, &settings(&args.simulation))?;
    let mut text = planned(&plan, &policy, args.patience_hours);
    for line in deployment(&config.policy)? {
        write!(text, "\n  {line}")?;
    }
    let mut told = serde_json::to_value(&plan)?;
    told["policy"] = json!(policy);
    out.either(text, &told)?;
    Ok(Exit::Ok)
}

fn settings(args: &SimulationArgs) -> Settings {
    Settings {
        replications: args.replications,
        seed: args.seed,
        units_per_hour: args.units_per_hour,
        ..Settings::default()
    }
}

fn stable(args: &SimulationArgs) -> Result<Behaviour> {
    Ok(Behaviour { success: share("success", args.success)?, ..Behaviour::default() })
}

fn share(name: &str, value: f64) -> Result<f64> {
    if !(0.0..=1.0).contains(&value) {
        bail!("--{name} {value} is not a share: give a number from 0 to 1");
    }
    Ok(value)
}

/// The rules of a recipe's [release], or a policy of its own in TOML or JSON.
fn policy(path: &Path, defaults: &PolicyDefaults) -> Result<Policy> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("failed to read the policy {}", path.display()))?;
    let unreadable = || format!("{} is no policy", path.display());
    let policy: Policy = if path.extension().is_some_and(|extension| extension == "json") {
        serde_json::from_str(&text).with_context(unreadable)?
    } else if toml::from_str::<toml::Table>(&text).is_ok_and(|table| table.contains_key("schema")) {
        let recipe = Recipe::parse(&path.display().to_string(), &text)?;
        let release = recipe.release.context("the recipe has no [release]")?;
        let reward = RewardPolicy::named(&recipe.data.reward).context("unknown reward policy")?;
        Rules::under(defaults, &release, reward)?.policy
    } else {
        toml::from_str(&text).with_context(unreadable)?
    };
    policy.validate()?;
    Ok(policy)
}

/// What `[release.policy]` says otherwise than the program would.
fn deployment(defaults: &PolicyDefaults) -> Result<Vec<String>> {
    let (said, program) =
        (serde_json::to_value(defaults)?, serde_json::to_value(PolicyDefaults::default())?);
    let fields = said.as_object().into_iter().flatten();
    let other = fields.filter(|(key, value)| program.get(key) != Some(value));
    Ok(other
        .map(|(key, value)| format!("{key} is {value} by [release.policy] of understudy.toml"))
        .collect())
}

fn told(played: &Played) -> String {
    let Played { scenario, about, expected, found } = played;
    let should = match expected {
        Expected::Promotion => "should be promoted".to_owned(),
        Expected::Rollback(guard) => format!("should be rolled back because of {guard}"),
        Expected::NoPromotion => "should never be promoted".to_owned(),
    };
    let mut text = format!("{scenario}: {about}; {should}\n");
    let mut line = |what: &str, share: Share, delay: Option<Delay>, note: &str| {
        if share.count > 0 {
            let after = delay.map(after).unwrap_or_default();
            writeln!(text, "  {what:<12} {}{after}{note}", percent(share)).ok();
        }
    };
    line("rolled back", found.rolled_back, found.to_rollback, &because(found));
    line("promoted", found.promoted, found.to_promotion, "");
    line("invalid", found.invalid, found.to_invalid, "");
    line("held", found.held, None, "");
    text.trim_end().to_owned()
}

fn because(found: &Characteristics) -> String {
    let each = |(guard, count): (&Guard, &u64)| format!("{guard} {count}");
    let guards: Vec<String> = found.guards.iter().map(each).collect();
    format!("; {}", guards.join(", "))
}

fn planned(plan: &Plan, policy: &Policy, patience: f64) -> String {
    let mut text = format!("at {} units per hour\n", plan.units_per_hour);
    for (nth, step) in (1..).zip(&plan.steps) {
        let (percent, hours) = (step.share * 100.0, duration(step.hours));
        let outcomes = policy.min_outcomes_per_step;
        writeln!(text, "  step {nth}, {percent:.0} %: {hours} for {outcomes} outcomes per arm")
            .ok();
    }
    let within = |hours: Option<Quantiles>| {
        hours.map_or(String::new(), |hours| {
            format!(", after {} (nine of ten within {})", duration(hours.p50), duration(hours.p90))
        })
    };
    let hours = within(plan.promotion.map(|delay| delay.hours));
    writeln!(text, "  an equal canary is promoted in {}{hours}", percent(plan.promoted)).ok();
    for found in &plan.detections {
        let (fall, share, hours) = (found.fall, percent(found.rolled_back), within(found.hours));
        writeln!(text, "  a fall of {fall:.2} is rolled back in {share}{hours}").ok();
    }
    if let Some(start) = plan.start_percent {
        let patience = duration(patience);
        writeln!(text, "  a first step of {start} % would have its outcomes within {patience}")
            .ok();
    }
    text.trim_end().to_owned()
}

fn after(delay: Delay) -> String {
    let (units, hours) = (delay.units_per_arm, delay.hours);
    format!(
        " after {:.0} units per arm, {} (nine of ten within {:.0}, {})",
        units.p50,
        duration(hours.p50),
        units.p90,
        duration(hours.p90)
    )
}

fn percent(share: Share) -> String {
    let of = |share: f64| share * 100.0;
    let (low, high) = (of(share.interval.lower), of(share.interval.upper));
    format!("{:.1} % of runs ({low:.1} to {high:.1})", of(share.share))
}

fn duration(hours: f64) -> String {
    match hours {
        short if short < 1.0 => format!("{:.0} min", short * 60.0),
        long if long > 72.0 => format!("{:.1} d", long / 24.0),
        hours => format!("{hours:.1} h"),
    }
}
