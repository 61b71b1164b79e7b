//! One spelling per value: JSON with sorted keys and no spaces.

use serde::Serialize;
use serde_json::Value;
use understudy_ident::Digest;

/// The canonical JSON of a value: object keys sorted by bytes, no whitespace.
///
/// # Panics
/// Never for the types of this crate, whose maps all have text keys.
pub fn canonical_json<T: Serialize + ?Sized>(value: &T) -> String {
    let value = serde_json::to_value(value).expect("formats have text keys and finite numbers");
    sorted(value).to_string()
}

/// The digest of a value's canonical JSON.
pub fn digest_json<T: Serialize + ?Sized>(value: &T) -> Digest {
    Digest::of(canonical_json(value).as_bytes())
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().map(|(key, value)| (key, sorted(value))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}
