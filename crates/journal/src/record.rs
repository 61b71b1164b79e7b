//! One record: its bytes, and the names it can be found by.

use std::{cell::RefCell, io};

use understudy_trajectory::{Outcome, Step, Target};
use zstd::{bulk::Compressor, zstd_safe::CParameter};

use crate::JournalError;

/// Fast, and already several times smaller on chat JSON; higher levels cost more than the disk.
const ZSTD_LEVEL: i32 = 1;

/// What can arrive.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    Step(Box<Step>),
    Outcome(Outcome),
}

impl Entry {
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Step(step) => step.id.as_str(),
            Self::Outcome(outcome) => outcome.id.as_str(),
        }
    }

    /// Whether one may stand for the other: the same in everything but the time, which a client
    /// that sends again may leave to us to fill in.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Step(a), Self::Step(b)) => Step { at: b.at, ..(**a).clone() } == **b,
            (Self::Outcome(a), Self::Outcome(b)) => Outcome { at: b.at, ..a.clone() } == *b,
            (Self::Step(_), Self::Outcome(_)) | (Self::Outcome(_), Self::Step(_)) => false,
        }
    }

    /// The bytes to store: JSON, compressed, with a checksum. Refuses what it could not read back.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, JournalError> {
        let text = match self {
            Self::Step(step) => serde_json::to_vec(step),
            Self::Outcome(outcome) => serde_json::to_vec(outcome),
        };
        text.and_then(|text| Self::parse(self.kind(), &text).map(|_| text))
            .map_err(|why| why.to_string())
            .and_then(|text| compress(&text).map_err(|why| why.to_string()))
            .map_err(|why| JournalError::Unstorable { id: self.id().to_owned(), why })
    }

    /// What [`encode`](Self::encode) stored as record `seq`.
    pub(crate) fn decode(seq: u64, kind: &str, body: &[u8]) -> Result<Self, JournalError> {
        let text = zstd::stream::decode_all(body).map_err(|why| why.to_string());
        text.and_then(|text| Self::parse(kind, &text).map_err(|why| why.to_string()))
            .map_err(|why| JournalError::Unreadable { seq, why })
    }

    fn parse(kind: &str, text: &[u8]) -> serde_json::Result<Self> {
        match kind {
            "step" => serde_json::from_slice(text).map(|step| Self::Step(Box::new(step))),
            "outcome" => serde_json::from_slice(text).map(Self::Outcome),
            other => Err(serde::de::Error::custom(format_args!("unknown kind `{other}`"))),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Step(_) => "step",
            Self::Outcome(_) => "outcome",
        }
    }
}

fn compress(text: &[u8]) -> io::Result<Vec<u8>> {
    thread_local! {
        // Setting one up costs more than it then takes to compress a step.
        static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    }
    COMPRESSOR.with_borrow_mut(|kept| {
        let mut compressor = kept.take().map_or_else(new_compressor, Ok)?;
        let body = compressor.compress(text)?;
        *kept = Some(compressor);
        Ok(body)
    })
}

fn new_compressor() -> io::Result<Compressor<'static>> {
    let mut compressor = Compressor::new(ZSTD_LEVEL)?;
    // SQLite does not notice a flipped bit in a page; this does.
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    Ok(compressor)
}

/// What the derived tables hold of an entry. Times are in microseconds since 1970: nanoseconds of
/// the years a timestamp can have do not fit the integers of SQLite.
#[derive(Debug)]
pub(crate) enum Names {
    Step {
        id: String,
        response_id: String,
        trajectory: String,
        session: Option<String>,
        task: String,
        at_us: i64,
    },
    Outcome {
        id: String,
        by: &'static str,
        target: String,
        at_us: i64,
    },
}

impl Names {
    pub(crate) fn of(entry: &Entry) -> Self {
        match entry {
            Entry::Step(step) => Self::Step {
                id: step.id.to_string(),
                response_id: step.response_id.clone(),
                trajectory: step.trajectory.to_string(),
                session: step.session.clone(),
                task: step.task.to_string(),
                at_us: step.at.as_microsecond(),
            },
            Entry::Outcome(outcome) => {
                let (by, target) = target_names(&outcome.target);
                let (id, target) = (outcome.id.to_string(), target.to_owned());
                Self::Outcome { id, by, target, at_us: outcome.at.as_microsecond() }
            }
        }
    }

    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Step { id, .. } | Self::Outcome { id, .. } => id,
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Step { .. } => "step",
            Self::Outcome { .. } => "outcome",
        }
    }
}

/// The kind and name of a target, as they are stored.
pub(crate) fn target_names(target: &Target) -> (&'static str, &str) {
    match target {
        Target::Response(id) => ("response", id),
        Target::Step(id) => ("step", id),
        Target::Trajectory(id) => ("trajectory", id),
        Target::Session(id) => ("session", id),
    }
}
