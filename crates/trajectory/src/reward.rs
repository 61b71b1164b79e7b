//! Outcomes into a number: a versioned, pure policy that keeps its components.

use serde::{Deserialize, Serialize};

use crate::{Outcome, Signal, Source};

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
}

impl RewardPolicy {
    /// The policy a recipe names; the version may be left out to mean the newest.
    pub fn named(name: &str) -> Option<Self> {
        matches!(name, "default" | "default@1").then_some(Self::DefaultV1)
    }

    pub fn id(self) -> &'static str {
        match self {
            Self::DefaultV1 => "default@1",
        }
    }

    /// The reward of a reply, or `None` when nothing was said about it: silence is no opinion.
    ///
    /// The weighted mean over outcomes, where a flag overrides everything with 0.
    pub fn reward(self, reply: &str, outcomes: &[Outcome]) -> Option<Reward> {
        let components: Vec<Component> =
            outcomes.iter().map(|outcome| component(reply, outcome)).collect();
        let weight: f64 = components.iter().map(|c| c.weight).sum();
        if weight <= 0.0 {
            return None;
        }
        let flagged = outcomes.iter().any(|o| matches!(o.signal, Signal::Flag { .. }));
        let mean = components.iter().map(|c| c.weight * c.value).sum::<f64>() / weight;
        let value = if flagged { 0.0 } else { mean };
        Some(Reward { value, components, policy: self.id().to_owned() })
    }
}

fn component(reply: &str, outcome: &Outcome) -> Component {
    let value = match &outcome.signal {
        Signal::Accept => 1.0,
        Signal::Edit { text } => 1.0 - edit_ratio(reply, text),
        Signal::Regenerate { .. } | Signal::Abandon | Signal::Flag { .. } => 0.0,
        Signal::Rating { value } | Signal::Verifier { score: value, .. } => value.clamp(0.0, 1.0),
    };
    let weight = match outcome.source {
        Source::Explicit | Source::Automated => 1.0,
        Source::Implicit => 0.25,
    };
    Component { signal: outcome.signal.name().to_owned(), value, weight }
}

/// Levenshtein distance over characters, divided by the longer length: 0 is unchanged, 1 is new.
pub fn edit_ratio(before: &str, after: &str) -> f64 {
    let before: Vec<char> = before.chars().collect();
    let after: Vec<char> = after.chars().collect();
    let longer = before.len().max(after.len());
    if longer == 0 {
        return 0.0;
    }
    let mut row: Vec<usize> = (0..=after.len()).collect();
    for (i, old) in before.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, new) in after.iter().enumerate() {
            let substituted = diagonal + usize::from(old != new);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[after.len()] as f64 / longer as f64
}
