//! Outcomes into a number: a versioned, pure policy that keeps its components.

use serde::{Deserialize, Serialize};

use crate::{Calibration, Outcome, Signal, Source, edit_ratio};

/// A number in [0, 1] and where it came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reward {
    pub value: f64,
    pub components: Vec<Component>,
    /// The policy that derived it, `name@version`.
    pub policy: String,
}

/// What one outcome contributed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Component {
    pub signal: String,
    pub value: f64,
    pub weight: f64,
}

/// How outcomes become rewards. Recipes name one; changing a rule makes a new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RewardPolicy {
    /// Explicit outcomes weigh 1, implicit ones a quarter: abandoning is weak evidence of anything.
    DefaultV1,
    /// Explicit outcomes and programs weigh 1. Behaviour counts as the probability that a reply with
    /// it was wanted, by a [`Calibration`], and weighs as much as that told the two apart; a signal
    /// that tells nothing, and all of them without a calibration, weigh nothing.
    CalibratedV1,
}

impl RewardPolicy {
    /// The policy a recipe names; the version may be left out to mean the newest.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "default" | "default@1" => Some(Self::DefaultV1),
            "calibrated" | "calibrated@1" => Some(Self::CalibratedV1),
            _ => None,
        }
    }

    pub fn id(self) -> &'static str {
        match self {
            Self::DefaultV1 => "default@1",
            Self::CalibratedV1 => "calibrated@1",
        }
    }

    /// The reward of a reply, or `None` when nothing was said about it: silence is no opinion.
    ///
    /// The weighted mean over outcomes, where a flag overrides everything with 0.
    pub fn reward(self, reply: &str, outcomes: &[Outcome]) -> Option<Reward> {
        self.reward_by(None, reply, outcomes)
    }

    /// The same by what behaviour was found to tell. A policy that does not calibrate ignores it.
    pub fn reward_by(
        self,
        calibration: Option<&Calibration>,
        reply: &str,
        outcomes: &[Outcome],
    ) -> Option<Reward> {
        let mut components: Vec<Component> =
            outcomes.iter().map(|outcome| self.component(reply, outcome)).collect();
        if self == Self::CalibratedV1 {
            let behaviour = calibration.and_then(|found| {
                let (value, weight) = (found.implied(outcomes)?, found.strength());
                Some(Component { signal: "behaviour".to_owned(), value, weight })
            });
            components.extend(behaviour);
        }
        let weight: f64 = components.iter().map(|c| c.weight).sum();
        let flagged = outcomes.iter().any(|o| matches!(o.signal, Signal::Flag { .. }));
        if weight <= 0.0 && !flagged {
            return None;
        }
        let mean = || components.iter().map(|c| c.weight * c.value).sum::<f64>() / weight;
        let value = if flagged { 0.0 } else { mean() };
        Some(Reward { value, components, policy: self.id().to_owned() })
    }
}

impl Reward {
    /// As much as the strongest of what was said: ten guesses do not make a statement. A flag is
    /// one, whoever raised it.
    pub fn weight(&self) -> f64 {
        let weights = self.components.iter();
        let weights = weights.map(|one| if one.signal == "flag" { 1.0 } else { one.weight });
        weights.fold(0.0, f64::max)
    }
}

impl RewardPolicy {
    pub(crate) fn component(self, reply: &str, outcome: &Outcome) -> Component {
        let implicit = match self {
            Self::DefaultV1 => 0.25,
            // They count together, once.
            Self::CalibratedV1 => 0.0,
        };
        component(reply, outcome, implicit)
    }
}

fn component(reply: &str, outcome: &Outcome, implicit: f64) -> Component {
    let value = match &outcome.signal {
        Signal::Accept => 1.0,
        Signal::Edit { text } => 1.0 - edit_ratio(reply, text),
        Signal::Regenerate { .. } | Signal::Abandon | Signal::Flag { .. } => 0.0,
        Signal::Rating { value } | Signal::Verifier { score: value, .. } => value.clamp(0.0, 1.0),
        // No better and no worse than anything.
        Signal::Remark { .. } => 0.5,
    };
    let weight = match (&outcome.signal, outcome.source) {
        (Signal::Remark { .. }, _) => 0.0,
        (_, Source::Explicit | Source::Automated) => 1.0,
        (_, Source::Implicit) => implicit,
    };
    Component { signal: outcome.signal.name().to_owned(), value, weight }
}
