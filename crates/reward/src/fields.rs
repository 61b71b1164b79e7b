//! Micro F1 over the fields of a JSON value.
//!
//! A value is taken apart into (path, leaf) pairs. Lists are multisets: the place of an element is
//! no part of its path, and an element counts as often as it occurs. An empty object or list has no
//! leaves, so leaving it out costs nothing. Leaves are normalised: numbers by value, and each run of
//! whitespace in a text is one space. Case matters.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::json;

/// How the pairs of an answer relate to those expected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FieldCounts {
    pub true_positives: u32,
    pub false_positives: u32,
    pub false_negatives: u32,
}

impl FieldCounts {
    /// `F1 = 2·tp / (2·tp + fp + fn)`, as numerator and denominator.
    pub fn f1_parts(self) -> (f64, f64) {
        let hits = 2.0 * f64::from(self.true_positives);
        (hits, hits + f64::from(self.false_positives) + f64::from(self.false_negatives))
    }

    /// Where nothing was possible, nothing was missed.
    pub fn f1(self) -> f64 {
        let (hits, possible) = self.f1_parts();
        if possible == 0.0 { 1.0 } else { hits / possible }
    }
}

/// Counts an output against what was expected. No output, or one that is not JSON, has no pairs:
/// everything expected is missing, and something is if nothing was expected.
pub fn count(expected: &str, output: Option<&str>) -> FieldCounts {
    let expected = json::parse(expected).map(|value| pairs(&value)).unwrap_or_default();
    let total = |pairs: &Pairs| pairs.values().sum::<u32>();
    let Some(output) = output.and_then(|output| json::parse(output).ok()) else {
        return FieldCounts { false_negatives: total(&expected).max(1), ..FieldCounts::default() };
    };
    let output = pairs(&output);
    let shared = |(pair, count): (&(String, String), &u32)| {
        output.get(pair).map_or(0, |found| *count.min(found))
    };
    let true_positives = expected.iter().map(shared).sum();
    FieldCounts {
        true_positives,
        false_positives: total(&output) - true_positives,
        false_negatives: total(&expected) - true_positives,
    }
}

/// How often each (path, leaf) occurs.
type Pairs = BTreeMap<(String, String), u32>;

fn pairs(value: &Value) -> Pairs {
    let mut pairs = Pairs::new();
    collect(value, "", &mut pairs);
    pairs
}

fn collect(value: &Value, path: &str, pairs: &mut Pairs) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                // Escaped as in a JSON pointer, so that a key with a slash is not a path.
                let key = key.replace('~', "~0").replace('/', "~1");
                collect(value, &format!("{path}/{key}"), pairs);
            }
        }
        Value::Array(items) => {
            // No escaped key is a bare tilde.
            let path = format!("{path}/~");
            for item in items {
                collect(item, &path, pairs);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            *pairs.entry((path.to_owned(), leaf(value))).or_default() += 1;
        }
    }
}

fn leaf(value: &Value) -> String {
    match value {
        // Quoted, so that the text "1" is not the number 1.
        Value::String(text) => {
            format!("{:?}", text.split_whitespace().collect::<Vec<_>>().join(" "))
        }
        Value::Number(number) => json::number_text(number),
        other => other.to_string(),
    }
}
