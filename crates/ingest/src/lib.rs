//! Bulk formats into steps, outcomes and suites: bytes in, values out.
//!
//! Guarantees: a row of the same meaning gets the same ids on every import, so importing a file
//! twice adds nothing; a broken row is reported with its line and never stops the others; a row
//! whose meaning does not fit our schema (tools, a reply of weight 0) is refused, not simplified.
//!
//! Never: does IO, reads a clock, or guesses what a column means: rows need a [`RowMapping`].

mod example;
mod format;
mod openai;
mod record;
mod rows;
mod suite;
pub mod telemetry;
mod trl;

use serde_json::{Map, Value};
use understudy_ident::{TaskName, Timestamp};
use understudy_manifest::SuiteError;
use understudy_trajectory::{Outcome, Step};

pub use format::Format;
pub use rows::RowMapping;
pub use suite::suite;

use crate::{
    example::Reader,
    record::{Record, record_example, record_understudy},
    rows::Document,
};

/// One line, as it was parsed.
type Row = Map<String, Value>;

/// What an import found, in the order of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Imported {
    /// Two equal rows give two equal steps: a store that keeps one per id keeps one.
    pub steps: Vec<Step>,
    pub outcomes: Vec<Outcome>,
    pub rejected: Vec<Rejected>,
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
        "cannot read format `{0}`: use auto, openai, trl, rows or understudy (otlp, langsmith and \
         atif are not read by this version)"
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
    #[error(transparent)]
    Suite(#[from] SuiteError),
}

/// Reads every row into a trajectory of one step and what is known about its reply, or, for
/// [`Format::Understudy`], into the steps and outcomes that were written out.
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
    let mut imported = Imported::default();
    let mut taken = 0;
    for (line, row) in document.rows() {
        if limit.is_some_and(|limit| taken >= limit) {
            break;
        }
        let record = row.and_then(|row| match &reader {
            Reader::Understudy => record_understudy(row, task),
            Reader::Examples(examples) => {
                examples.read(&row).map(|example| record_example(example, task, at))
            }
        });
        match record {
            Ok(Record { step, outcome }) => {
                taken += 1;
                imported.steps.extend(step);
                imported.outcomes.extend(outcome);
            }
            Err(why) => imported.rejected.push(Rejected { line, why }),
        }
    }
    Ok(imported)
}

#[cfg(test)]
mod tests;
