//! JSON compared by meaning: the order of keys and the spelling of numbers do not matter.

use serde_json::{Number, Value};

/// Reads one JSON value; whitespace around it is allowed, anything else is an error.
pub fn parse(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(text)
}

/// Whether both texts are JSON of the same meaning.
pub fn texts_equal(expected: &str, output: &str) -> bool {
    match (parse(expected), parse(output)) {
        (Ok(expected), Ok(output)) => equal(&expected, &output),
        _ => false,
    }
}

/// Whether both objects hold the same value at one top-level key. A key that neither has agrees.
pub fn texts_agree_at(key: &str, expected: &str, output: &str) -> bool {
    let (Ok(Value::Object(expected)), Ok(Value::Object(output))) = (parse(expected), parse(output))
    else {
        return false;
    };
    match (expected.get(key), output.get(key)) {
        (Some(expected), Some(output)) => equal(expected, output),
        (None, None) => true,
        _ => false,
    }
}

/// The same value: key order is free, and numbers are equal by value.
pub fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => number_text(a) == number_text(b),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

/// One spelling per numeric value: `1`, `1.0` and `1e0` are the same number.
pub fn number_text(number: &Number) -> String {
    match number.as_f64() {
        // An integer that was written as one keeps all its digits; as a float it might lose some.
        Some(value) if number.is_f64() => {
            // Adding zero turns a negative zero into zero.
            if value.fract() == 0.0 { format!("{:.0}", value + 0.0) } else { format!("{value:?}") }
        }
        _ => number.to_string(),
    }
}
