//! One record: its bytes, its identity, and the names it can be found by.

use serde_json::json;
use understudy_ident::Digest;
use understudy_trajectory::{Outcome, Step, Target};

use crate::JournalError;

/// Fast, and already four times smaller on chat JSON; higher levels cost more than the disk.
const ZSTD_LEVEL: i32 = 1;

/// What can arrive.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    Step(Box<Step>),
    Outcome(Outcome),
}

impl Entry {
    pub(crate) const STEP: i64 = 1;
    pub(crate) const OUTCOME: i64 = 2;

    pub(crate) fn kind(&self) -> i64 {
        match self {
            Self::Step(_) => Self::STEP,
            Self::Outcome(_) => Self::OUTCOME,
        }
    }

    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Step(step) => step.id.as_str(),
            Self::Outcome(outcome) => outcome.id.as_str(),
        }
    }

    /// What makes two records with one id the same. A client that sends an outcome again may leave
    /// the time to us, so time is not part of it.
    pub(crate) fn identity(&self) -> Digest {
        let value = match self {
            Self::Step(step) => json!([step.trajectory, step.prompt, step.reply]),
            Self::Outcome(outcome) => json!([outcome.target, outcome.signal, outcome.source]),
        };
        Digest::of(value.to_string().as_bytes())
    }

    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, JournalError> {
        let text = match self {
            Self::Step(step) => serde_json::to_vec(step),
            Self::Outcome(outcome) => serde_json::to_vec(outcome),
        };
        let text = text.map_err(JournalError::write)?;
        zstd::bulk::compress(&text, ZSTD_LEVEL).map_err(JournalError::write)
    }

    pub(crate) fn from_bytes(seq: u64, kind: i64, bytes: &[u8]) -> Result<Self, JournalError> {
        let wrong = |why: String| JournalError::Unreadable { seq, why };
        let text = zstd::stream::decode_all(bytes).map_err(|why| wrong(why.to_string()))?;
        match kind {
            Self::STEP => serde_json::from_slice(&text).map(|step| Self::Step(Box::new(step))),
            Self::OUTCOME => serde_json::from_slice(&text).map(Self::Outcome),
            other => return Err(wrong(format!("kind {other} is from a newer version"))),
        }
        .map_err(|why| wrong(why.to_string()))
    }
}

/// The kind and name of a target, as they are stored.
pub(crate) fn target_key(target: &Target) -> (i64, &str) {
    match target {
        Target::Response(id) => (1, id),
        Target::Step(id) => (2, id),
        Target::Trajectory(id) => (3, id),
        Target::Session(id) => (4, id),
    }
}
