//! A request that a strict parser refuses, taken apart record by record.
//!
//! JavaScript writes the half of a character that a length limit left as `\ud83d`, Python writes
//! `NaN` and `Infinity`, and some state is nested deeper than a parser follows. For one of these a
//! strict parser refuses all that was sent with it. Here it is mended, or its record falls alone.

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::{count, snake_case};
use crate::telemetry::Decoded;

/// Half a character as an escape, which stands for bytes that are no text as well.
const HALF: &str = "\\ud800";
const REPLACEMENT: &str = "\\ufffd";

/// The request with what can be read of it. `lists` names the way to the records; `None` if what
/// holds them is no JSON.
pub(super) fn request(body: &[u8], lists: &[&str], decoded: &mut Decoded) -> Option<Value> {
    let mut text = String::with_capacity(body.len());
    for chunk in body.utf8_chunks() {
        text.push_str(chunk.valid());
        text.push_str(if chunk.invalid().is_empty() { "" } else { HALF });
    }
    rebuilt(&finite(&text, &mut decoded.repaired), lists, decoded)
}

fn rebuilt(text: &str, lists: &[&str], decoded: &mut Decoded) -> Option<Value> {
    let Some((list, inner)) = lists.split_first() else { return record(text, decoded) };
    let mut object = Map::new();
    for (name, value) in fields(text)? {
        let value = if name == *list || name == snake_case(list) {
            let items = items(value).unwrap_or_default();
            items.into_iter().filter_map(|item| rebuilt(item, inner, decoded)).collect()
        } else {
            whole(value, &mut decoded.repaired).unwrap_or_default()
        };
        object.insert(name, value);
    }
    Some(Value::Object(object))
}

/// A text that ends within a character has lost its end, as surely as a dropped attribute is lost.
fn record(text: &str, decoded: &mut Decoded) -> Option<Value> {
    const DROPPED: &str = "droppedAttributesCount";
    let mut cut = 0;
    match whole(text, &mut cut) {
        Ok(mut record) => {
            decoded.repaired += cut;
            if let Some(fields) = record.as_object_mut().filter(|_| cut > 0) {
                let dropped = u64::from(count(fields, DROPPED)) + cut as u64;
                fields.insert(DROPPED.to_owned(), Value::from(dropped));
            }
            Some(record)
        }
        Err(why) => {
            decoded.rejected.push(format!("a record cannot be decoded as JSON: {why}"));
            None
        }
    }
}

/// A value with every half of a character replaced, and how many these were.
fn whole(text: &str, cut: &mut usize) -> serde_json::Result<Value> {
    let mut mended = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        mended.push_str(before);
        let is_low = |escape: &str| matches!(code_unit(escape), Some(0xDC00..=0xDFFF));
        let length = match code_unit(escape) {
            Some(0xD800..=0xDBFF) if escape.get(6..).is_some_and(is_low) => 12,
            Some(0xD800..=0xDFFF) => {
                *cut += 1;
                mended.push_str(REPLACEMENT);
                rest = &escape[6..];
                continue;
            }
            Some(_) => 6,
            None => 1 + escape[1..].chars().next().map_or(0, char::len_utf8),
        };
        mended.push_str(&escape[..length]);
        rest = &escape[length..];
    }
    mended.push_str(rest);
    serde_json::from_str(&mended)
}

/// What `\uXXXX` stands for.
fn code_unit(escape: &str) -> Option<u32> {
    u32::from_str_radix(escape.strip_prefix("\\u")?.get(..4)?, 16).ok()
}

/// Null in place of the numbers that JSON has no word for and those that no float can hold.
fn finite(text: &str, repaired: &mut usize) -> String {
    let mut mended = String::with_capacity(text.len());
    let mut rest = text;
    let begins = |c: char| c == '"' || c == '-' || c.is_ascii_alphanumeric();
    while let Some(at) = rest.find(begins) {
        let (before, token) = rest.split_at(at);
        let ends = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'));
        let length = match token.strip_prefix('"') {
            Some(inside) => string_length(inside) + 1,
            None => token.find(ends).unwrap_or(token.len()),
        };
        let (token, after) = token.split_at(length);
        let is_odd = token.parse::<f64>().is_ok_and(|number| !number.is_finite());
        *repaired += usize::from(is_odd);
        mended.push_str(before);
        mended.push_str(if is_odd { "null" } else { token });
        rest = after;
    }
    mended + rest
}

/// How long a string is after its opening quote, its closing one included.
fn string_length(inside: &str) -> usize {
    let mut is_escaped = false;
    let end = inside.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    });
    end.map_or(inside.len(), |at| at + 1)
}

/// The fields of an object, each value as it is written.
fn fields(text: &str) -> Option<Vec<(String, &str)>> {
    let mut rest = text.trim_start().strip_prefix('{')?;
    let mut fields = Vec::new();
    if let Some(after) = rest.trim_start().strip_prefix('}') {
        return after.trim().is_empty().then_some(fields);
    }
    loop {
        let (name, after) = value(rest)?;
        let (value, after) = value(after.trim_start().strip_prefix(':')?)?;
        fields.push((serde_json::from_str(name).ok()?, value));
        match after.trim_start().split_at_checked(1)? {
            (",", after) => rest = after,
            ("}", after) => return after.trim().is_empty().then_some(fields),
            _ => return None,
        }
    }
}

/// The items of a list, each as it is written.
fn items(text: &str) -> Option<Vec<&str>> {
    let mut rest = text.trim_start().strip_prefix('[')?;
    let mut items = Vec::new();
    if rest.trim_start().starts_with(']') {
        return Some(items);
    }
    loop {
        let (item, after) = value(rest)?;
        items.push(item);
        match after.trim_start().split_at_checked(1)? {
            (",", after) => rest = after,
            ("]", _) => return Some(items),
            _ => return None,
        }
    }
}

/// The value a text begins with, and what comes after. However deep it is nested, it is skipped
/// without a stack.
fn value(text: &str) -> Option<(&str, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    text.split_at_checked(values.byte_offset())
}
