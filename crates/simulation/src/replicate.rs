//! Many releases in one world: how often which verdict, and how soon.

use std::collections::BTreeMap;

use serde::Serialize;
use understudy_manifest::Guard;
use understudy_router::{Policy, Verdict};

use crate::{Delay, Ending, Quantiles, Settings, Share, SimulationError, World, release::simulate};

/// What a policy does in a world.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Characteristics {
    pub replications: u32,
    pub seed: u64,
    pub rolled_back: Share,
    pub promoted: Share,
    /// Paused for a person, or still undecided: everything that is none of the others.
    pub held: Share,
    /// The comparison was found to be broken.
    pub invalid: Share,
    /// Runs by the name of their last verdict.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// Rollbacks by the guard that caused them.
    pub guards: BTreeMap<Guard, u64>,
    pub to_rollback: Option<Delay>,
    pub to_promotion: Option<Delay>,
    pub to_invalid: Option<Delay>,
}

/// Plays `settings.replications` releases through, each with a seed of its own.
pub fn replicate(
    policy: &Policy,
    world: World,
    settings: &Settings,
) -> Result<Characteristics, SimulationError> {
    // Without a replication nothing else would check them.
    settings.check()?;
    let mut endings = Vec::with_capacity(settings.replications as usize);
    for nth in 0..settings.replications {
        let seed = settings.seed.wrapping_add(u64::from(nth));
        endings.push(simulate(policy, world, settings, seed)?);
    }
    Ok(characterise(&endings, settings))
}

fn characterise(endings: &[Ending], settings: &Settings) -> Characteristics {
    let (mut verdicts, mut guards) = (BTreeMap::new(), BTreeMap::new());
    for ending in endings {
        *verdicts.entry(name(ending.verdict)).or_insert(0) += 1;
        if let Verdict::RollBack { guard } = ending.verdict {
            *guards.entry(guard).or_insert(0) += 1;
        }
    }
    let count = |name| verdicts.get(name).copied().unwrap_or(0);
    let of = endings.len() as u64;
    let (rolled_back, promoted, invalid) = (count("roll_back"), count("promote"), count("invalid"));
    Characteristics {
        replications: settings.replications,
        seed: settings.seed,
        rolled_back: Share::of(rolled_back, of),
        promoted: Share::of(promoted, of),
        held: Share::of(of - rolled_back - promoted - invalid, of),
        invalid: Share::of(invalid, of),
        to_rollback: delay(endings, settings, "roll_back"),
        to_promotion: delay(endings, settings, "promote"),
        to_invalid: delay(endings, settings, "invalid"),
        verdicts,
        guards,
    }
}

fn delay(endings: &[Ending], settings: &Settings, wanted: &str) -> Option<Delay> {
    let those = || endings.iter().filter(|ending| name(ending.verdict) == wanted);
    let units = those().map(|ending| ending.units_per_arm as f64).collect();
    let hours = those().map(|ending| ending.arrivals as f64 / settings.units_per_hour).collect();
    Some(Delay { units_per_arm: Quantiles::of(units)?, hours: Quantiles::of(hours)? })
}

fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Hold { .. } => "hold",
        Verdict::Advance { .. } => "advance",
        Verdict::Promote { .. } => "promote",
        Verdict::RollBack { .. } => "roll_back",
        Verdict::Invalid => "invalid",
        Verdict::WorseWithinMargin { .. } => "worse_within_margin",
        Verdict::Stalled { .. } => "stalled",
        Verdict::Inconclusive => "inconclusive",
    }
}
