//! Every number a decision rests on; the `[memory]` table of the configuration.

use serde::{Deserialize, Serialize};

use crate::MemoryError;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub selection: Selection,
    pub agreement: AgreementSettings,
    pub scoring: Scoring,
    pub contrast: Contrast,
    pub counters: CounterSettings,
    pub retrieval: Retrieval,
    pub caps: Caps,
}

/// Which kinds of task may teach anything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    pub min_episodes: usize,
    pub window_days: u32,
    /// What both signals, wording and tools, must reach, in agreement.
    pub min_confidence: f64,
    /// Neighbours each signal asks.
    pub neighbours: usize,
    /// Without this many different users, a lesson about them could point at one.
    pub min_users: usize,
}

impl Default for Selection {
    fn default() -> Self {
        Self { min_episodes: 5, window_days: 30, min_confidence: 0.8, neighbours: 5, min_users: 3 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgreementSettings {
    /// The share of the runs that mention something which must say the same.
    pub share: f64,
    /// From so many different configurations.
    pub min_configs: usize,
    /// How many read-only calls a verifier has for one conflict.
    pub verifier_calls: u32,
}

impl Default for AgreementSettings {
    fn default() -> Self {
        Self { share: 2.0 / 3.0, min_configs: 2, verifier_calls: 3 }
    }
}

/// How good a run was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scoring {
    /// Of correctness, tool behaviour, efficiency and feedback.
    pub weights: [f64; 4],
    /// How correct a winner must be.
    pub bar: f64,
    /// A winner's advantage is at least this, a loser's at most its negative.
    pub advantage: f64,
}

impl Default for Scoring {
    fn default() -> Self {
        Self { weights: [0.5, 0.2, 0.2, 0.1], bar: 0.8, advantage: 0.5 }
    }
}

/// When a difference between winners and losers is a lesson.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Contrast {
    /// One-sided, by Fisher's exact test.
    pub max_p: f64,
    pub min_lift: f64,
    /// Runs on each side.
    pub min_support: u64,
    /// How often winners must take the same steps before these become a workflow.
    pub workflow_support: u64,
    pub max_items: usize,
}

impl Default for Contrast {
    fn default() -> Self {
        Self { max_p: 0.1, min_lift: 0.15, min_support: 3, workflow_support: 5, max_items: 3 }
    }
}

/// How evidence from live requests is counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CounterSettings {
    /// The share of sessions that get no memory at all.
    pub control_share: f64,
    /// The share of requests from which a single lesson is withheld while little is known of it.
    pub probation_share: f64,
    /// How many outcomes with, and without, end the probation.
    pub probation_outcomes: f64,
    pub half_life_days: f64,
    /// Of the difference of the success rates, one-sided.
    pub bound: f64,
    /// Outcomes before the bound may suspend.
    pub min_outcomes: f64,
    /// Of the sequential test that suspends, when the bound is passed too. The bound by itself,
    /// looked at after every outcome, took out every second harmless lesson.
    pub suspect: f64,
    /// Of the sequential test that retires.
    pub alpha: f64,
    /// A lesson nobody was shown for so long is retired.
    pub unused_days: f64,
    /// After an adapter of its agent is promoted, a lesson is measured anew, on so many outcomes with
    /// it and without.
    pub rescore_outcomes: f64,
    /// Whose bound is below this by then has graduated into the weights.
    pub graduate_below: f64,
}

