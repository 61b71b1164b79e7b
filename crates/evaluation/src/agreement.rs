//! Whether our scorers say of recorded answers what another program's scorers said.

use understudy_inference::Embedder;
use understudy_manifest::Suite;

use crate::{EvaluationError, SubjectRun, grade::Graders};

/// How often the suite's first scorer and the recorded scores are the same.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Agreement {
    pub same: usize,
    /// Answers that both have scored.
    pub of: usize,
    /// The first case on which they differ, with our score and theirs.
    pub first: Option<(String, f64, f64)>,
}

/// Compares on every answer with recorded scores, of which the mean is taken as `checks` does.
pub fn agreement(
    suite: &Suite,
    run: &SubjectRun,
    embedder: Option<&dyn Embedder>,
) -> Result<Agreement, EvaluationError> {
    let graders = Graders::new(suite, &suite.scorers[..1])?;
    let mut found = Agreement::default();
    for results in run.attempts() {
        let one = SubjectRun { results: results.clone(), ..SubjectRun::default() };
        let graded = graders.grade(&one, embedder, None);
        for (result, outcome) in results.iter().zip(&graded.outcomes[0]) {
            let (Some(ours), false) = (outcome.score(), result.scores.is_empty()) else { continue };
            let theirs = result.scores.values().sum::<f64>() / result.scores.len() as f64;
            found.of += 1;
            if (ours.value - theirs).abs() < 1e-9 {
                found.same += 1;
            } else if found.first.is_none() {
                found.first = Some((result.id.clone(), ours.value, theirs));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
