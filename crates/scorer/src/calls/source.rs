//! Values that are written in the syntax of Java or JavaScript, as the leaderboard's categories of
//! those languages have them: `new ArrayList<>(Arrays.asList(1, 2))`, `42L`, `{'a': [1]}`.
//!
//! Reads what `java_type_converter.py` and `js_type_converter.py` of `bfcl-eval` (Apache-2.0) read,
//! and as they do: by pattern, not by grammar. What fits no pattern stays the text it is, which is
//! how an answer names a variable.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use super::tool::Kind;

/// In whose syntax a tool wants its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    Java,
    JavaScript,
}

/// A parameter's type in the words of its language, and that of its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceType {
    pub word: String,
    pub items: Option<String>,
}

impl SourceType {
    /// `"x-type"` and `"x-items"` of a parameter.
    pub(super) fn of(schema: &Value) -> Option<Self> {
        let word = |key: &str| schema.get(key).and_then(Value::as_str).map(str::to_owned);
        Some(Self { word: word("x-type")?, items: word("x-items") })
    }
}

impl Language {
    pub(super) fn named(word: &str) -> Option<Self> {
        match word {
            "java" => Some(Self::Java),
            "javascript" => Some(Self::JavaScript),
            _ => None,
        }
    }

    /// What a value of this type is once it is read; none for types that nobody reads.
    pub(super) fn kind(self, word: &str) -> Option<Kind> {
        Some(match (self, word) {
            (Self::Java, "byte" | "short" | "integer" | "long")
            | (Self::JavaScript, "integer" | "Bigint") => Kind::Integer,
            (Self::Java, "float" | "double") | (Self::JavaScript, "float") => Kind::Float,
            (Self::Java, "boolean") | (Self::JavaScript, "Boolean") => Kind::Boolean,
            (Self::Java, "char" | "String" | "any") | (Self::JavaScript, "String" | "any") => {
                Kind::Text
            }
            (Self::Java, "Array" | "ArrayList") | (Self::JavaScript, "array") => Kind::List,
            (Self::Java, "HashMap") | (Self::JavaScript, "dict") => Kind::Dict,
            _ => return None,
        })
    }

    /// The value that a text means. An argument that is no text is not in the language's syntax.
    pub(super) fn read(self, value: &Value, wanted: &SourceType) -> Result<Value, String> {
        let Value::String(text) = value else {
            return Err(format!("{value} is not written as source text"));
        };
        if self.kind(&wanted.word).is_none() {
            return Err(format!("values of type `{}` are not read", wanted.word));
        }
        let items = wanted.items.as_deref();
        Ok(match self {
            Self::Java => java(text, &wanted.word, items),
            Self::JavaScript => javascript(text, &wanted.word, items),
        })
    }
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("is a valid pattern")
}

/// The text without its first and last character, whatever they are.
fn inner(text: &str) -> Value {
    let mut letters = text.chars();
    letters.next();
    letters.next_back();
    Value::from(letters.as_str())
}

fn or_text(text: &str, value: Option<Value>) -> Value {
    value.unwrap_or_else(|| Value::from(text))
}

/// As Python reads an integer: blanks around it, a sign, and underscores between digits.
fn integer(text: &str) -> Option<Value> {
    number_text(text)?.parse::<i64>().ok().map(Value::from)
}

/// As Python reads a float; infinities and NaN have no JSON.
fn float(text: &str) -> Option<Value> {
    static FLOAT: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"));
    let text = number_text(text)?;
    if !FLOAT.is_match(&text) {
        return None;
    }
    text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from)
}

fn number_text(text: &str) -> Option<String> {
    let text = text.trim();
    let bytes = text.as_bytes();
    let between = |at: usize| {
        let digit =
            |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
        digit(at.checked_sub(1)) && digit(Some(at + 1))
    };
    let misplaced = text.match_indices('_').any(|(at, _)| !between(at));
    (!misplaced).then(|| text.replace('_', ""))
}

fn java(text: &str, word: &str, items: Option<&str>) -> Value {
    static INTEGER: LazyLock<Regex> = LazyLock::new(|| pattern(r"^-?[0-9]+\n?$"));
    static LONG: LazyLock<Regex> = LazyLock::new(|| pattern(r"^-?[0-9]+[lL]\n?$"));
    static FLOAT: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?[fF]\n?$"));
    static DOUBLE: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?\n?$"));
    let without = |letters: [char; 2]| text.trim().trim_end_matches(letters).to_owned();
    let value = match word {
        "byte" | "short" | "integer" if INTEGER.is_match(text) => integer(text),
        "long" if LONG.is_match(text) => integer(&without(['l', 'L'])),
        "float" if FLOAT.is_match(text) => float(&without(['f', 'F'])),
        "double" if DOUBLE.is_match(text) => float(text),
        "boolean" => boolean(text),
        "ArrayList" => java_array_list(text, items),
        "Array" => java_array(text, items),
        "HashMap" => java_hash_map(text),
        _ => None,
    };
    or_text(text, value)
}

