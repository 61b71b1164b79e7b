//! One record: its bytes, and the names it can be found by.

use std::{borrow::Cow, cell::RefCell, io};

use serde::{Deserialize, Serialize};
use understudy_trajectory::{Outcome, Step, Target};
use zstd::{bulk::Compressor, zstd_safe::CParameter};

use crate::{JournalError, seal::Stored};

/// Fast, and already several times smaller on chat JSON; higher levels cost more than the disk.
const ZSTD_LEVEL: i32 = 1;

/// What can arrive.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    Step(Box<Step>),
    Outcome(Outcome),
}

/// An entry as it is stored: by our own doing, or because telemetry told it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Record {
    Own(Entry),
    Told(Told),
    Withdrawal(Withdrawal),
    Retraction(Withdrawal),
}

/// What the raw bodies of one origin amount to at present. Another account of the same id takes its
/// place: unlike what we saw ourselves, it is only as good as what has arrived of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// By which rules the account was made; [`crate::Journal::told_otherwise`] lists the others'.
    pub origin: String,
    pub entry: Entry,
}

/// The end of what has this id: of an account that its telemetry no longer supports, or for good of
/// an outcome that whoever told it took back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Withdrawal {
    pub(crate) id: String,
}

#[derive(Serialize)]
struct TellingOf<'a, T> {
    origin: &'a str,
    told: &'a T,
}

#[derive(Deserialize)]
struct Telling<T> {
    origin: String,
    told: T,
}

impl Record {
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Own(entry) | Self::Told(Told { entry, .. }) => entry.id(),
            Self::Withdrawal(ended) | Self::Retraction(ended) => &ended.id,
        }
    }

    /// The bytes to store: JSON, compressed, with a checksum. Refuses what it could not read back.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, JournalError> {
        let text = match self {
            Self::Own(Entry::Step(step)) => serde_json::to_vec(step),
            Self::Own(Entry::Outcome(outcome)) => serde_json::to_vec(outcome),
            Self::Told(Told { origin, entry: Entry::Step(told) }) => {
                serde_json::to_vec(&TellingOf { origin, told })
            }
            Self::Told(Told { origin, entry: Entry::Outcome(told) }) => {
                serde_json::to_vec(&TellingOf { origin, told })
            }
            Self::Withdrawal(ended) | Self::Retraction(ended) => serde_json::to_vec(ended),
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
        let told = |origin, entry| Self::Told(Told { origin, entry });
        match kind {
            "step" => serde_json::from_slice(text).map(|step| Self::Own(Entry::Step(step))),
            "outcome" => serde_json::from_slice(text).map(|said| Self::Own(Entry::Outcome(said))),
            "told-step" => serde_json::from_slice(text)
                .map(|telling: Telling<_>| told(telling.origin, Entry::Step(telling.told))),
            "told-outcome" => serde_json::from_slice(text)
                .map(|telling: Telling<_>| told(telling.origin, Entry::Outcome(telling.told))),
            "withdrawal" => serde_json::from_slice(text).map(Self::Withdrawal),
            "retraction" => serde_json::from_slice(text).map(Self::Retraction),
            other => Err(serde::de::Error::custom(format_args!("unknown kind `{other}`"))),
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Own(Entry::Step(_)) => "step",
            Self::Own(Entry::Outcome(_)) => "outcome",
            Self::Told(Told { entry: Entry::Step(_), .. }) => "told-step",
            Self::Told(Told { entry: Entry::Outcome(_), .. }) => "told-outcome",
            Self::Withdrawal(_) => "withdrawal",
            Self::Retraction(_) => "retraction",
        }
    }
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

    /// What is stored, whoever said it.
    pub(crate) fn read(stored: &Stored<'_>) -> Result<Self, JournalError> {
        Self::decode(stored.seq, stored.kind, &stored.body()?)
    }

    /// The same from a body that is not sealed.
    pub(crate) fn decode(seq: u64, kind: &str, body: &[u8]) -> Result<Self, JournalError> {
        match Record::decode(seq, kind, body)? {
            Record::Own(entry) | Record::Told(Told { entry, .. }) => Ok(entry),
            Record::Withdrawal(_) | Record::Retraction(_) => {
                let why = "it takes back another record and tells nothing itself".to_owned();
                Err(JournalError::Unreadable { seq, why })
            }
        }
    }
}

pub(crate) fn compress(text: &[u8]) -> io::Result<Vec<u8>> {
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
        turn: u32,
        subject: Option<String>,
        task: String,
        at_us: i64,
        origin: Option<String>,
    },
    Outcome {
        id: String,
        by: &'static str,
        target: String,
        at_us: i64,
        origin: Option<String>,
    },
    Withdrawal {
        id: String,
    },
    Retraction {
        id: String,
    },
}

impl Names {
    pub(crate) fn of(record: &Record) -> Self {
        match record {
            Record::Own(entry) => Self::of_entry(entry, None),
            Record::Told(told) => Self::of_entry(&told.entry, Some(told.origin.clone())),
            Record::Withdrawal(ended) => Self::Withdrawal { id: ended.id.clone() },
            Record::Retraction(ended) => Self::Retraction { id: ended.id.clone() },
        }
    }

    fn of_entry(entry: &Entry, origin: Option<String>) -> Self {
        match entry {
            Entry::Step(step) => Self::Step {
                id: step.id.to_string(),
                response_id: step.response_id.clone(),
                trajectory: step.trajectory.to_string(),
                session: step.session.clone(),
                turn: step.turn(),
                subject: step.subject.clone(),
                task: step.task.to_string(),
                at_us: step.at.as_microsecond(),
                origin,
            },
            Entry::Outcome(outcome) => {
                let (by, target) = target_names(&outcome.target);
                let (id, target) = (outcome.id.to_string(), target.into_owned());
                Self::Outcome { id, by, target, at_us: outcome.at.as_microsecond(), origin }
            }
        }
    }

    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Step { id, .. }
            | Self::Outcome { id, .. }
            | Self::Withdrawal { id }
            | Self::Retraction { id } => id,
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Step { origin: None, .. } => "step",
            Self::Outcome { origin: None, .. } => "outcome",
            Self::Step { origin: Some(_), .. } => "told-step",
            Self::Outcome { origin: Some(_), .. } => "told-outcome",
            Self::Withdrawal { .. } => "withdrawal",
            Self::Retraction { .. } => "retraction",
        }
    }
}

/// The kind and name of a target, as they are stored.
pub(crate) fn target_names(target: &Target) -> (&'static str, Cow<'_, str>) {
    match target {
        Target::Response(id) => ("response", id.into()),
        Target::Step(id) => ("step", id.into()),
        Target::Trajectory(id) => ("trajectory", id.into()),
        Target::Session(id) => ("session", id.into()),
        Target::Turn { session, turn } => ("turn", turn_name(session, *turn).into()),
    }
}

/// What a turn is called; the tables find it by [`steps_called`].
pub(crate) fn turn_name(session: &str, turn: u32) -> String {
    format!("{turn} {session}")
}

/// The condition by which a step is one of those that a target of this kind, called `?1`, may mean.
pub(crate) fn steps_called(by: &str) -> &'static str {
    match by {
        "response" => "response_id = ?1",
        "step" => "id = ?1",
        "trajectory" => "trajectory = ?1",
        // A number's text ends where the number does.
        "turn" => "session = substr(?1, instr(?1, ' ') + 1) AND turn = CAST(?1 AS INTEGER)",
        _ => "session = ?1",
    }
}
