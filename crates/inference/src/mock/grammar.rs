//! The shortest sentence of a Lark grammar, of as much of Lark as tool calls need: rules of strings,
//! names and `%json` schemas in sequence, groups that may be left out, and alternatives.

use std::collections::BTreeMap;

use serde_json::Value;

use super::schema;
use crate::InferenceError;

/// Of a rule's alternatives the first is taken that repeats what was heard, or else the first that
/// this reader understands. A pattern negated away (`… & ~/…/`) may be anything without a call.
pub(super) fn sentence(source: &str, heard: &str) -> Result<String, InferenceError> {
    let mut rules = BTreeMap::new();
    for line in source.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, body) = line.split_once(':').ok_or_else(unsupported)?;
        rules.insert(name.split('[').next().unwrap_or(name).trim(), body.trim());
    }
    Speaker { rules, heard }.rule("start", 8)
}

struct Speaker<'a> {
    rules: BTreeMap<&'a str, &'a str>,
    heard: &'a str,
}

impl Speaker<'_> {
    fn rule(&self, name: &str, depth: usize) -> Result<String, InferenceError> {
        let depth = depth.checked_sub(1).ok_or_else(unsupported)?;
        let body = self.rules.get(name).ok_or_else(unsupported)?;
        if body.starts_with('/') {
            return self.pattern(body);
        }
        let alternatives = split_alternatives(body);
        let said: Vec<_> = alternatives.iter().map(|body| self.sequence(body, depth)).collect();
        let repeats = said.iter().flatten().find(|text| **text == self.heard).cloned();
        match repeats {
            Some(text) => Ok(text),
            None => said.into_iter().find(Result::is_ok).unwrap_or_else(|| Err(unsupported())),
        }
    }

    /// Free text that must not hold a call: what was heard, if it holds none.
    fn pattern(&self, body: &str) -> Result<String, InferenceError> {
        let is_free_text = body.starts_with("/(?s:.*)/ & ~/(?s:.*)<tool_call>");
        let may_be_said = is_free_text && !self.heard.contains("<tool_call>");
        // Text that leads up to a call is the shortest: the marker alone.
        if body == "/(?s:.*)<tool_call>\\n/" {
            return Ok("<tool_call>\n".to_owned());
        }
        if may_be_said { Ok(self.heard.to_owned()) } else { Err(unsupported()) }
    }

    fn sequence(&self, body: &str, depth: usize) -> Result<String, InferenceError> {
        let (mut said, mut rest) = (String::new(), body.trim());
        while !rest.is_empty() {
            if rest.starts_with('"') {
                let (text, after) = json_prefix(rest)?;
                said += text.as_str().ok_or_else(unsupported)?;
                rest = after;
            } else if let Some(after) = rest.strip_prefix("%json") {
                let (schema, after) = json_prefix(after.trim_start())?;
                said += &schema::instance(&schema)?.to_string();
                rest = after;
            } else if rest.starts_with('(') {
                let end = rest.rfind(')').ok_or_else(unsupported)?;
                let after = &rest[end + 1..];
                // Only groups that may be left out, and they are.
                rest = after.strip_prefix(['*', '?']).ok_or_else(unsupported)?;
            } else {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
                let (name, after) = rest.split_at(end.unwrap_or(rest.len()));
                said += &self.rule(name, depth)?;
                rest = after;
            }
            rest = rest.trim_start();
        }
        Ok(said)
    }
}

/// A JSON value at the beginning of a text, and what follows it.
fn json_prefix(text: &str) -> Result<(Value, &str), InferenceError> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next().and_then(Result::ok).ok_or_else(unsupported)?;
    Ok((value, &text[values.byte_offset()..]))
}

/// At each `|` that stands in no string.
fn split_alternatives(body: &str) -> Vec<&str> {
    let (mut parts, mut start, mut in_string, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            '|' if !in_string => {
                parts.push(&body[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&body[start..]);
    parts
}

fn unsupported() -> InferenceError {
    InferenceError::Unsupported("this grammar")
}