fn boolean(text: &str) -> Option<Value> {
    match text {
        "true" => Some(Value::Bool(true)),
        "false" => Some(Value::Bool(false)),
        _ => None,
    }
}

fn java_array_list(text: &str, items: Option<&str>) -> Option<Value> {
    static AS_LIST: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"new\s+ArrayList<\w*>\(Arrays\.asList\((.+?)\)\)"));
    static ADDED: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"(?s)new\s+ArrayList<\w*>\(\)\s*\{\{\s*(.+?)\s*\}\}"));
    static ADD: LazyLock<Regex> = LazyLock::new(|| pattern(r"add\((.+?)\)"));
    static EMPTY: LazyLock<Regex> = LazyLock::new(|| pattern(r"new\s+ArrayList<\w*>\(\)"));
    let element = |text: &str| match (text.trim(), items) {
        (text, Some("char" | "String")) => inner(text),
        (text, Some(word)) => java(text, word, None),
        (text, None) => java_value(text),
    };
    if let Some(found) = AS_LIST.captures(text) {
        return Some(found[1].split(',').map(element).collect());
    }
    if let Some(found) = ADDED.captures(text) {
        return Some(ADD.captures_iter(&found[1]).map(|added| element(&added[1])).collect());
    }
    EMPTY.is_match(text).then(|| Value::Array(Vec::new()))
}

/// Elements of type `String` keep their quotes: so do those of the leaderboard.
fn java_array(text: &str, items: Option<&str>) -> Option<Value> {
    static ARRAY: LazyLock<Regex> = LazyLock::new(|| pattern(r"new\s+\w+\[\]\s*\{(.*?)\}"));
    let found = ARRAY.captures(text)?;
    let elements = found[1].split(',').map(str::trim).filter(|text| !text.is_empty());
    let element =
        |text: &str| items.map_or_else(|| java_value(text), |word| java(text, word, None));
    Some(elements.map(element).collect())
}

fn java_hash_map(text: &str) -> Option<Value> {
    static MAP: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"(?s)new\s+HashMap<.*?>\s*\(\)\s*\{\s*\{?\s*(.*?)\s*\}?\s*\}"));
    static PUT: LazyLock<Regex> = LazyLock::new(|| pattern(r#"put\("(.*?)",\s*(.*?)\)"#));
    static EMPTY: LazyLock<Regex> = LazyLock::new(|| pattern(r"new\s+HashMap<.*?>\s*\(\)"));
    if let Some(found) = MAP.captures(text) {
        let put = |put: regex::Captures<'_>| (put[1].to_owned(), java_value(put[2].trim()));
        return Some(Value::Object(PUT.captures_iter(&found[1]).map(put).collect()));
    }
    EMPTY.is_match(text).then(|| Value::Object(Map::new()))
}

/// A value whose type nobody said.
fn java_value(text: &str) -> Value {
    static LONG: LazyLock<Regex> = LazyLock::new(|| pattern(r"^-?[0-9]+[lL]$"));
    static FLOAT: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?[fF]$"));
    if let Some(value) = boolean(text) {
        return value;
    }
    if text.starts_with('"') && text.ends_with('"') {
        return inner(text);
    }
    let known = if LONG.is_match(text) {
        integer(text.trim_end_matches(['l', 'L']))
    } else if FLOAT.is_match(text) {
        float(text.trim_end_matches(['f', 'F']))
    } else {
        integer(text).or_else(|| float(text))
    };
    or_text(text, known)
}

fn javascript(text: &str, word: &str, items: Option<&str>) -> Value {
    static INTEGER: LazyLock<Regex> = LazyLock::new(|| pattern(r"^-?[0-9]+\n?$"));
    static FLOAT: LazyLock<Regex> = LazyLock::new(|| pattern(r"^-?[0-9]+(\.[0-9]+)?\n?$"));
    static BIGINT: LazyLock<Regex> = LazyLock::new(|| pattern(r"^-?[0-9]+n$"));
    let value = match word {
        "String" if is_quoted(text) => Some(inner(text)),
        "integer" if INTEGER.is_match(text) => integer(text),
        "float" if FLOAT.is_match(text) => float(text),
        "Bigint" if BIGINT.is_match(text) => integer(text.trim_end_matches('n')),
        "Boolean" => boolean(text),
        "dict" => return javascript_dict(text.trim()),
        "array" => return javascript_array(text.trim(), items),
        _ => None,
    };
    or_text(text, value)
}

fn is_quoted(text: &str) -> bool {
    ['"', '\''].into_iter().any(|quote| text.starts_with(quote) && text.ends_with(quote))
}

fn javascript_array(text: &str, items: Option<&str>) -> Value {
    static NESTED: LazyLock<Regex> = LazyLock::new(|| {
        pattern(concat!(
            r"^(?:\[\s*\[.*?\]\s*(,\s*\[.*?\]\s*)*\]",
            r"|\bnew\s+Array\(\s*\[.*?\]\s*(,\s*\[.*?\]\s*)*\))"
        ))
    });
    static INNER: LazyLock<Regex> = LazyLock::new(|| pattern(r"\[(.*?)\]"));
    static FLAT: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"^(?:\[(.*?)\]|\bnew\s+Array\((.*?)\))"));
    if let Some(found) = NESTED.find(text) {
        let rows = INNER.captures_iter(found.as_str()).enumerate().map(|(nth, row)| {
            let row = row[1].trim();
            let row = if nth == 0 { row.strip_prefix('[').unwrap_or(row) } else { row };
            row.split(',').map(|element| javascript_value(element.trim())).collect::<Value>()
        });
        return rows.collect();
    }
    let Some(found) = FLAT.captures(text) else { return Value::from(text) };
    let elements = found.get(1).or_else(|| found.get(2)).map_or("", |found| found.as_str()).trim();
    if elements.is_empty() {
        return Value::Array(Vec::new());
    }
    let element = |text: &str| match (text.trim(), items) {
        (text, Some(word)) if text.starts_with(['\'', '"']) => {
            javascript(text, word, Some("String"))
        }
        (text, Some(word)) => javascript(text, word, None),
        (text, None) => javascript_value(text),
    };
    // Types of elements that nobody reads leave the whole a text.
    match items {
        Some(word) if Language::JavaScript.kind(word).is_none() => Value::from(text),
        _ => elements.split(',').map(element).collect(),
    }
}

