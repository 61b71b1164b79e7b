//! The Berkeley Function-Calling Leaderboard: a question with its functions in one file, the possible
//! answers in another, joined by `id`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use understudy_manifest::Case;

use super::{each, messages};
use crate::{IngestError, Row, rows::Document};

/// The possible answers, by the id of their question.
pub(super) struct Truths(BTreeMap<String, Value>);

impl Truths {
    pub(super) fn read(document: &Document<'_>) -> Result<Self, IngestError> {
        let read = |_, row: &Row| match row.get("ground_truth") {
            Some(truth @ Value::Array(_)) => Ok((id(row)?, truth.clone())),
            _ => Err("`ground_truth` is no list of calls".to_owned()),
        };
        Ok(Self(each(document, read)?.into_iter().collect()))
    }

    pub(super) fn case(&self, row: &Row) -> Result<Case, String> {
        let id = id(row)?;
        let expected = match self.0.get(&id) {
            Some(truth) => truth.to_string(),
            // Where no function is of use, the answer is to call none.
            None if id.contains("irrelevance") => "[]".to_owned(),
            None => return Err(format!("`{id}` has no possible answer")),
        };
        let turns = row.get("question").and_then(Value::as_array).map(Vec::as_slice);
        let prompt = match turns {
            Some([turn]) => messages("question", turn)?,
            Some(turns) => {
                return Err(format!("`{id}` has {} turns, and only one can be asked", turns.len()));
            }
            None => return Err(format!("`{id}` has no `question`")),
        };
        let functions = row.get("function").and_then(Value::as_array);
        let tools = functions.into_iter().flatten().map(tool).collect();
        Ok(Case { id, prompt, expected, tools, ..Case::default() })
    }
}

fn id(row: &Row) -> Result<String, String> {
    let id = row.get("id").and_then(Value::as_str);
    id.map(str::to_owned).ok_or_else(|| "there is no `id`".to_owned())
}

fn tool(function: &Value) -> Value {
    json!({"type": "function", "function": translated(function)})
}

/// Python's names of types into those of JSON Schema, at every depth.
fn translated(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| match value.as_str() {
                Some(word) if key == "type" => (key.clone(), type_name(word).into()),
                _ => (key.clone(), translated(value)),
            };
            Value::Object(fields.iter().map(field).collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(translated).collect(),
        other => other.clone(),
    }
}

fn type_name(word: &str) -> &str {
    match word {
        "dict" => "object",
        "float" => "number",
        "tuple" | "list" => "array",
        "any" => "string",
        other => other,
    }
}
