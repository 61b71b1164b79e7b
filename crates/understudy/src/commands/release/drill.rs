//! `understudy release drill`: faults rehearsed over HTTP, against what is served here.

use anyhow::{Result, bail};
use understudy_canary::{PolicyDefaults, Rules};
use understudy_drill::{Drill, Repeated, drill_rules, repeat};
use understudy_manifest::Recipe;
use understudy_simulation::{Behaviour, Expected, Scenario};
use understudy_trajectory::RewardPolicy;

use crate::{
    cli::ReleaseDrillArgs,
    commands::{Exit, train},
    config::Config,
    output::Out,
};

/// The faults of a release, one after the other, where nothing else is asked for.
const FAULTS: [Scenario; 8] = [
    Scenario::TenPointsWorse,
    Scenario::FivePercentErrors,
    Scenario::HalfAgainSlower,
    Scenario::Unsafe,
    Scenario::LostUnits,
    Scenario::MissingRewards,
    Scenario::DeadReplica,
    Scenario::SilentTeacher,
];

pub(super) fn drill(args: &ReleaseDrillArgs, config: &Config, out: Out) -> Result<Exit> {
    if args.repeat == 0 || args.most_sessions == 0 {
        bail!("--repeat and --most-sessions must be at least 1");
    }
    if !(0.0..=1.0).contains(&args.success) {
        bail!("--success {} is not a share: give a number from 0 to 1", args.success);
    }
    let rules = match &args.recipe {
        Some(path) => rules_of(&train::recipe(path)?, &config.policy)?,
        None => drill_rules()?,
    };
    let drill = Drill {
        stable: Behaviour { success: args.success, ..Behaviour::default() },
        seed: args.seed,
        sessions_per_second: args.sessions_per_second,
        most_sessions: args.most_sessions,
        ..Drill::of(rules)
    };
    let faults = if args.fault.is_empty() { FAULTS.to_vec() } else { args.fault.clone() };
    let bar = out.bar(faults.len() as u64 * u64::from(args.repeat), "drilling");
    let mut drilled: Vec<Repeated> = Vec::new();
    for fault in faults {
        bar.set_message(fault.to_string());
        let repeated = repeat(fault, &drill, args.repeat, &mut |played| {
            bar.suspend(|| out.say(played.text()));
            bar.inc(1);
        })?;
        if args.repeat > 1 {
            bar.suspend(|| out.say(repeated.text()));
        }
        drilled.push(repeated);
    }
    bar.finish_and_clear();
    out.value(&drilled)?;
    let kept = drilled.iter().all(is_kept);
    Ok(if kept { Exit::Ok } else { Exit::No })
}

/// A fault must end as it should, each time; of harmless candidates so few may be taken off as the
/// policy states.
fn is_kept(repeated: &Repeated) -> bool {
    match repeated.scenario.expected() {
        Expected::Promotion => repeated.is_within(),
        Expected::Rollback(_) | Expected::NoPromotion => repeated.right == repeated.runs,
    }
}

fn rules_of(recipe: &Recipe, defaults: &PolicyDefaults) -> Result<Rules> {
    let Some(release) = &recipe.release else { bail!("the recipe has no [release] to drill") };
    let Some(reward) = RewardPolicy::named(&recipe.data.reward) else {
        bail!("the recipe names the reward policy `{}`, which does not exist", recipe.data.reward)
    };
    Ok(Rules::under(defaults, release, reward)?)
}
