//! The smallest thing a JSON schema accepts.

use std::cell::Cell;

use serde_json::{Map, Value, json};

use crate::InferenceError;

/// Schemas that go deeper than this describe no value that ends.
const DEEPEST: usize = 32;
/// Values and characters of the largest instance that is built: more than any reply holds.
const LARGEST: usize = 1 << 16;

pub(super) fn instance(schema: &Value) -> Result<Value, InferenceError> {
    Reader { root: schema, room: Cell::new(LARGEST) }.value(schema, DEEPEST)
}

struct Reader<'a> {
    root: &'a Value,
    /// How much the instance may still grow.
    room: Cell<usize>,
}

impl Reader<'_> {
    fn value(&self, schema: &Value, depth: usize) -> Result<Value, InferenceError> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(unsupported("schemas without an end"));
        };
        self.take(1)?;
        let Value::Object(fields) = schema else {
            return match schema {
                Value::Bool(false) => Err(unsupported("schemas nothing satisfies")),
                _ => Ok(Value::Null),
            };
        };
        for name in ["pattern", "not", "if", "allOf", "format", "multipleOf", "minProperties"] {
            if fields.contains_key(name) {
                return Err(unsupported("this keyword of JSON schema"));
            }
        }
        if let Some(fixed) = fields.get("const") {
            return Ok(fixed.clone());
        }
        if let Some(Value::Array(values)) = fields.get("enum") {
            return values.first().cloned().ok_or_else(|| unsupported("an empty enum"));
        }
        if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
            let path = reference.strip_prefix('#');
            let target = path.and_then(|path| self.root.pointer(path));
            return self.value(target.ok_or_else(|| unsupported("this $ref"))?, depth);
        }
        for name in ["anyOf", "oneOf"] {
            if let Some(Value::Array(schemas)) = fields.get(name) {
                let first = schemas.first().ok_or_else(|| unsupported("no alternatives"))?;
                return self.value(first, depth);
            }
        }
        self.typed(fields, depth)
    }

    fn typed(&self, fields: &Map<String, Value>, depth: usize) -> Result<Value, InferenceError> {
        let count = |name: &str| fields.get(name).and_then(Value::as_u64).unwrap_or(0) as usize;
        let kind = match fields.get("type") {
            Some(Value::Array(kinds)) => kinds.first(),
            other => other,
        };
        match kind.and_then(Value::as_str) {
            Some("object") => self.object(fields, depth),
            Some("array") => {
                let item = fields.get("items").unwrap_or(&Value::Null);
                let items = (0..count("minItems")).map(|_| self.value(item, depth));
                items.collect::<Result<Vec<_>, _>>().map(Value::Array)
            }
            Some("string") => {
                let length = count("minLength");
                self.take(length)?;
                Ok(json!("x".repeat(length)))
            }
            Some("integer" | "number") => Ok(number(fields)),
            Some("boolean") => Ok(json!(false)),
            Some("null") => Ok(Value::Null),
            Some(_) => Err(unsupported("this type of JSON schema")),
            None if fields.contains_key("properties") => self.object(fields, depth),
            None => Ok(Value::Null),
        }
    }

    fn take(&self, size: usize) -> Result<(), InferenceError> {
        let left = self.room.get().checked_sub(size);
        self.room.set(left.ok_or_else(|| unsupported("schemas of values longer than a reply"))?);
        Ok(())
    }

    fn object(&self, fields: &Map<String, Value>, depth: usize) -> Result<Value, InferenceError> {
        let required = fields.get("required").and_then(Value::as_array);
        let mut object = Map::new();
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            let schema = fields.get("properties").and_then(|properties| properties.get(name));
            object.insert(name.to_owned(), self.value(schema.unwrap_or(&Value::Null), depth)?);
        }
        Ok(Value::Object(object))
    }
}

fn number(fields: &Map<String, Value>) -> Value {
    let bound = |name: &str| fields.get(name).and_then(Value::as_f64);
    let least = bound("minimum").or(bound("exclusiveMinimum").map(|least| least + 1.0));
    let most = bound("maximum").or(bound("exclusiveMaximum").map(|most| most - 1.0));
    let value = 0.0_f64.max(least.unwrap_or(f64::MIN)).min(most.unwrap_or(f64::MAX));
    json!(value.ceil() as i64)
}

fn unsupported(what: &'static str) -> InferenceError {
    InferenceError::Unsupported(what)
}