fn javascript_dict(text: &str) -> Value {
    static DICT: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\{(.*?)\}"));
    if text == "{}" {
        return Value::Object(Map::new());
    }
    let Some(found) = DICT.captures(text) else { return Value::from(text) };
    let quotes = ['\'', '"'];
    let pairs = pairs(&found[1]).into_iter().map(|(key, value)| {
        let (key, value) = (key.trim().trim_matches(quotes), value.trim());
        let value = match (value.chars().next(), value.chars().next_back()) {
            (Some('['), Some(']')) => javascript_array(value, None),
            (Some('{'), Some('}')) => javascript_dict(value),
            _ => javascript_value(value.trim_matches(quotes)),
        };
        (key.to_owned(), value)
    });
    Value::Object(pairs.collect())
}

/// What `re.findall(r"([^:]+):\s*(.*?)(?:,\s*(?=[^,]+:)|$)", text)` finds: a value ends where a
/// comma stands before another key, or with the text.
fn pairs(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((key, value, end)) = pair(text, at) {
        found.push((key, value));
        at = end;
    }
    found
}

/// The first pair at or after `at`, and where it ends.
fn pair(text: &str, at: usize) -> Option<(&str, &str, usize)> {
    let key_at = at + text[at..].find(|c| c != ':')?;
    let colon = key_at + text[key_at..].find(':')?;
    let rest = &text[colon + 1..];
    let value_at = colon + 1 + (rest.len() - rest.trim_start().len());
    for (offset, letter) in text[value_at..].char_indices() {
        let here = value_at + offset;
        if letter == ','
            && let Some(end) = before_a_key(text, here + 1)
        {
            return Some((&text[key_at..colon], &text[value_at..here], end));
        }
        if letter == '\n' {
            // A value does not go on over lines; the next key may begin after this one's colon.
            return pair(text, colon + 1);
        }
    }
    Some((&text[key_at..colon], &text[value_at..], text.len()))
}

/// Where the blanks after a comma end, if a key and its colon follow before the next comma. A key has
/// at least one letter; where there is none, the last blank will do.
fn before_a_key(text: &str, at: usize) -> Option<usize> {
    let rest = &text[at..];
    let key_at = at + (rest.len() - rest.trim_start().len());
    let until = text[key_at..].find(',').map_or(text.len(), |comma| key_at + comma);
    match text[key_at..until].rfind(':')? {
        0 => text[at..key_at].char_indices().next_back().map(|(blank, _)| at + blank),
        _ => Some(key_at),
    }
}

fn javascript_value(text: &str) -> Value {
    let text = text.trim();
    if let Some(value) = boolean(text) {
        return value;
    }
    if is_quoted(text) {
        return inner(text);
    }
    or_text(text, integer(text).or_else(|| float(text)))
}
