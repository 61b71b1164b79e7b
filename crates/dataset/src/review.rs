//! Replies about which no two agree, for a person to settle.

use serde::Serialize;

use crate::{DatasetError, selection::Selected, trail};

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

/// All that the `review` of the stage `join` counts, oldest first.
pub(crate) fn conflicts(selected: &Selected) -> Result<Vec<Conflict>, DatasetError> {
    let mut found = Vec::new();
    for (nth, _) in selected.whole().filter(|(_, fact)| fact.is_contradictory) {
        let candidate = selected.candidate(nth)?;
        found.extend(candidate.conflict().map(|why| Conflict {
            step: candidate.id.to_string(),
            response: candidate.response_id.clone(),
            trajectory: candidate.trajectory.to_string(),
            why,
            said: candidate.outcomes.iter().map(trail::words).collect(),
        }));
    }
    Ok(found)
}
