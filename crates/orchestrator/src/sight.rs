//! What there is to see from outside a run: how much has been said, and how what serves fares.

use serde::{Deserialize, Serialize};

use crate::PortError;

/// What a decision rests on besides the past turns.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Sight {
    /// Number of the last journal record that was looked at.
    pub until: u64,
    /// Steps whose first verified outcome came after the record that was asked for.
    pub verified_new: u64,
    pub verified_all: u64,
    /// Falling reward or drifting requests, as half a sentence.
    pub alarm: Option<String>,
    /// Likewise of those that came after the alarm, and so are about what has changed.
    #[serde(default)]
    pub verified_since_alarm: u64,
    /// Who serves now: `teacher`, `base` or `task@N`; nobody before the first promotion.
    pub serving: Option<String>,
    /// The open release, as half a sentence.
    pub open_release: Option<String>,
    /// The freeze in force, as half a sentence.
    pub frozen: Option<String>,
    /// Everybody who has answered, in the order of their first answer.
    pub rewards: Vec<Earned>,
}

/// What somebody's answers were worth so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Earned {
    /// `teacher`, `base` or `task@N`.
    pub who: String,
    /// Judged steps.
    pub n: u64,
    /// In [0, 1].
    pub mean: f64,
    /// 95 %, at all times at once.
    pub low: f64,
    pub high: f64,
}

/// Looks at the journal and the registry.
pub trait Lookout {
    /// `since` is the record up to which the last turn has learnt.
    fn look(&mut self, since: u64) -> Result<Sight, PortError>;
}

impl<L: Lookout + ?Sized> Lookout for &mut L {
    fn look(&mut self, since: u64) -> Result<Sight, PortError> {
        (**self).look(since)
    }
}
