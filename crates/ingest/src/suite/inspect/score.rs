//! The scores of a log as numbers.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

/// What one scorer gave one sample.
#[derive(Debug, Deserialize)]
pub(super) struct Given {
    /// Null where it could not tell.
    #[serde(default)]
    value: Value,
}

/// Every score by its name; of a scorer that gives several values, `scorer.value`. What was not
/// scored has none.
pub(super) fn all(given: &BTreeMap<String, Given>) -> Result<BTreeMap<String, f64>, String> {
    let mut scores = BTreeMap::new();
    for (scorer, Given { value }) in given {
        match value {
            Value::Object(values) => several(scorer, values, &mut scores)?,
            value => {
                scores.extend(number(scorer, value)?.map(|score| (scorer.clone(), score)));
            }
        }
    }
    Ok(scores)
}

fn several(
    scorer: &str,
    values: &Map<String, Value>,
    scores: &mut BTreeMap<String, f64>,
) -> Result<(), String> {
    for (key, value) in values {
        let name = format!("{scorer}.{key}");
        scores.extend(number(&name, value)?.map(|score| (name, score)));
    }
    Ok(())
}

/// As Inspect's metrics read values: correct, partial, incorrect, no answer; yes and no; numbers.
fn number(name: &str, value: &Value) -> Result<Option<f64>, String> {
    let score = match value {
        Value::Null => return Ok(None),
        Value::Bool(yes) => Some(f64::from(u8::from(*yes))),
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "C" => Some(1.0),
            "P" => Some(0.5),
            "I" | "N" => Some(0.0),
            other => match other.to_lowercase().as_str() {
                "yes" | "true" => Some(1.0),
                "no" | "false" => Some(0.0),
                "nan" => return Ok(None),
                other => other.parse().ok(),
            },
        },
        Value::Array(_) | Value::Object(_) => None,
    };
    match score {
        Some(score) if (0.0..=1.0).contains(&score) => Ok(Some(score)),
        Some(score) => {
            Err(format!("the score `{name}` is {score}, and scores here are from 0 to 1"))
        }
        None => Err(format!("the score `{name}` is {value}, which is no number")),
    }
}
