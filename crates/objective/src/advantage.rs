//! Rewards of a group of replies to the same prompt, turned into advantages.
//!
//! A reward that was never given (`None`) belongs to no mean and no deviation, and its advantage
//! is 0: it must not be taken for a bad one. A group whose rewards do not differ teaches nothing;
//! its advantages are exactly 0 and [`Advantages::has_signal`] is false, so that a caller can
//! leave it out before it costs a forward pass.

use understudy_manifest::{AdvantageScale, AdvantageSettings};

/// A standard deviation below this is rounding, not signal.
const NO_SIGNAL: f64 = 1e-8;

/// The advantages of one group, in the order of its rewards.
#[derive(Debug, Clone, PartialEq)]
pub struct Advantages {
    pub values: Vec<f64>,
    /// Whether any value can be other than 0.
    pub has_signal: bool,
    /// Mean of the rewards that were given; 0 if none was.
    pub mean: f64,
    /// Their standard deviation, with the settings' ddof; 0 for fewer than two.
    pub std: f64,
}

/// Advantages of one group by itself. Under the scale `batch`, the group is the batch.
pub fn group(rewards: &[Option<f64>], settings: &AdvantageSettings) -> Advantages {
    let scale = Moments::of(rewards.iter().copied(), settings).std;
    of_group(rewards, settings, scale)
}

/// Advantages of every group of a batch.
pub fn batch(groups: &[&[Option<f64>]], settings: &AdvantageSettings) -> Vec<Advantages> {
    let all = groups.iter().flat_map(|rewards| rewards.iter().copied());
    let scale = Moments::of(all, settings).std;
    groups.iter().map(|rewards| of_group(rewards, settings, scale)).collect()
}

/// One of several rewards of a group's replies, and what it counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Component<'a> {
    pub weight: f64,
    /// One per reply, in the same order for every component.
    pub rewards: &'a [Option<f64>],
}

/// `Σ_k w_k·r_k` of each reply over the components that were given; none if none was.
/// What [`group`] and [`batch`] take when rewards are added up first.
pub fn weighted_sum(components: &[Component<'_>]) -> Vec<Option<f64>> {
    let replies = components.iter().map(|component| component.rewards.len()).max().unwrap_or(0);
    let sum = |reply: usize| {
        let given = components.iter().filter_map(|component| {
            Some(component.weight * component.rewards.get(reply).copied().flatten()?)
        });
        given.reduce(|sum, more| sum + more)
    };
    (0..replies).map(sum).collect()
}

/// GDPO: every component is made an advantage of its own, then they are added up by weight. A
/// component of small spread counts as much as one of large spread, which a sum would drown.
///
/// TRL divides the sum by its deviation over the batch as well: give the values to [`batch`] with
/// the scale `batch` for that.
pub fn normalize_then_sum(
    components: &[Component<'_>],
    settings: &AdvantageSettings,
) -> Vec<Option<f64>> {
    let normalized: Vec<Vec<Option<f64>>> = components
        .iter()
        .map(|component| {
            let advantages = group(component.rewards, settings).values;
            let given = component.rewards.iter().zip(advantages);
            given.map(|(reward, advantage)| reward.and(Some(advantage))).collect()
        })
        .collect();
    let weighted: Vec<Component<'_>> = components
        .iter()
        .zip(&normalized)
        .map(|(component, rewards)| Component { weight: component.weight, rewards })
        .collect();
    weighted_sum(&weighted)
}

fn of_group(rewards: &[Option<f64>], settings: &AdvantageSettings, batch_std: f64) -> Advantages {
    let Moments { n, mean, std } = Moments::of(rewards.iter().copied(), settings);
    let silent = Advantages { values: vec![0.0; rewards.len()], has_signal: false, mean, std };
    if n == 1.0 && settings.keep_lone {
        let kept =
            |reward: &Option<f64>| reward.map_or(0.0, |reward| reward / (1.0 + settings.eps));
        return Advantages {
            values: rewards.iter().map(kept).collect(),
            has_signal: mean.abs() >= NO_SIGNAL,
            ..silent
        };
    }
    // Divided by a mean below 0, the best reply would be pushed away.
    let has_scale = settings.scale != AdvantageScale::MaxRl || mean > 0.0;
    if std < NO_SIGNAL || !has_scale {
        return silent;
    }
    let factor = match settings.scale {
        AdvantageScale::Group => 1.0 / (std + settings.eps),
        AdvantageScale::Batch => 1.0 / (batch_std + settings.eps),
        AdvantageScale::None => 1.0,
        AdvantageScale::Rloo => n / (n - 1.0),
        AdvantageScale::MaxRl => 1.0 / (mean + settings.eps),
    };
    let value = |reward: &Option<f64>| reward.map_or(0.0, |reward| (reward - mean) * factor);
    Advantages { values: rewards.iter().map(value).collect(), has_signal: true, ..silent }
}

/// Count, mean and standard deviation of the rewards that were given.
struct Moments {
    n: f64,
    mean: f64,
    std: f64,
}

impl Moments {
    fn of(
        rewards: impl Iterator<Item = Option<f64>> + Clone,
        settings: &AdvantageSettings,
    ) -> Self {
        let given = rewards.flatten();
        let n = given.clone().count() as f64;
        let mean = given.clone().sum::<f64>() / n.max(1.0);
        let squares: f64 = given.map(|reward| (reward - mean) * (reward - mean)).sum();
        let degrees = n - f64::from(settings.std_ddof);
        let std = if n > 1.0 { (squares / degrees).sqrt() } else { 0.0 };
        Self { n, mean, std }
    }
}

#[cfg(test)]
mod tests;
