//! Our verdict: like the leaderboard's, but all the way down.

use serde_json::{Map, Value};
use understudy_reward::{calls::Call, json};

use super::{
    Truth, may_be_omitted, standardised,
    tool::{Declared, Kind},
};

pub(super) fn check(truth: &Truth, call: &Call) -> Result<(), String> {
    truth.check_shape(call)?;
    for (parameter, value) in &call.arguments {
        let (Some(declared), Some(allowed)) =
            (truth.tool.parameters.get(parameter), truth.allowed(parameter))
        else {
            continue;
        };
        if !allowed.iter().any(|allowed| fits(declared, value, allowed)) {
            return Err(format!("`{parameter}` of `{}` is {value}", truth.tool.name));
        }
    }
    Ok(())
}

/// Whether a value is this allowed one: texts as standardised, numbers by value, lists element by
/// element, objects by [`object`].
fn fits(declared: &Declared, value: &Value, allowed: &Value) -> bool {
    match (value, allowed) {
        (Value::String(value), Value::String(allowed)) => {
            standardised(value) == standardised(allowed)
        }
        (Value::Number(_), Value::Number(_)) => {
            // An integer will do for a float, but 2.0 only where a float was asked for.
            let is_float = Kind::of(value) == Kind::Float && Kind::of(allowed) == Kind::Integer;
            json::equal(value, allowed) && (!is_float || declared.kind != Some(Kind::Integer))
        }
        (Value::Array(value), Value::Array(allowed)) => {
            let unknown = Declared::default();
            let items = declared.items.as_deref().unwrap_or(&unknown);
            let same = |(value, allowed)| fits(items, value, allowed);
            value.len() == allowed.len() && value.iter().zip(allowed).all(same)
        }
        (Value::Object(value), Value::Object(allowed)) => object(declared, value, allowed),
        _ => value == allowed,
    }
}

/// An allowed object gives a list of allowed values for each of its keys, or one such value.
fn object(declared: &Declared, value: &Map<String, Value>, allowed: &Map<String, Value>) -> bool {
    let unknown = Declared::default();
    let fit = |(key, value): (&String, &Value)| {
        let declared = declared.properties.get(key).unwrap_or(&unknown);
        match allowed.get(key) {
            Some(Value::Array(any)) => any.iter().any(|allowed| fits(declared, value, allowed)),
            Some(one) => fits(declared, value, one),
            None => false,
        }
    };
    let omissible =
        |allowed: &Value| allowed.as_array().is_some_and(|allowed| may_be_omitted(allowed));
    value.iter().all(fit)
        && allowed.iter().all(|(key, allowed)| value.contains_key(key) || omissible(allowed))
}
