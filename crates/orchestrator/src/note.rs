//! The loop's own log: sentences, durable and in order, beside the facts of its runs.

use serde::{Deserialize, Serialize};
use understudy_ident::{RunId, Timestamp};

/// One sentence of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    pub at: Timestamp,
    pub kind: NoteKind,
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// A person, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What makes two decisions the same news.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    /// It waits, trains or stops, and why.
    Decided,
    /// A turn begins.
    Began,
    /// A step is done.
    Did,
    /// A step waits.
    Held,
    /// A step did not work.
    Failed,
    /// A turn is over.
    Ended,
    /// By a person, with the reason as text.
    Paused,
    /// Likewise; what failed before is forgiven.
    Resumed,
}

impl Note {
    pub fn new(kind: NoteKind, at: Timestamp, text: impl Into<String>) -> Self {
        Self { at, kind, text: text.into(), run: None, owner: None, key: None }
    }

    #[must_use]
    pub fn of_run(self, run: &RunId) -> Self {
        Self { run: Some(run.clone()), ..self }
    }

    #[must_use]
    pub fn by(self, owner: &str) -> Self {
        Self { owner: Some(owner.to_owned()), ..self }
    }

    #[must_use]
    pub fn with_key(self, key: String) -> Self {
        Self { key: Some(key), ..self }
    }

    /// The line a person reads.
    pub fn line(&self) -> String {
        let at = crate::decide::at(&self.at);
        match (&self.kind, &self.owner) {
            (NoteKind::Paused, Some(owner)) => {
                format!("{at}  {owner} paused the loop: {}", self.text)
            }
            (NoteKind::Resumed, Some(owner)) => {
                format!("{at}  {owner} lets the loop go on: {}", self.text)
            }
            _ => format!("{at}  {}", self.text),
        }
    }
}
