//! What others recorded, into steps, outcomes, suites and conversations: bytes in, values out.
//!
//! Bulk files are read by [`read`] and [`suite`], requests of observability clients by
//! [`telemetry`].
//!
//! Guarantees: a row of the same meaning gets the same ids on every import, so importing a file
//! twice adds nothing; a broken row is reported with its line and never stops the others; an example
//! whose meaning does not fit our schema (tools, a reply of weight 0) is refused, not simplified; of
//! telemetry nothing is dropped that names a trace, and the order of deliveries never shows.
//!
//! Never: does IO, reads a clock, or guesses what a column means: rows need a [`RowMapping`].

mod atif;
mod attempt;
#[cfg(test)]
mod damage;
mod example;
mod format;
mod openai;
mod reading;
mod record;
mod rows;
mod suite;
mod tau;
pub mod telemetry;
mod trl;

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use understudy_ident::{Digest, TaskName, Timestamp};
use understudy_manifest::SuiteError;
use understudy_trajectory::{Outcome, Step};

pub use attempt::{Attempt, Group};
pub use format::Format;
pub use rows::RowMapping;
pub use suite::{
    Beside, CaseRequest, FailedCase, FailureError, Foreign, ForeignSuite, Take, case_of_failure,
    foreign_suite, inspect_log, suite,
};

use crate::{example::Reader, reading::Reading, rows::Document};

/// One line, as it was parsed.
type Row = Map<String, Value>;

/// What an import found, in the order of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Imported {
    /// Two equal rows give two equal steps: a store that keeps one per id keeps one.
    pub steps: Vec<Step>,
    pub outcomes: Vec<Outcome>,
    /// The bytes that messages of these steps refer to by digest.
    pub media: BTreeMap<Digest, Vec<u8>>,
    pub rejected: Vec<Rejected>,
    /// The attempts at each problem that was tried more than once, in the order of their names.
    pub groups: Vec<Group>,
}

/// A row that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Counted from 1; in a JSON array, the position of the item.
    pub line: usize,
    pub why: String,
}

/// Why nothing could be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    #[error(
        "cannot read format `{0}`: use auto, openai, trl, rows, understudy, tau-bench, atif, \
         langsmith or otlp"
    )]
    UnknownFormat(String),
    #[error("cannot read the text as a JSON array: {0}; one JSON object a line is read as well")]
    Array(String),
    #[error("found no JSON object to read: write one a line, or one array of them")]
    Empty,
    #[error("cannot tell which fields are input and output: name them (the rows have {fields})")]
    NoMapping { fields: String },
    #[error("the mapping names no output field: name at least one")]
    NoOutput,
    #[error("no row has the field `{field}`: name one of {fields}")]
    NoSuchField { field: String, fields: String },
    #[error("format `{format}` has fields of its own: leave the mapping out, or read it as `rows`")]
    MappingUnused { format: &'static str },
    #[error("line {line} cannot become a case: {why}; a suite with holes is another suite")]
    Case { line: usize, why: String },
    #[error("recorded steps cannot become a suite: give the expected answers as rows")]
    RecordedSuite,
    #[error(
        "{}",
        if *expected { "the questions need their possible answers: name that file as well" }
        else { "only bfcl keeps possible answers in a file of their own: leave that file out" }
    )]
    Truths { expected: bool },
    #[error("cannot read the configuration: it is neither JSON nor YAML ({0})")]
    Yaml(String),
    #[error(
        "the format `evals` needs the registry's YAML, which says by what class samples are judged: \
         name it with --registry, or use evals-match, evals-includes or evals-json"
    )]
    NoRegistry,
    #[error("cannot use the registry of evals: {0}")]
    Registry(String),
    #[error("this format has no use for --{what}; leave it out")]
    Beside { what: &'static str },
    #[error("cannot read the log: {0}")]
    Log(String),
    #[error(transparent)]
    Suite(#[from] SuiteError),
}

/// Reads every row: an example into a trajectory of one step and what is known about its reply, a
/// recorded trajectory into its steps, and telemetry, all rows together, into the steps of its
/// conversations, as far as every word of them is told.
///
/// `limit` is how many rows are taken, broken ones not counted. `at` becomes the time of steps and
/// outcomes that bring none; it is no part of their ids.
pub fn read(
    format: Format,
    task: &TaskName,
    text: &str,
    mapping: Option<&RowMapping>,
    limit: Option<usize>,
    at: Timestamp,
) -> Result<Imported, IngestError> {
    let document = Document::open(text)?;
    let reader = Reader::choose(format, &document, mapping)?;
    let mut reading = Reading::new(reader, task, at);
    let mut taken = 0;
    for (line, row) in document.rows() {
        if limit.is_some_and(|limit| taken >= limit) {
            break;
        }
        match row.and_then(|row| reading.take(line, row)) {
            Ok(()) => taken += 1,
            Err(why) => reading.refuse(line, why),
        }
    }
    Ok(reading.finish())
}

#[cfg(test)]
mod tests;
