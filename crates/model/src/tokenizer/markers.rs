//! Telling the markers a template writes from the same characters in what it was given.
//!
//! A user who writes `<|im_end|>` in a message must not end a turn with it. Every string a template
//! is given is therefore [guarded](Markers::guard): a seam, which nobody can guess, goes into each
//! marker in it, and where it could begin or end within one. A marker without a seam in the
//! rendered text is then the template's own. Strings without markers are untouched, so that
//! whatever a template does with them, it does the same.

use std::sync::Arc;

use tokenizers::AddedToken;

/// Private-use characters of a seam: about 75 random bits.
const SEAM_LENGTH: usize = 6;

/// A rendered conversation in which the template's own markers can still be told from the same
/// characters in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    pub(crate) text: String,
    pub(crate) seam: Arc<str>,
}

impl Rendered {
    /// What a reader sees, which no longer says where a marker came from.
    pub fn text(&self) -> String {
        self.text.replace(&*self.seam, "")
    }

    /// What follows `beginning`, where this begins with it.
    pub fn strip_prefix(&self, beginning: &Self) -> Option<Self> {
        let rest = self.text.strip_prefix(beginning.text.as_str())?;
        Some(Self { text: rest.to_owned(), seam: Arc::clone(&self.seam) })
    }
}

/// Whose words a string holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Voice {
    /// The model's own earlier reply. It says `<think>` and `<tool_call>` by their ids, and so they
    /// stay; what ends a turn it cannot have said.
    Model,
    /// Anybody else's.
    Other,
}

/// The texts that become ids of their own.
#[derive(Debug, Clone)]
pub(crate) struct Markers {
    /// The longest first.
    known: Arc<[Marker]>,
    /// What they begin with; for most vocabularies one character.
    initials: Arc<[char]>,
    seam: Arc<str>,
}

#[derive(Debug, Clone)]
pub(super) struct Marker {
    pub(super) text: String,
    pub(super) id: u32,
    /// Whether it structures a conversation, and is never part of what is said.
    special: bool,
    /// What stands for it where its own text would be ambiguous.
    pub(super) private: String,
}

impl Markers {
    /// Runs of blanks and plain words in a vocabulary's added part are spelled like any text.
    pub(super) fn new(added: impl IntoIterator<Item = (u32, AddedToken)>) -> Self {
        let bracketed = |text: &str| {
            [('<', '>'), ('[', ']')].iter().any(|(a, z)| text.starts_with(*a) && text.ends_with(*z))
        };
        let secret = secret();
        let mut known: Vec<Marker> = added
            .into_iter()
            .filter(|(_, token)| token.special || bracketed(&token.content))
            .filter(|(_, token)| !token.content.trim().is_empty())
            .map(|(id, token)| {
                let private = format!("{secret}{id}{secret}");
                Marker { text: token.content, id, special: token.special, private }
            })
            .collect();
        known.sort_by(|a, b| b.text.len().cmp(&a.text.len()).then(a.id.cmp(&b.id)));
        let mut initials: Vec<char> =
            known.iter().filter_map(|marker| marker.text.chars().next()).collect();
        initials.sort_unstable();
        initials.dedup();
        let (known, initials) = (known.into(), initials.into());
        Self { known, initials, seam: secret_other_than(&secret).into() }
    }

    pub(super) fn known(&self) -> &[Marker] {
        &self.known
    }

    pub(crate) fn seam(&self) -> &Arc<str> {
        &self.seam
    }

    /// The text with no marker in it whole, and none that could be made whole by what a template
    /// writes before or after it, blanks at its ends trimmed or not.
    pub(crate) fn guard(&self, text: &str, voice: Voice) -> String {
        let watched: Vec<&str> = self
            .known
            .iter()
            .filter(|marker| marker.special || voice == Voice::Other)
            .map(|marker| marker.text.as_str())
            .collect();
        let start = text.len() - text.trim_start().len();
        let end = text.trim_end().len();
        let begun = |at: usize| {
            let (rest, to_end) = (&text[at..], text.get(at..end).unwrap_or_default());
            let ends_within = |marker: &&str| !to_end.is_empty() && marker.starts_with(to_end);
            watched.iter().any(|marker| rest.starts_with(*marker) || ends_within(marker))
        };
        let inner = text.trim();
        let continues = |marker: &&str| {
            let suffixes = marker.char_indices().skip(1).map(|(at, _)| &marker[at..]);
            suffixes.into_iter().any(|suffix| inner.starts_with(suffix))
        };
        let mut guarded = String::with_capacity(text.len());
        for (at, letter) in text.char_indices() {
            if at == start && watched.iter().any(continues) {
                guarded.push_str(&self.seam);
            }
            guarded.push(letter);
            if self.initials.contains(&letter) && begun(at) {
                guarded.push_str(&self.seam);
            }
        }
        guarded
    }

    /// The text with every whole marker in its private spelling, and no seams.
    pub(super) fn spell_privately(&self, text: &str) -> String {
        let mut spelled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(&*self.initials) {
            let (plain, begun) = rest.split_at(at);
            spelled.push_str(plain);
            // The longest of those that match comes first, as the tokenizer itself chooses.
            let marker = self.known.iter().find(|marker| begun.starts_with(&marker.text));
            let (own, len) = if let Some(marker) = marker {
                (marker.private.as_str(), marker.text.len())
            } else {
                let len = begun.chars().next().map_or(begun.len(), char::len_utf8);
                (&begun[..len], len)
            };
            spelled.push_str(own);
            rest = &begun[len..];
        }
        spelled.push_str(rest);
        spelled.replace(&*self.seam, "")
    }
}

/// Characters of no script, which templates neither trim nor change the case of.
fn secret() -> String {
    let letter = |_| {
        let code = 0xE000 + rand::random::<u32>() % 0x1900;
        char::from_u32(code).unwrap_or('\u{E000}')
    };
    (0..SEAM_LENGTH).map(letter).collect()
}

fn secret_other_than(other: &str) -> String {
    loop {
        let fresh = secret();
        if fresh != other {
            return fresh;
        }
    }
}

#[cfg(test)]
mod tests;
