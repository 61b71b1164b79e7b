//! Text on its way out, with the calls taken from it as soon as they are certain.

use serde_json::Value;

use super::{CLOSE, OPEN, ToolReading};

/// What a piece of a reply is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolPiece {
    Text(String),
    /// A call begins.
    Call {
        index: usize,
        name: String,
    },
    /// The next part of its arguments; all parts of one call together are valid JSON.
    Arguments {
        index: usize,
        fragment: String,
    },
}

/// Takes a reply piece by piece; how it was cut does not change what comes out in all.
#[derive(Debug)]
pub struct ToolGate {
    reading: ToolReading,
    state: State,
    /// Not yet decided on.
    held: String,
    /// White space that is text if text follows and layout if a call does.
    blank: String,
    said: bool,
    calls: usize,
}

#[derive(Debug)]
enum State {
    Text,
    /// After the marker, before the arguments or, unless live, before the end.
    Head,
    Arguments(Scan),
    /// After the arguments, before the closing marker.
    Tail,
}

/// How deep in a JSON value the arguments are.
#[derive(Debug, Default)]
struct Scan {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl ToolGate {
    pub fn new(reading: ToolReading) -> Self {
        Self {
            reading,
            state: State::Text,
            held: String::new(),
            blank: String::new(),
            said: false,
            calls: 0,
        }
    }

    /// How many calls have begun.
    pub fn calls(&self) -> usize {
        self.calls
    }

    pub fn push(&mut self, text: &str) -> Vec<ToolPiece> {
        let mut pieces = Vec::new();
        if self.reading == ToolReading::Off {
            if !text.is_empty() {
                pieces.push(ToolPiece::Text(text.to_owned()));
            }
            return pieces;
        }
        self.held.push_str(text);
        while self.advance(&mut pieces) {}
        pieces
    }

    /// Nothing more will come: what is held is decided on.
    pub fn finish(&mut self) -> Vec<ToolPiece> {
        let mut pieces = Vec::new();
        let rest = std::mem::take(&mut self.held);
        match &self.state {
            State::Text => self.say(&rest, &mut pieces),
            // A model may well end its turn without the closing marker.
            State::Head => self.whole(&rest, "", &mut pieces),
            State::Arguments(_) | State::Tail => {}
        }
        self.state = State::Text;
        if self.calls == 0 && !self.blank.is_empty() {
            pieces.push(ToolPiece::Text(std::mem::take(&mut self.blank)));
        }
        pieces
    }

    /// One step; false when more text is needed.
    fn advance(&mut self, pieces: &mut Vec<ToolPiece>) -> bool {
        match &mut self.state {
            State::Text => self.text(pieces),
            State::Head if self.reading == ToolReading::Live => self.live_head(pieces),
            State::Head => {
                let Some(end) = self.held.find(CLOSE) else { return false };
                let body = self.held[..end].to_owned();
                self.held.drain(..end + CLOSE.len());
                self.state = State::Text;
                self.whole(&body, CLOSE, pieces);
                true
            }
            State::Arguments(scan) => {
                let (end, complete) = scan.run(&self.held);
                let fragment: String = self.held.drain(..end).collect();
                if !fragment.is_empty() {
                    pieces.push(ToolPiece::Arguments { index: self.calls - 1, fragment });
                }
                if complete {
                    self.state = State::Tail;
                }
                complete
            }
            State::Tail => {
                let Some(end) = self.held.find(CLOSE) else { return false };
                self.held.drain(..end + CLOSE.len());
                self.state = State::Text;
                true
            }
        }
    }

    fn text(&mut self, pieces: &mut Vec<ToolPiece>) -> bool {
        if let Some(start) = self.held.find(OPEN) {
            let before = self.held[..start].to_owned();
            self.held.drain(..start + OPEN.len());
            self.say(&before, pieces);
            self.state = State::Head;
            return true;
        }
        let certain = self.held.len() - overlap(&self.held, OPEN);
        let text: String = self.held.drain(..certain).collect();
        self.say(&text, pieces);
        false
    }

    /// White space before, between and after calls is layout.
    fn say(&mut self, text: &str, pieces: &mut Vec<ToolPiece>) {
        let is_blank = text.chars().all(char::is_whitespace);
        if is_blank && (!self.said || self.calls > 0) {
            self.blank.push_str(text);
            return;
        }
        self.said = true;
        let mut whole = std::mem::take(&mut self.blank);
        whole.push_str(text);
        pieces.push(ToolPiece::Text(whole));
    }

    /// A whole call, or, when it is none, the text it was.
    fn whole(&mut self, body: &str, close: &str, pieces: &mut Vec<ToolPiece>) {
        match parse(body) {
            Some((name, arguments)) => {
                let index = self.begin(name, pieces);
                pieces.push(ToolPiece::Arguments { index, fragment: arguments });
            }
            None => self.say(&format!("{OPEN}{body}{close}"), pieces),
        }
    }

    fn live_head(&mut self, pieces: &mut Vec<ToolPiece>) -> bool {
        let Some((name, start)) = head(&self.held) else { return false };
        self.held.drain(..start);
        self.begin(name, pieces);
        self.state = State::Arguments(Scan::default());
        true
    }

    fn begin(&mut self, name: String, pieces: &mut Vec<ToolPiece>) -> usize {
        self.blank.clear();
        let index = self.calls;
        self.calls += 1;
        pieces.push(ToolPiece::Call { index, name });
        index
    }
}

impl Scan {
    /// How many bytes of `text` still belong to the value, and whether it ends there.
    fn run(&mut self, text: &str) -> (usize, bool) {
        for (at, c) in text.char_indices() {
            match c {
                _ if self.escaped => self.escaped = false,
                '\\' if self.in_string => self.escaped = true,
                '"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                '{' | '[' => self.depth += 1,
                '}' | ']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return (at + 1, true);
                    }
                }
                _ => {}
            }
        }
        (text.len(), false)
    }
}

/// The name of a call and where its arguments begin, once both are there. A grammar wrote it, so
/// the name comes first.
fn head(text: &str) -> Option<(String, usize)> {
    const KEY: &str = "\"arguments\"";
    for (at, _) in text.match_indices(KEY) {
        let rest = text[at + KEY.len()..].trim_start();
        let Some(value) = rest.strip_prefix(':').map(str::trim_start) else { continue };
        if value.is_empty() {
            return None;
        }
        let before = text[..at].trim_end().trim_end_matches(',');
        let object: Value = serde_json::from_str(&format!("{before}}}")).ok()?;
        let name = object.get("name")?.as_str()?.to_owned();
        return Some((name, text.len() - value.len()));
    }
    None
}

/// A call's name and arguments. Some models say `parameters`, some put the arguments in a string.
fn parse(body: &str) -> Option<(String, String)> {
    let call: Value = serde_json::from_str(body).ok()?;
    let name = call.get("name")?.as_str()?.to_owned();
    let arguments = match call.get("arguments").or_else(|| call.get("parameters")) {
        None | Some(Value::Null) => "{}".to_owned(),
        Some(object @ Value::Object(_)) => object.to_string(),
        Some(Value::String(text)) => {
            serde_json::from_str::<serde_json::Map<String, Value>>(text).ok()?;
            text.clone()
        }
        Some(_) => return None,
    };
    Some((name, arguments))
}

/// Bytes of the longest end of `text` with which `marker` begins.
fn overlap(text: &str, marker: &str) -> usize {
    let longest = marker.len().min(text.len());
    (1..=longest).rev().find(|len| text.ends_with(&marker[..*len])).unwrap_or(0)
}
