//! Replies about which no two agree, for a person to settle.

use serde::Serialize;

use crate::{Burst, DatasetError, bursts::bursts, selection::Selected, trail};

/// One reply that nobody learns from until it is settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conflict {
    pub step: String,
    pub response: String,
    pub trajectory: String,
    /// How what was said of it disagrees.
    pub why: &'static str,
    /// Everything that was said, oldest first.
    pub said: Vec<String>,
}

/// One thing for a person to look at.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Review {
    Reply(Conflict),
    /// Its rows are in versions nevertheless.
    Burst(Burst),
}

/// Everything there is to look at.
pub(crate) fn all(selected: &Selected) -> Result<Vec<Review>, DatasetError> {
    let replies = conflicts(selected)?.into_iter().map(Review::Reply);
    Ok(replies.chain(bursts(selected)?.into_iter().map(Review::Burst)).collect())
}

/// All that the `review` of the stage `join` counts, oldest first.
fn conflicts(selected: &Selected) -> Result<Vec<Conflict>, DatasetError> {
    let mut found = Vec::new();
    for (nth, fact) in selected.whole() {
        let Some(why) = fact.conflict else { continue };
        let candidate = selected.candidate(nth)?;
        found.push(Conflict {
            step: candidate.id.to_string(),
            response: candidate.response_id.clone(),
            trajectory: candidate.trajectory.to_string(),
            why,
            said: candidate.outcomes.iter().map(trail::words).collect(),
        });
    }
    Ok(found)
}
