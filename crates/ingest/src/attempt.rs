//! Several attempts at one problem: what preferences and advantages are made of.

use serde::{Deserialize, Serialize};
use understudy_ident::TrajectoryId;

/// Attempts at one problem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Group {
    pub name: String,
    pub attempts: Vec<Attempt>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub trajectory: TrajectoryId,
    pub reward: f64,
}

impl Group {
    /// Whether some attempts earned more than others; only then is there anything to learn from
    /// comparing them.
    pub fn is_mixed(&self) -> bool {
        self.pairs() > 0
    }

    /// How many pairs of attempts there are of which one earned more than the other.
    pub fn pairs(&self) -> usize {
        let better =
            |one: &Attempt| self.attempts.iter().filter(|other| one.reward > other.reward).count();
        self.attempts.iter().map(better).sum()
    }
}
