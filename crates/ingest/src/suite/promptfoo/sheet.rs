//! Tests in a file of their own: rows of a spreadsheet, or one JSON object a line.
//!
//! A column `__expected…` holds an assert as `type(threshold):value`; a value alone must be
//! equalled. Other columns with two underscores say something about the test, and all others are
//! variables.

use serde_json::Value;

use super::{Assert, Test};
use crate::{IngestError, rows::Document, suite::csv};

/// What `similar` must reach in a spreadsheet that does not say it, and everything else.
const SIMILAR: f64 = 0.8;
const OTHERS: f64 = 0.75;

pub(super) fn tests(text: &str) -> Result<Vec<Test>, IngestError> {
    let start = text.trim_start_matches('\u{feff}').trim_start();
    if start.starts_with(['{', '[']) { of_json(text) } else { of_csv(text) }
}

fn of_json(text: &str) -> Result<Vec<Test>, IngestError> {
    let document = Document::open(text)?;
    let read = |(line, row): (usize, Result<crate::Row, String>)| {
        let test = row.and_then(|row| {
            serde_json::from_value(Value::Object(row)).map_err(|why| why.to_string())
        });
        test.map_err(|why| IngestError::Case { line, why })
    };
    document.rows().map(read).collect()
}

fn of_csv(text: &str) -> Result<Vec<Test>, IngestError> {
    let records = csv::records(text).map_err(|why| IngestError::Case { line: 1, why })?;
    let mut records = records.into_iter();
    let columns = records.next().ok_or(IngestError::Empty)?;
    let read = |(line, record): (usize, Vec<String>)| {
        row(&columns, &record).map_err(|why| IngestError::Case { line, why })
    };
    (1..).zip(records).map(read).collect()
}

fn row(columns: &[String], record: &[String]) -> Result<Test, String> {
    if record.len() > columns.len() {
        let (fields, names) = (record.len(), columns.len());
        return Err(format!("it has {fields} fields under {names} columns"));
    }
    let mut test = Test::default();
    for (column, value) in columns.iter().zip(record) {
        let (column, empty) = (column.trim(), value.trim().is_empty());
        match column.strip_prefix("__") {
            None => {
                test.vars.insert(column.to_owned(), Value::String(value.clone()));
            }
            Some(_) if empty => {}
            Some(own) if own.starts_with("expected") => test.assert.push(assert(value)?),
            Some("description") => test.description = Some(value.clone()),
            // A name for a report, and notes: neither changes what is asked or judged.
            Some("metric") => {}
            Some(own) if own.starts_with("metadata:") => {}
            Some("threshold") => {
                let least = value.trim().parse();
                test.threshold = Some(least.map_err(|_| "`__threshold` is no number")?);
            }
            Some(own) => {
                return Err(format!("the column `__{own}` has no counterpart here; take it out"));
            }
        }
    }
    Ok(test)
}

fn assert(text: &str) -> Result<Assert, String> {
    let plain = |kind: &str, value: &str| Assert {
        kind: kind.to_owned(),
        value: Some(Value::String(value.trim().to_owned())),
        threshold: None,
        weight: None,
        transform: None,
    };
    for script in ["javascript:", "fn:", "eval:", "python:", "file://"] {
        if text.starts_with(script) {
            return Err(format!("`__expected` is a script or a file (`{script}`); take it out"));
        }
    }
    if let Some(rubric) = text.strip_prefix("grade:").or(text.strip_prefix("llm-rubric:")) {
        return Ok(plain("llm-rubric", rubric));
    }
    let Some((kind, threshold, value)) = typed(text) else {
        return Ok(Assert { value: Some(Value::String(text.to_owned())), ..plain("equals", "") });
    };
    let bare = kind.strip_prefix("not-").unwrap_or(kind);
    let least = threshold.or(match bare {
        "similar" => Some(SIMILAR),
        "latency" | "cost" => Some(OTHERS),
        _ => None,
    });
    let value = match bare {
        "contains-all" | "contains-any" => {
            let all = value.unwrap_or_default().split(',');
            Some(all.map(|one| Value::String(one.trim().to_owned())).collect())
        }
        _ => value.map(|value| Value::String(value.to_owned())),
    };
    Ok(Assert { value, threshold: least, ..plain(kind, "") })
}

/// `not-contains-any(0.5):value` in its three parts, if it begins with the name of an assert.
fn typed(text: &str) -> Option<(&str, Option<f64>, Option<&str>)> {
    const NAMES: [&str; 16] = [
        "contains-all",
        "contains-any",
        "contains",
        "cost",
        "equals",
        "factuality",
        "icontains",
        "is-json",
        "is-refusal",
        "latency",
        "levenshtein",
        "llm-rubric",
        "model-graded-closedqa",
        "regex",
        "similar",
        "starts-with",
    ];
    let bare = text.strip_prefix("not-").unwrap_or(text);
    let end = |name: &str| {
        let rest = bare.strip_prefix(name)?;
        (rest.is_empty() || rest.starts_with([':', '('])).then(|| text.len() - rest.len())
    };
    let end = NAMES.iter().find_map(|name| end(name))?;
    let (kind, rest) = text.split_at(end);
    let (threshold, rest) = match rest.strip_prefix('(') {
        Some(rest) => {
            let (number, rest) = rest.split_once(')')?;
            (Some(number.parse().ok()?), rest)
        }
        None => (None, rest),
    };
    match (rest, rest.strip_prefix(':')) {
        ("", _) => Some((kind, threshold, None)),
        (_, value @ Some(_)) => Some((kind, threshold, value)),
        _ => None,
    }
}
