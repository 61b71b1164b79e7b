//! What only a model finds: names of people, places and organisations.
//!
//! A [`Recogniser`] says which texts are names; where they occur is found here, so that whatever it
//! says, nothing is masked that is not in the text, and a name that it saw once is masked everywhere.

use crate::{Kind, Span};

/// A text that is a name of this kind, as it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Named {
    pub kind: Kind,
    pub text: String,
}

/// Finds names.
pub trait Recogniser: Send + Sync {
    /// Which model by which rules: goes into manifests beside the policy's id.
    fn id(&self) -> &str;

    /// Every name in a text, each verbatim; an answer that cannot be used is an error, never an empty
    /// list.
    fn names(&self, text: &str) -> Result<Vec<Named>, RecogniserError>;

    /// What else the same name is spelt as, where that is known for certain.
    fn spellings<'a>(&self, _named: &'a Named) -> Vec<&'a str> {
        Vec::new()
    }
}

/// Why it is not known what names there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecogniserError {
    /// It cannot be asked at all, and asking about another text would be no use.
    #[error(
        "failed to ask the recogniser at {url}: {why}; start it, or build with `redact = \"standard\"`"
    )]
    Unreachable { url: String, why: String },
    /// It answered, and what it said about this text cannot be used.
    #[error("the recogniser's answer cannot be used: {why}")]
    Unusable { why: String },
}

/// Where the known names stand as words of their own, longer ones first, without overlaps among them.
pub(crate) fn occurrences(known: &[Named], text: &str) -> Vec<Span> {
    let mut longest: Vec<&Named> = known.iter().collect();
    longest.sort_by(|a, b| (b.text.len(), a).cmp(&(a.text.len(), b)));
    let mut found: Vec<Span> = Vec::new();
    for Named { kind, text: name } in longest {
        for (start, _) in text.match_indices(name.as_str()) {
            let span = Span { kind: *kind, start, end: start + name.len() };
            let free = found.iter().all(|other| span.end <= other.start || other.end <= span.start);
            if free && is_word(text, &span) {
                found.push(span);
            }
        }
    }
    found.sort_by_key(|span| span.start);
    found
}

/// Whether neither end cuts a word: `Ann` is not in `Annual`.
fn is_word(text: &str, span: &Span) -> bool {
    let inside = &text[span.start..span.end];
    let before = text[..span.start].chars().next_back();
    let after = text[span.end..].chars().next();
    let joins = |a: Option<char>, b: Option<char>| {
        a.is_some_and(char::is_alphanumeric) && b.is_some_and(char::is_alphanumeric)
    };
    !joins(before, inside.chars().next()) && !joins(inside.chars().next_back(), after)
}