impl Default for CounterSettings {
    fn default() -> Self {
        Self {
            control_share: 0.05,
            probation_share: 0.5,
            probation_outcomes: 20.0,
            half_life_days: 30.0,
            bound: 0.9,
            min_outcomes: 20.0,
            suspect: 0.2,
            alpha: 0.05,
            unused_days: 90.0,
            rescore_outcomes: 50.0,
            graduate_below: 0.1,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retrieval {
    pub k: usize,
    /// Weights of meaning and of names (`refunds.quote`, `E4711`), for a goal, where lessons are found
    /// by meaning.
    pub goal_weights: [f64; 2],
    /// Of meaning and of all words, after an error, whose tokens are exact, and for goals where lessons
    /// are found by spelling, of which words tell more.
    pub error_weights: [f64; 2],
    /// Below it nothing is injected; of 1.
    pub threshold: f64,
    pub mmr_lambda: f64,
    pub max_line_tokens: usize,
    pub max_tokens: usize,
    /// Of the model's context.
    pub context_share: f64,
    /// Instead of `max_tokens` for a small model.
    pub max_tokens_small: usize,
    /// Whether the model is a small one, of up to 360 million parameters; told by its context where
    /// nobody says.
    pub small_model: Option<bool>,
    /// A request waits no longer for what it is shown, and goes on without. What takes longer anyway,
    /// embedding lessons, is done outside of requests.
    pub budget_ms: u64,
}

impl Default for Retrieval {
    fn default() -> Self {
        Self {
            k: 3,
            goal_weights: [1.0, 0.2],
            error_weights: [0.5, 1.0],
            threshold: 0.25,
            mmr_lambda: 0.7,
            max_line_tokens: 60,
            max_tokens: 512,
            context_share: 0.05,
            max_tokens_small: 96,
            small_model: None,
            budget_ms: 25,
        }
    }
}

impl Retrieval {
    pub const MAX_K: usize = 5;

    /// A context of at most so many tokens is taken for a small model's, as those of up to 360
    /// million parameters have.
    const SMALL_CONTEXT: usize = 8_192;

    /// The tokens a block may take in a context of so many tokens; where nothing is known of the
    /// model, as if it were a small one, which loses the question over much advice.
    pub fn token_budget(&self, context: Option<usize>) -> usize {
        let known = || context.is_none_or(|context| context <= Self::SMALL_CONTEXT);
        let small = self.small_model.unwrap_or_else(known);
        let most = if small { self.max_tokens_small } else { self.max_tokens };
        let share = context.map(|context| (context as f64 * self.context_share) as usize);
        share.map_or(most, |share| share.min(most))
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Caps {
    /// Active lessons of one agent, of one kind of task, and of one user.
    pub per_agent: usize,
    pub per_pattern: usize,
    pub per_user: usize,
    /// Changes of one release.
    pub per_release: usize,
    pub core: usize,
    /// What a user's own lesson lives, unless it is confirmed.
    pub user_days: i64,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            per_agent: 200,
            per_pattern: 50,
            per_user: 100,
            per_release: 5,
            core: 5,
            user_days: 180,
        }
    }
}

impl Settings {
    pub fn check(&self) -> Result<(), MemoryError> {
        let share = |key, value: f64| {
            let why = "must lie between 0 and 1";
            let fits = (0.0..=1.0).contains(&value);
            if fits { Ok(()) } else { Err(MemoryError::Setting { key, why }) }
        };
        share("selection.min_confidence", self.selection.min_confidence)?;
        share("agreement.share", self.agreement.share)?;
        share("counters.control_share", self.counters.control_share)?;
        share("counters.probation_share", self.counters.probation_share)?;
        share("counters.bound", self.counters.bound)?;
        share("counters.suspect", self.counters.suspect)?;
        share("counters.alpha", self.counters.alpha)?;
        share("counters.graduate_below", self.counters.graduate_below)?;
        share("retrieval.threshold", self.retrieval.threshold)?;
        share("retrieval.mmr_lambda", self.retrieval.mmr_lambda)?;
        share("retrieval.context_share", self.retrieval.context_share)?;
        if self.retrieval.k == 0 || self.retrieval.k > Retrieval::MAX_K {
            return Err(MemoryError::Setting { key: "retrieval.k", why: "must be from 1 to 5" });
        }
        let positive = self.counters.half_life_days > 0.0 && self.selection.neighbours > 0;
        let why = "and `selection.neighbours` must be more than 0";
        if positive {
            Ok(())
        } else {
            Err(MemoryError::Setting { key: "counters.half_life_days", why })
        }
    }
}
