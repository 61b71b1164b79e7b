//! The rows of a text, and rows whose fields a mapping explains.

use std::collections::BTreeSet;

use serde_json::Value;
use understudy_message::Message;
use understudy_trajectory::Signal;

use crate::{IngestError, Row, example::Example};

/// A text of JSON objects.
#[derive(Debug)]
pub(crate) enum Document<'a> {
    Lines(&'a str),
    Array(Vec<Value>),
}

impl<'a> Document<'a> {
    pub(crate) fn open(text: &'a str) -> Result<Self, IngestError> {
        // Editors on Windows leave a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if !text.trim_start().starts_with('[') {
            return Ok(one_object(text).map_or(Self::Lines(text), |one| Self::Array(vec![one])));
        }
        let items =
            serde_json::from_str(text).map_err(|why| IngestError::Array(why.to_string()))?;
        Ok(Self::Array(items))
    }

    /// Each row, or why it is none, with its line or position counted from 1. Blank lines are
    /// passed over.
    pub(crate) fn rows(&self) -> Box<dyn Iterator<Item = (usize, Result<Row, String>)> + '_> {
        match self {
            Self::Lines(text) => {
                let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
                Box::new(lines.map(|(at, line)| (at, parse(line))))
            }
            Self::Array(items) => {
                Box::new((1..).zip(items).map(|(at, item)| (at, object(item.clone()))))
            }
        }
    }
}

/// A text that is one object over several lines, as trajectories are written for people.
fn one_object(text: &str) -> Option<Value> {
    let first = text.lines().find(|line| !line.trim().is_empty())?;
    if serde_json::from_str::<Value>(first).is_ok() {
        return None;
    }
    serde_json::from_str(text).ok()
}

fn parse(line: &str) -> Result<Row, String> {
    object(serde_json::from_str(line).map_err(|why| format!("not JSON: {why}"))?)
}

fn object(value: Value) -> Result<Row, String> {
    match value {
        Value::Object(row) => Ok(row),
        _ => Err("not a JSON object".to_owned()),
    }
}

/// Which top-level fields of a row are the input and the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowMapping {
    /// Becomes the user message.
    pub input: String,
    /// One field of text becomes the reply as it is; anything else becomes a compact JSON object
    /// of these fields, in this order.
    pub output: Vec<String>,
    /// The text of a system message before every input, not the name of a field.
    pub system: Option<String>,
}

impl RowMapping {
    /// That every named field exists in some row, so that a misspelt name is an error and not a
    /// thousand rejected lines.
    pub(crate) fn check(&self, document: &Document<'_>) -> Result<(), IngestError> {
        if self.output.is_empty() {
            return Err(IngestError::NoOutput);
        }
        let mut missing: Vec<&str> = self.fields().collect();
        let mut seen = BTreeSet::new();
        for row in document.rows().filter_map(|(_, row)| row.ok()) {
            missing.retain(|field| !row.contains_key(*field));
            if missing.is_empty() {
                return Ok(());
            }
            seen.extend(row.into_iter().map(|(field, _)| format!("`{field}`")));
        }
        let fields = seen.into_iter().collect::<Vec<_>>().join(", ");
        match missing.first() {
            Some(field) => Err(IngestError::NoSuchField { field: (*field).to_owned(), fields }),
            None => Ok(()),
        }
    }

    pub(crate) fn read(&self, row: &Row) -> Result<Example, String> {
        let value = |field: &str| match row.get(field) {
            Some(value) => Ok(value.clone()),
            None => Err(format!("there is no field `{field}`")),
        };
        let input = match value(&self.input)? {
            Value::Null => return Err(format!("the field `{}` is null", self.input)),
            Value::String(text) => text,
            other => other.to_string(),
        };
        if input.trim().is_empty() {
            return Err(format!("the field `{}` is empty", self.input));
        }
        let named = self.output.iter().map(|field| Ok((field.clone(), value(field)?)));
        let output = named.collect::<Result<Row, String>>()?;
        let reply = match (output.len(), output.values().next()) {
            (1, Some(Value::String(text))) => text.clone(),
            _ => Value::Object(output).to_string(),
        };
        let system = self.system.iter().map(Message::system);
        let prompt = system.chain([Message::user(input)]).collect();
        let (reply, tools) = (Message::assistant(reply), Vec::new());
        Ok(Example { prompt, reply, tools, signal: Signal::Accept })
    }

    fn fields(&self) -> impl Iterator<Item = &str> {
        self.output.iter().chain([&self.input]).map(String::as_str)
    }
}
