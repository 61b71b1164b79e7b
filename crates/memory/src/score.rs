//! How good each run of a group was, beside the others of its group.

use understudy_manifest::{AdvantageScale, AdvantageSettings};
use understudy_objective::advantage;
use understudy_trajectory::Side;

use crate::{Catalogue, Episode, Scoring, Skeleton, agreement::Canon};

/// A run's score, and how it compares.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Score {
    /// Correctness, tool behaviour, efficiency, feedback; each in [0, 1], `None` where unknown.
    pub(crate) parts: [Option<f64>; 4],
    /// Their weighted mean, in [0, 1]; `None` where nobody knows whether the run was right.
    pub(crate) reward: Option<f64>,
    /// Of the reward, over the group: the same function as GRPO's.
    pub(crate) advantage: f64,
}

impl Score {
    /// A run that was right is nobody's bad example, however slow: what it did beyond the others may
    /// be the care that nobody measured.
    pub(crate) fn side(&self, scoring: &Scoring) -> Side {
        let correct = self.parts[0].unwrap_or(0.0) >= scoring.bar;
        if correct && self.advantage >= scoring.advantage {
            Side::Winner
        } else if !correct && self.advantage <= -scoring.advantage {
            Side::Loser
        } else {
            Side::Neither
        }
    }
}

/// Scores a group. With a canon, correctness is agreement with it; without one, it is what the user
/// or a verifier said, and feedback is then not counted a second time.
pub(crate) fn scores(
    runs: &[&Episode],
    canon: Option<&Canon>,
    catalogue: &Catalogue,
    scoring: &Scoring,
) -> Vec<Score> {
    let efficiency = efficiencies(runs);
    let parts: Vec<[Option<f64>; 4]> = runs
        .iter()
        .zip(efficiency)
        .map(|(run, efficiency)| {
            let told = canon.and_then(|canon| canon.matched(&run.assertions));
            let correctness = if run.harmful { Some(0.0) } else { told.or(run.reward) };
            let feedback = told.and(run.reward);
            [correctness, tool_behaviour(&run.skeleton, catalogue), efficiency, feedback]
        })
        .collect();
    let rewards: Vec<Option<f64>> =
        parts.iter().map(|parts| weighted(parts, scoring.weights)).collect();
    let settings = AdvantageSettings {
        scale: AdvantageScale::Group,
        std_ddof: 0,
        eps: 1e-6,
        keep_lone: false,
    };
    let advantages = advantage::group(&rewards, &settings).values;
    let all = parts.into_iter().zip(rewards).zip(advantages);
    all.map(|((parts, reward), advantage)| Score { parts, reward, advantage }).collect()
}

/// The weighted mean of what is known: an unknown part is no zero. A run of which nobody knows
/// whether it was right has no score.
fn weighted(parts: &[Option<f64>; 4], weights: [f64; 4]) -> Option<f64> {
    parts[0]?;
    let known = parts.iter().zip(weights).filter_map(|(part, weight)| Some((((*part)?), weight)));
    let (sum, total) = known
        .fold((0.0, 0.0), |(sum, total), (part, weight)| (sum + part * weight, total + weight));
    (total > 0.0).then(|| sum / total)
}

/// `1 − faulty calls / calls`, where a call is faulty that failed, repeated an earlier one, was not
/// declared, or did not fit its schema. `None` without calls.
pub(crate) fn tool_behaviour(skeleton: &Skeleton, catalogue: &Catalogue) -> Option<f64> {
    let calls = skeleton.calls();
    if calls == 0 {
        return None;
    }
    let faulty = skeleton.moves.iter().filter(|call| {
        let arguments = catalogue.schema(call.tool).arguments.iter().enumerate();
        let lacks = arguments
            .filter(|(_, argument)| argument.required)
            .any(|(at, _)| !call.arguments.iter().any(|(key, _)| usize::from(key.0) == at));
        call.failed.is_some() || call.repeated || call.undeclared_arguments > 0 || lacks
    });
    let faulty = faulty.count() + skeleton.undeclared as usize;
    Some(1.0 - faulty as f64 / f64::from(calls))
}

/// The mean over steps, tokens and wall time of `median / (median + value)`; what nobody measured is
/// left out.
fn efficiencies(runs: &[&Episode]) -> Vec<Option<f64>> {
    let sum = |run: &Episode, part: fn(&crate::Move) -> u32| -> f64 {
        run.skeleton.moves.iter().map(|call| f64::from(part(call))).sum()
    };
    let measures: [Vec<f64>; 3] = [
        runs.iter().map(|run| f64::from(run.skeleton.calls())).collect(),
        runs.iter().map(|run| sum(run, |call| call.tokens)).collect(),
        runs.iter().map(|run| sum(run, |call| call.latency_ms)).collect(),
    ];
    let medians = measures.each_ref().map(|values| median(values));
    let of_run = |at: usize| {
        let known = measures.iter().zip(medians).filter(|(_, median)| *median > 0.0);
        let shares: Vec<f64> =
            known.map(|(values, median)| median / (median + values[at])).collect();
        (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
    };
    (0..runs.len()).map(of_run).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}
