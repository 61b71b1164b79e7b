//! The bits of Python that published templates lean on: string and mapping methods, and
//! `json.dumps` spacing.

use minijinja::{
    Error, ErrorKind, State,
    value::{Kwargs, Rest, Value, ValueKind, from_args},
};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// `json.dumps(value, ensure_ascii=False, indent=…)`, as transformers defines `tojson`.
pub(super) fn to_json(value: Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let fail = |error: serde_json::Error| {
        Error::new(ErrorKind::BadSerialization, "a value is not JSON").with_source(error)
    };
    let mut out = Vec::new();
    match indent {
        Some(width) => {
            let spaces = " ".repeat(width);
            let pretty = PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut out, pretty)).map_err(fail)?;
        }
        None => {
            value.serialize(&mut Serializer::with_formatter(&mut out, Spaced)).map_err(fail)?;
        }
    }
    Ok(Value::from_safe_string(String::from_utf8_lossy(&out).into_owned()))
}

/// `json.dumps(value, ensure_ascii=False)`.
pub(super) fn dumps(value: &serde_json::Value) -> String {
    let mut out = Vec::new();
    let written = value.serialize(&mut Serializer::with_formatter(&mut out, Spaced));
    assert!(written.is_ok(), "a JSON value writes into memory");
    String::from_utf8_lossy(&out).into_owned()
}

/// One line with a space after each comma and colon, as Python writes it.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

/// Methods Python values have and minijinja's do not.
pub(super) fn call_method(
    _state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => string_method(value.as_str().unwrap_or_default(), method, args),
        ValueKind::Map => map_method(value, method, args),
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let trimmed = |args: &[Value]| -> Result<Option<Vec<char>>, Error> {
        let (chars,): (Option<&str>,) = from_args(args)?;
        Ok(chars.map(|chars| chars.chars().collect()))
    };
    let result = match method {
        "strip" => match trimmed(args)? {
            None => text.trim().into(),
            Some(chars) => text.trim_matches(chars.as_slice()).into(),
        },
        "lstrip" => match trimmed(args)? {
            None => text.trim_start().into(),
            Some(chars) => text.trim_start_matches(chars.as_slice()).into(),
        },
        "rstrip" => match trimmed(args)? {
            None => text.trim_end().into(),
            Some(chars) => text.trim_end_matches(chars.as_slice()).into(),
        },
        "startswith" => text.starts_with(from_args::<(&str,)>(args)?.0).into(),
        "endswith" => text.ends_with(from_args::<(&str,)>(args)?.0).into(),
        "upper" => text.to_uppercase().into(),
        "lower" => text.to_lowercase().into(),
        "replace" => {
            let (from, to): (&str, &str) = from_args(args)?;
            text.replace(from, to).into()
        }
        "split" => {
            let (separator, most): (Option<&str>, Option<usize>) = from_args(args)?;
            let parts: Vec<&str> = match (separator, most) {
                (None, _) => text.split_whitespace().collect(),
                (Some(separator), None) => text.split(separator).collect(),
                (Some(separator), Some(most)) => text.splitn(most + 1, separator).collect(),
            };
            parts.into_iter().map(Value::from).collect()
        }
        "join" => {
            let (parts,): (Vec<String>,) = from_args(args)?;
            parts.join(text).into()
        }
        _ => return Err(ErrorKind::UnknownMethod.into()),
    };
    Ok(result)
}

fn map_method(map: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let lookup = |key: &Value| map.get_item(key).ok().filter(|value| !value.is_undefined());
    match method {
        "get" => {
            let (key, rest): (Value, Rest<Value>) = from_args(args)?;
            Ok(lookup(&key).unwrap_or_else(|| rest.first().cloned().unwrap_or(Value::from(()))))
        }
        "keys" => Ok(map.try_iter()?.collect()),
        "values" => Ok(map.try_iter()?.filter_map(|key| lookup(&key)).collect()),
        "items" => Ok(map
            .try_iter()?
            .filter_map(|key| lookup(&key).map(|value| Value::from(vec![key, value])))
            .collect()),
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}
