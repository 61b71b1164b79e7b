//! OpenAI evals: `{"input": messages or text, "ideal": text or texts}`.

use serde_json::Value;
use understudy_manifest::Case;

use super::{Foreign, prompt};
use crate::Row;

/// The expected text is what the class's scorer reads: a pattern, a list, or JSON.
pub(super) fn case(class: Foreign, number: usize, row: &Row) -> Result<Case, String> {
    let ideals = ideals(row)?;
    let expected = match class {
        Foreign::EvalsMatch => {
            let choices: Vec<String> = ideals.iter().map(|ideal| literal(ideal)).collect();
            format!("^(?:{})", choices.join("|"))
        }
        Foreign::EvalsIncludes => Value::from(ideals).to_string(),
        _ => match <[String; 1]>::try_from(ideals) {
            Ok([ideal]) => ideal,
            Err(several) => {
                let count = several.len();
                return Err(format!("it has {count} ideals, and JSON is compared with one only"));
            }
        },
    };
    let prompt = prompt("input", row)?;
    Ok(Case { id: format!("{number:04}"), prompt, expected, ..Case::default() })
}

pub(super) fn ideals(row: &Row) -> Result<Vec<String>, String> {
    let texts = match row.get("ideal") {
        Some(Value::String(text)) => Some(vec![text.clone()]),
        Some(Value::Array(items)) if !items.is_empty() => {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
        }
        _ => None,
    };
    texts.ok_or_else(|| "`ideal` is neither a text nor a list of texts".to_owned())
}

/// The text as a pattern that matches itself.
pub(super) fn literal(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$#&-~".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}
