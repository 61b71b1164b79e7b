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
        let language = Language::of(&id);
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
        let tool = |function: &Value| match language {
            Some(language) => language.tool(function),
            None => tool(function),
        };
        let tools = functions.into_iter().flatten().map(tool).collect();
        Ok(Case { id, prompt, expected, tools, ..Case::default() })
    }
}

fn id(row: &Row) -> Result<String, String> {
    let id = row.get("id").and_then(Value::as_str);
    id.map(str::to_owned).ok_or_else(|| "there is no `id`".to_owned())
}

/// Categories whose arguments are source text. Tools say so in `x-language`, and of each parameter
/// what it is there in `x-type` and `x-items`, which the scorers read.
#[derive(Debug, Clone, Copy)]
enum Language {
    Java,
    JavaScript,
}

impl Language {
    fn of(id: &str) -> Option<Self> {
        match id {
            id if id.starts_with("simple_java_") => Some(Self::Java),
            id if id.starts_with("simple_javascript_") => Some(Self::JavaScript),
            _ => None,
        }
    }

    /// The function as the leaderboard shows it to models: every parameter a string, with its type
    /// in words.
    fn tool(self, function: &Value) -> Value {
        let (word, name, syntax) = match self {
            Self::Java => ("java", "Java", "Java 8 SDK syntax"),
            Self::JavaScript => ("javascript", "JavaScript", "JavaScript syntax"),
        };
        let mut function = function.clone();
        let hint = format!(" Note that the provided function is in {syntax}.");
        append(&mut function["description"], &hint);
        function["x-language"] = word.into();
        function["parameters"]["type"] = "object".into();
        let properties = function["parameters"]["properties"].as_object_mut();
        for (_, parameter) in properties.into_iter().flatten() {
            as_source_text(parameter, name);
        }
        json!({"type": "function", "function": function})
    }
}

fn as_source_text(parameter: &mut Value, language: &str) {
    let Some(fields) = parameter.as_object_mut() else { return };
    let kind = fields.get("type").and_then(Value::as_str).unwrap_or("any").to_owned();
    let mut hint = if kind == "any" {
        format!(" This parameter can be of any type of {language} object in string representation.")
    } else {
        format!(" This is {language} {kind} type parameter in string representation.")
    };
    let items = fields.shift_remove("items");
    if let Some(items) = items.as_ref().and_then(|items| items["type"].as_str()) {
        hint.push_str(" The list elements are of type ");
        hint.push_str(items);
        hint.push_str("; they are not in string representation.");
        fields.insert("x-items".to_owned(), items.into());
    }
    if let Some(schema) = fields.shift_remove("properties") {
        hint.push_str(" The dictionary entries have the following schema; they are not in string representation. ");
        hint.push_str(&schema.to_string());
    }
    append(fields.entry("description").or_insert(Value::Null), &hint);
    fields.insert("x-type".to_owned(), kind.into());
    fields.insert("type".to_owned(), "string".into());
}

fn append(description: &mut Value, hint: &str) {
    let whole = description.as_str().unwrap_or_default().to_owned() + hint;
    *description = whole.trim_start().into();
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
