//! Several rewards and their sum.

use std::{collections::BTreeSet, fmt};

use understudy_manifest::{RewardSpec, Verifier};

use crate::{Attempt, CommandReward, Judge, RewardError, Rule};

/// Something with an opinion about an attempt.
pub trait Reward: Send + Sync + fmt::Debug {
    /// Under which its component is reported.
    fn name(&self) -> &str;

    /// Usually from 0 to 1. `None` is no opinion, which never counts as 0.
    fn score(&self, attempt: &Attempt<'_>) -> Result<Option<f64>, RewardError>;

    /// Attempts at one and the same prompt, one result each. Those who compare attempts with one
    /// another do it here; such scores mean something only within the group.
    fn score_group(&self, attempts: &[Attempt<'_>]) -> Vec<Result<Option<f64>, RewardError>> {
        attempts.iter().map(|attempt| self.score(attempt)).collect()
    }

    /// Whether asking thousands of times is cheap: no process, no network.
    fn is_quick(&self) -> bool {
        true
    }

    /// What the log and the lineage of a run should say about it, beyond the recipe: what a program
    /// is kept from here, which prompt a judge was given.
    fn note(&self) -> Option<String> {
        None
    }
}

/// The rewards of a recipe's stage with their weights.
#[derive(Debug)]
pub struct Rewards {
    weighted: Vec<(f64, Box<dyn Reward>)>,
}

/// What an attempt earned.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scored {
    /// `Σ weight·score` over the rewards with an opinion; none if none has one. That is TRL's
    /// `sum_then_normalize` before its normalisation: a sum of what is there, not a mean.
    pub total: Option<f64>,
    /// Every reward in the recipe's order with its unweighted score.
    pub components: Vec<(String, Option<f64>)>,
    /// The rewards that broke and so have no opinion.
    pub failures: Vec<Failure>,
}

/// A reward that broke, which says nothing about the attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    pub reward: String,
    pub why: RewardError,
}

impl Rewards {
    /// Compiles patterns and schemas, finds programs and keys: what is wrong is said before anything
    /// is generated. Runs nothing of the recipe's and asks no judge.
    pub fn of(specs: &[RewardSpec]) -> Result<Self, RewardError> {
        let weighted = specs.iter().map(|spec| Ok((spec.weight, build(spec)?)));
        Self::new(weighted.collect::<Result<_, _>>()?)
    }

    /// Rewards of one's own making, each with its weight.
    pub fn new(weighted: Vec<(f64, Box<dyn Reward>)>) -> Result<Self, RewardError> {
        let mut seen = BTreeSet::new();
        match weighted.iter().find(|(_, reward)| !seen.insert(reward.name().to_owned())) {
            Some((_, reward)) => Err(RewardError::Duplicate(reward.name().to_owned())),
            None => Ok(Self { weighted }),
        }
    }

    /// In the recipe's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.weighted.iter().map(|(_, reward)| reward.name())
    }

    /// What a run should record about its rewards, by name.
    pub fn notes(&self) -> Vec<(String, String)> {
        let note = |reward: &dyn Reward| Some((reward.name().to_owned(), reward.note()?));
        self.weighted.iter().filter_map(|(_, reward)| note(reward.as_ref())).collect()
    }

    pub fn score(&self, attempt: &Attempt<'_>) -> Scored {
        let mut scored = Scored::default();
        for (weight, reward) in &self.weighted {
            scored.add(reward.name(), *weight, reward.score(attempt));
        }
        scored
    }

    /// Scores attempts at one and the same prompt together, which a judge makes use of.
    pub fn score_group(&self, attempts: &[Attempt<'_>]) -> Vec<Scored> {
        let mut scored = vec![Scored::default(); attempts.len()];
        for (weight, reward) in &self.weighted {
            let mut results = reward.score_group(attempts).into_iter();
            for scored in &mut scored {
                let result = results.next().unwrap_or(Err(RewardError::TooFewScores));
                scored.add(reward.name(), *weight, result);
            }
        }
        scored
    }

    pub(crate) fn weighted(&self) -> &[(f64, Box<dyn Reward>)] {
        &self.weighted
    }
}

impl Scored {
    pub(crate) fn add(
        &mut self,
        name: &str,
        weight: f64,
        result: Result<Option<f64>, RewardError>,
    ) {
        let finite = |score: f64| {
            if score.is_finite() { Ok(score) } else { Err(RewardError::NotFinite(score)) }
        };
        let score = match result.and_then(|score| score.map(finite).transpose()) {
            Ok(score) => score,
            Err(why) => {
                self.failures.push(Failure { reward: name.to_owned(), why });
                None
            }
        };
        if let Some(score) = score {
            *self.total.get_or_insert(0.0) += weight * score;
        }
        self.components.push((name.to_owned(), score));
    }
}

fn build(spec: &RewardSpec) -> Result<Box<dyn Reward>, RewardError> {
    let name = spec.name();
    Ok(match &spec.verify {
        Verifier::Exact { normalise_whitespace } => {
            Box::new(Rule::exact(name, *normalise_whitespace))
        }
        Verifier::Number { tolerance } => Box::new(Rule::number(name, *tolerance)),
        Verifier::JsonValid {} => Box::new(Rule::json_valid(name)),
        Verifier::JsonEqual {} => Box::new(Rule::json_equal(name)),
        Verifier::JsonSchema { schema } => Box::new(Rule::json_schema(name, schema)?),
        Verifier::FieldF1 {} => Box::new(Rule::field_f1(name)),
        Verifier::Regex { pattern } => Box::new(Rule::regex(name, pattern)?),
        Verifier::ToolCall {} => Box::new(Rule::tool_call(name)),
        Verifier::Command(command) => Box::new(CommandReward::new(name, command)?),
        Verifier::Judge(judge) => Box::new(Judge::new(name, judge)?),
    })
}
