//! Nested rows into flat columns with repetition and definition levels, as in Melnik et al., *Dremel*
//! (2010): a repetition level says at which list a value continues, a definition level how many of
//! the optional and repeated parents of a value are there.

use parquet::data_type::ByteArray;
use serde_json::Value;

use crate::{
    ExportError,
    shape::{Member, Shape},
};

/// One leaf of the schema, in the order of the schema.
#[derive(Debug)]
pub(crate) struct Column {
    /// For errors.
    path: String,
    pub(crate) values: Values,
    pub(crate) definitions: Vec<i16>,
    pub(crate) repetitions: Vec<i16>,
}

#[derive(Debug)]
pub(crate) enum Values {
    Bytes(Vec<ByteArray>, Spelling),
    Integers(Vec<i64>),
    Numbers(Vec<f64>),
    Truths(Vec<bool>),
}

/// How a byte array stands for a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    Text,
    Json,
}

/// The levels of a place in a row.
#[derive(Debug, Clone, Copy, Default)]
struct Levels {
    repetition: i16,
    /// How many lists lie around it.
    depth: i16,
    definition: i16,
}

/// Empty columns for all leaves.
pub(crate) fn columns(shape: &Shape) -> Vec<Column> {
    let mut columns = Vec::new();
    lay_out(shape, "", &mut columns);
    columns
}

fn lay_out(shape: &Shape, path: &str, columns: &mut Vec<Column>) {
    let values = match shape {
        Shape::List(each) => return lay_out(each, path, columns),
        Shape::Record(members) => {
            for member in members {
                let dot = if path.is_empty() { "" } else { "." };
                lay_out(&member.shape, &format!("{path}{dot}{}", member.name), columns);
            }
            return;
        }
        Shape::Text => Values::Bytes(Vec::new(), Spelling::Text),
        Shape::Json => Values::Bytes(Vec::new(), Spelling::Json),
        Shape::Integer => Values::Integers(Vec::new()),
        Shape::Number => Values::Numbers(Vec::new()),
        Shape::Truth => Values::Truths(Vec::new()),
    };
    let (definitions, repetitions) = (Vec::new(), Vec::new());
    columns.push(Column { path: path.to_owned(), values, definitions, repetitions });
}

/// Appends one row.
pub(crate) fn shred(shape: &Shape, row: &Value, into: &mut [Column]) -> Result<(), ExportError> {
    visit(shape, Some(row), Levels::default(), into).map(drop)
}

/// Appends a value, or that it is missing, to the columns of its leaves, which are the first ones
/// given. Returns how many these are.
fn visit(
    shape: &Shape,
    value: Option<&Value>,
    at: Levels,
    columns: &mut [Column],
) -> Result<usize, ExportError> {
    match (shape, value) {
        (Shape::List(each), Some(Value::Array(items))) if !items.is_empty() => {
            let depth = at.depth + 1;
            let mut leaves = 0;
            for (nth, item) in items.iter().enumerate() {
                let repetition = if nth == 0 { at.repetition } else { depth };
                let at = Levels { repetition, depth, definition: at.definition + 1 };
                leaves = visit(each, Some(item), at, columns)?;
            }
            Ok(leaves)
        }
        (Shape::List(each), Some(Value::Array(_)) | None) => visit(each, None, at, columns),
        (Shape::List(_), Some(found)) => Err(wrong(&columns[0], found)),
        (Shape::Record(members), record) => {
            if let Some(found) = record.filter(|record| !record.is_object()) {
                return Err(wrong(&columns[0], found));
            }
            let mut leaves = 0;
            for member in members {
                leaves += visit_member(member, record, at, &mut columns[leaves..])?;
            }
            Ok(leaves)
        }
        (_, value) => {
            let column = &mut columns[0];
            column.definitions.push(at.definition);
            column.repetitions.push(at.repetition);
            value.map_or(Ok(()), |value| column.push(value))?;
            Ok(1)
        }
    }
}

fn visit_member(
    member: &Member,
    record: Option<&Value>,
    at: Levels,
    columns: &mut [Column],
) -> Result<usize, ExportError> {
    let part = record.and_then(|record| record.get(member.name));
    let part = part.filter(|part| !(member.is_optional() && part.is_null()));
    if let (Some(record), None, false) = (record, part, member.is_optional()) {
        return Err(wrong(&columns[0], record));
    }
    let is_there = member.is_optional() && part.is_some();
    let definition = at.definition + i16::from(is_there);
    visit(&member.shape, part, Levels { definition, ..at }, columns)
}

impl Column {
    fn push(&mut self, value: &Value) -> Result<(), ExportError> {
        match &mut self.values {
            Values::Bytes(bytes, Spelling::Json) => {
                bytes.push(value.to_string().into_bytes().into());
                return Ok(());
            }
            Values::Bytes(bytes, Spelling::Text) => {
                if let Some(text) = value.as_str() {
                    bytes.push(text.into());
                    return Ok(());
                }
            }
            Values::Integers(integers) => {
                if let Some(integer) = value.as_i64() {
                    integers.push(integer);
                    return Ok(());
                }
            }
            Values::Numbers(numbers) => {
                if let Some(number) = value.as_f64() {
                    numbers.push(number);
                    return Ok(());
                }
            }
            Values::Truths(truths) => {
                if let Some(truth) = value.as_bool() {
                    truths.push(truth);
                    return Ok(());
                }
            }
        }
        Err(wrong(self, value))
    }

    pub(crate) fn clear(&mut self) {
        self.definitions.clear();
        self.repetitions.clear();
        match &mut self.values {
            Values::Bytes(bytes, _) => bytes.clear(),
            Values::Integers(integers) => integers.clear(),
            Values::Numbers(numbers) => numbers.clear(),
            Values::Truths(truths) => truths.clear(),
        }
    }
}

/// Says of which kind a value is, and not what it says.
fn wrong(column: &Column, value: &Value) -> ExportError {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a record without it",
    };
    ExportError::Column { column: column.path.clone(), found: found.to_owned() }
}
