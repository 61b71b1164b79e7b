//! The leaderboard's own verdict, quirks and all.
//!
//! Kept on purpose: a value of another type than declared passes as a "variable" if the first
//! allowed value is of its type; element types are checked one level deep; allowed omission of a
//! list allows an empty one; and values are equal as in Python, where `True == 1 == 1.0`.

use serde_json::{Map, Value};
use understudy_reward::calls::Call;

use super::{
    Truth, may_be_omitted, standardised,
    tool::{Declared, Kind},
};

pub(super) fn check(truth: &Truth, call: &Call) -> Result<(), String> {
    truth.check_shape(call)?;
    for (parameter, value) in &call.arguments {
        // `check_shape` refused what is not declared or not expected.
        let (Some(declared), Some(allowed)) =
            (truth.tool.parameters.get(parameter), truth.allowed(parameter))
        else {
            continue;
        };
        if !is_allowed(declared, value, allowed) {
            return Err(format!("`{parameter}` of `{}` is {value}", truth.tool.name));
        }
    }
    Ok(())
}

fn is_allowed(declared: &Declared, value: &Value, allowed: &[Value]) -> bool {
    let Some(kind) = declared.kind else { return contains(allowed, value) };
    // An integer will do for a float, but not in a language that tells them apart.
    let converted = match value {
        Value::Number(number)
            if kind == Kind::Float && !number.is_f64() && declared.source.is_none() =>
        {
            number.as_f64().map_or_else(|| value.clone(), Value::from)
        }
        _ => value.clone(),
    };
    let value = &converted;
    let nested = if kind == Kind::List { declared.item_kind() } else { None };
    let Some(is_variable) = typed(value, allowed, kind, nested) else { return false };
    match (kind, nested, value) {
        _ if is_variable => contains(allowed, value),
        (Kind::Dict, _, Value::Object(fields)) => dict(fields, allowed),
        (Kind::List, Some(Kind::Dict), Value::Array(items)) => list_of_dicts(items, allowed),
        (Kind::Text, _, Value::String(text)) => text_in(text, allowed),
        (Kind::List, _, Value::Array(items)) => list(items, allowed),
        _ => contains(allowed, value),
    }
}

/// None if the type is wrong, else whether the value counts as a variable.
fn typed(value: &Value, allowed: &[Value], kind: Kind, nested: Option<Kind>) -> Option<bool> {
    let first = allowed.iter().find(|value| *value != "").map(Kind::of);
    let is_variable = first.is_some_and(|first| first != kind);
    if Kind::of(value) != kind {
        return (first == Some(Kind::of(value))).then_some(true);
    }
    let (Some(nested), Value::Array(items)) = (nested, value) else { return Some(is_variable) };
    let fits = |allowed: &Value| match allowed {
        Value::Array(allowed) => {
            items.iter().all(|item| typed(item, allowed, nested, None).is_some())
        }
        _ => true,
    };
    allowed.iter().any(fits).then_some(is_variable)
}

fn text_in(text: &str, allowed: &[Value]) -> bool {
    let text = standardised(text);
    allowed.iter().filter_map(Value::as_str).any(|allowed| standardised(allowed) == text)
}

fn list(items: &[Value], allowed: &[Value]) -> bool {
    let items: Vec<Value> = items.iter().map(standard).collect();
    let same = |others: &[Value]| {
        others.len() == items.len() && items.iter().zip(others).all(|(a, b)| python_equal(a, b))
    };
    allowed.iter().any(|allowed| match allowed {
        Value::Array(others) => same(&others.iter().map(standard).collect::<Vec<_>>()),
        // Python walks over the letters of a text as over the elements of a list.
        Value::String(text) => {
            let letters = text.chars().map(|c| Value::from(standardised(&c.to_string())));
            same(&letters.collect::<Vec<_>>())
        }
        _ => false,
    })
}

fn list_of_dicts(items: &[Value], allowed: &[Value]) -> bool {
    allowed.iter().any(|allowed| {
        let others: &[Value] = match allowed {
            Value::Array(others) => others,
            Value::String(text) if text.is_empty() => &[],
            _ => return false,
        };
        let same = |(item, other): (&Value, &Value)| {
            item.as_object().is_some_and(|fields| dict(fields, std::slice::from_ref(other)))
        };
        items.len() == others.len() && items.iter().zip(others).all(same)
    })
}

fn dict(fields: &Map<String, Value>, allowed: &[Value]) -> bool {
    allowed.iter().filter_map(Value::as_object).any(|wanted| {
        let among = |key: &str| wanted.get(key).and_then(Value::as_array);
        let fits = |(key, value): (&String, &Value)| {
            let value = standard(value);
            among(key).is_some_and(|allowed| {
                allowed.iter().any(|allowed| python_equal(&standard(allowed), &value))
            })
        };
        let missing = |key: &String| {
            !fields.contains_key(key) && !among(key).is_some_and(|allowed| may_be_omitted(allowed))
        };
        fields.iter().all(fits) && !wanted.keys().any(missing)
    })
}

fn contains(allowed: &[Value], value: &Value) -> bool {
    allowed.iter().any(|allowed| python_equal(allowed, value))
}

fn standard(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::from(standardised(text)),
        other => other.clone(),
    }
}

fn python_equal(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| match value {
        Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
        Value::Number(number) => number.as_f64(),
        _ => None,
    };
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| python_equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let same = |(key, a): (&String, &Value)| b.get(key).is_some_and(|b| python_equal(a, b));
            a.len() == b.len() && a.iter().all(same)
        }
        _ => match (number(a), number(b)) {
            (Some(a), Some(b)) => a == b,
            _ => a == b,
        },
    }
}
