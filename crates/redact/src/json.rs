//! Rewriting the values of a JSON text in place.
//!
//! The text is not parsed and printed again: key order, spacing and the spelling of numbers are
//! part of what a model learns to say, and masking one address must not change the rest.

/// A value that may hold personal data.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    /// A string, unescaped.
    Text(&'a str),
    /// A non-negative integer, as spelled.
    Number(&'a str),
    /// What a value stands under, unescaped.
    Key(&'a str),
}

/// Offers every string, integer and object key to `replace`, values with what became of the nearest
/// key above them, and puts what it returns in its place, as a string. `None` when the text is not a JSON object or array.
pub(crate) fn rewrite_values(
    text: &str,
    replace: &mut dyn FnMut(&str, Value<'_>) -> Option<String>,
) -> Option<String> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    // From here on the text is known to be well formed, so the scan below need not check.
    serde_json::from_str::<serde_json::Value>(text).ok()?;
    let mut scan = Scan { text, at: 0, done: 0, keys: vec![String::new()], out: String::new() };
    scan.run(replace);
    scan.out.push_str(&text[scan.done..]);
    Some(scan.out)
}

struct Scan<'a> {
    text: &'a str,
    /// The next byte to look at.
    at: usize,
    /// Everything before this byte has been copied or replaced.
    done: usize,
    /// The key in force at each depth.
    keys: Vec<String>,
    out: String,
}

impl Scan<'_> {
    fn run(&mut self, replace: &mut dyn FnMut(&str, Value<'_>) -> Option<String>) {
        while let Some(&byte) = self.text.as_bytes().get(self.at) {
            match byte {
                b'{' => self.keys.push(String::new()),
                // The members of a list stand under the list's key.
                b'[' => self.keys.push(self.key().to_owned()),
                b'}' | b']' => {
                    self.keys.pop();
                }
                b'"' => {
                    self.string(replace);
                    continue;
                }
                b'-' | b'0'..=b'9' => {
                    self.number(replace);
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    fn key(&self) -> &str {
        self.keys.last().map_or("", String::as_str)
    }

    fn string(&mut self, replace: &mut dyn FnMut(&str, Value<'_>) -> Option<String>) {
        let (start, end) = (self.at, end_of_string(self.text.as_bytes(), self.at));
        self.at = end;
        let Ok(value) = serde_json::from_str::<String>(&self.text[start..end]) else { return };
        if self.text[end..].trim_start().starts_with(':') {
            let replaced = replace("", Value::Key(&value));
            if let Some(replaced) = &replaced {
                self.splice(start, end, replaced);
            }
            if let Some(key) = self.keys.last_mut() {
                *key = replaced.unwrap_or(value);
            }
            return;
        }
        if let Some(replaced) = replace(self.key(), Value::Text(&value)) {
            self.splice(start, end, &replaced);
        }
    }

    fn number(&mut self, replace: &mut dyn FnMut(&str, Value<'_>) -> Option<String>) {
        let rest = &self.text[self.at..];
        let length = rest.find([',', '}', ']', ' ', '\n', '\r', '\t']).unwrap_or(rest.len());
        let (start, end) = (self.at, self.at + length);
        self.at = end;
        let spelled = &self.text[start..end];
        if !spelled.bytes().all(|byte| byte.is_ascii_digit()) {
            return;
        }
        if let Some(replaced) = replace(self.key(), Value::Number(spelled)) {
            self.splice(start, end, &replaced);
        }
    }

    fn splice(&mut self, start: usize, end: usize, replaced: &str) {
        self.out.push_str(&self.text[self.done..start]);
        self.out.push_str(&serde_json::Value::from(replaced).to_string());
        self.done = end;
    }
}

/// One past the closing quote of the string literal that opens at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}
