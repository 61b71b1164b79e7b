//! Groups as they were recorded: which of them a policy gradient may use, and relative to what.
//!
//! | what is known | what is done |
//! | --- | --- |
//! | the sampler's log-probabilities, and the policy still agrees with them | the ratio is to the sampler (bypass) |
//! | the sampler's log-probabilities, but the policy has moved on | the ratio is to the policy that began the stage, corrected for the sampler (decoupled) |
//! | neither | refused; if the recipe insists, the ratio is to the policy that began the stage, and the lineage says the gradient is biased |
//!
//! A ratio to the policy of the moment is always 1, so that nothing would ever clip and a push
//! against a foreign reply had no end: that is never done here.

use understudy_manifest::{GrpoSettings, ImportanceCorrection};
use understudy_model::BaseModel;

use crate::{
    attempt::Group,
    fresh,
    rows::{Advantage, Example, Examples, Kind},
};

/// Mean k3 between sampler and policy, in nats per token, up to which they are taken for the same.
const AGREEMENT: f64 = 0.01;

/// The usable groups as examples; the rest is counted as left out.
pub(crate) fn examples(
    groups: &[Group],
    settings: &GrpoSettings,
    base: &BaseModel,
    max_tokens: usize,
) -> Examples {
    let mut examples = Examples::default();
    let sound =
        |group: &&Group| group.shares_prompt() && (group.is_recorded() || settings.allow_unsound);
    let usable: Vec<Group> = groups.iter().filter(sound).cloned().collect();
    examples.left_out.unsound = (groups.len() - usable.len()) as u64;
    let given = usable.len();
    let (kept, _) = fresh::examples(usable, settings);
    examples.left_out.no_difference = (given - kept.len()) as u64;
    for example in kept {
        examples.keep(example, base, max_tokens);
    }
    examples
}

/// Whether some rows' sampler is unknown.
pub(crate) fn is_unsound(examples: &[Example]) -> bool {
    let mut rows = examples.iter().flat_map(|example| &example.rows);
    rows.any(|row| row.known.sampler.is_empty())
}

/// Decides what every row's ratio is to, given what the policy that begins the stage says of its
/// tokens. Returns a sentence for the lineage.
pub(crate) fn anchor(
    examples: &mut [Example],
    start: &[Vec<f32>],
    settings: &mut GrpoSettings,
) -> String {
    let unsound = is_unsound(examples);
    let rows = examples.iter().flat_map(|example| &example.rows).zip(start);
    let gaps: Vec<Option<f64>> = rows.map(|(row, start)| gap(&row.known.sampler, start)).collect();
    let known: Vec<f64> = gaps.iter().copied().flatten().collect();
    let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
    let bypass = !unsound && mean <= AGREEMENT;
    let mut at = 0;
    let mut dropped = 0;
    for example in examples {
        for (nth, row) in example.rows.iter_mut().enumerate() {
            if bypass {
                row.known.old.clone_from(&row.known.sampler);
                if gaps[at].is_some_and(|gap| gap > AGREEMENT) {
                    dropped += 1;
                    silence(&mut example.kind, nth);
                }
            } else {
                row.known.old.clone_from(&start[at]);
                if unsound {
                    row.known.sampler.clear();
                }
            }
            at += 1;
        }
    }
    if unsound {
        settings.policy.correction.mode = ImportanceCorrection::Off;
        return "the sampler of some replies is unknown: the ratio is to the policy that began the \
                stage, and the gradient is biased"
            .to_owned();
    }
    if bypass {
        format!(
            "the ratio is to the sampler (mean k3 {mean:.4}); {dropped} replies it disagrees \
             about do not push"
        )
    } else {
        format!(
            "the ratio is to the policy that began the stage, corrected for the sampler (mean k3 {mean:.4})"
        )
    }
}

/// Mean k3 of a row's tokens: `e^x − x − 1` with `x = lp − μ`.
fn gap(sampler: &[f32], policy: &[f32]) -> Option<f64> {
    if sampler.is_empty() {
        return None;
    }
    let k3 = |(lp, mu): (&f32, &f32)| {
        let x = f64::from(*lp) - f64::from(*mu);
        x.exp() - x - 1.0
    };
    Some(policy.iter().zip(sampler).map(k3).sum::<f64>() / sampler.len() as f64)
}

/// A row that stays in the step's denominators but pushes nothing.
fn silence(kind: &mut Kind, nth: usize) {
    if let Kind::Compare { advantages } = kind {
        advantages[nth] = Advantage::Row(0.0);
    }
}
