//! From what a request asks for to a grammar, within limits.

use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};
use understudy_inference::Constraint;

/// Bytes of a constraint. A hundred times the usual, and some compilers' work grows by the square.
const LONGEST: usize = 64 * 1024;

/// How deep brackets may nest: compilers recurse.
const DEEPEST: usize = 100;

const MOST_CHOICES: usize = 4_096;

/// Characters of a compiler's complaint that are passed on.
const LONGEST_COMPLAINT: usize = 600;

pub(super) fn grammar(constraint: &Constraint) -> Result<TopLevelGrammar, String> {
    match constraint {
        Constraint::JsonObject => Ok(schema(json!({"type": "object"}))),
        Constraint::JsonSchema(value) => {
            let text = value.to_string();
            bounded(&text)?;
            if !matches!(value, Value::Object(_) | Value::Bool(_)) {
                return Err("is not a JSON schema: that is an object, true or false".to_owned());
            }
            Ok(schema(value.clone()))
        }
        Constraint::Regex(pattern) => {
            bounded(pattern)?;
            Ok(TopLevelGrammar::from_regex(pattern))
        }
        Constraint::Choice(choices) if choices.is_empty() => {
            Err("must hold at least one choice".to_owned())
        }
        Constraint::Choice(choices) if choices.len() > MOST_CHOICES => {
            Err(format!("holds {} choices; {MOST_CHOICES} are allowed", choices.len()))
        }
        Constraint::Choice(choices) => {
            // A string of Lark's is written as one of JSON's.
            let quoted: Vec<String> =
                choices.iter().map(|choice| Value::from(choice.as_str()).to_string()).collect();
            if quoted.iter().map(String::len).sum::<usize>() > LONGEST {
                return Err(too_long());
            }
            Ok(TopLevelGrammar::from_lark(format!("start: {}", quoted.join(" | "))))
        }
        Constraint::Grammar(lark) => {
            bounded(lark)?;
            Ok(TopLevelGrammar::from_lark(lark.clone()))
        }
    }
}

/// Written as Python's `json.dumps` writes it, unless the schema says otherwise: a model that may
/// put blanks wherever it likes can do so for ever, and what is certain need not be drawn.
fn schema(mut schema: Value) -> TopLevelGrammar {
    if let Value::Object(fields) = &mut schema {
        fields.entry("x-guidance").or_insert_with(
            || json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "}),
        );
    }
    TopLevelGrammar::from_json_schema(schema)
}

fn bounded(text: &str) -> Result<(), String> {
    if text.len() > LONGEST {
        return Err(too_long());
    }
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > DEEPEST {
        return Err(format!("nests its brackets {deepest} deep; {DEEPEST} are allowed"));
    }
    Ok(())
}

fn too_long() -> String {
    format!("is longer than {LONGEST} bytes")
}

/// The first line or two of a complaint.
pub(super) fn shortened(complaint: &str) -> String {
    match complaint.char_indices().nth(LONGEST_COMPLAINT) {
        Some((end, _)) => format!("{}…", &complaint[..end]),
        None => complaint.to_owned(),
    }
}
