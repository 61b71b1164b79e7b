//! What went wrong in a call, without the words that were used for it.

use serde::{Deserialize, Serialize};
use understudy_message::{Message, Role};

use crate::{Key, Keyed, transcript::failure_in};

/// Two failures are the same when all three parts are: the words of the message, its values masked,
/// are compared through a keyed hash and never kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ErrorSignature {
    pub class: ErrorClass,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    pub template: Keyed,
}

/// What kind of failure; a closed list, because a name taken from a message could be content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    Timeout,
    RateLimited,
    Unauthorized,
    NotFound,
    Conflict,
    Precondition,
    Invalid,
    Unavailable,
    NotVisible,
    Other,
}

impl ErrorClass {
    pub const ALL: [Self; 10] = [
        Self::Timeout,
        Self::RateLimited,
        Self::Unauthorized,
        Self::NotFound,
        Self::Conflict,
        Self::Precondition,
        Self::Invalid,
        Self::Unavailable,
        Self::NotVisible,
        Self::Other,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::RateLimited => "rate_limited",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Precondition => "precondition",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
            Self::NotVisible => "not_visible",
            Self::Other => "other",
        }
    }

    /// In a sentence: "fails because it …".
    pub(crate) fn phrase(self) -> &'static str {
        match self {
            Self::Timeout => "with a timeout",
            Self::RateLimited => "because of a rate limit",
            Self::Unauthorized => "because access is not allowed",
            Self::NotFound => "because nothing was found",
            Self::Conflict => "because of a conflict",
            Self::Precondition => "because a required step is missing",
            Self::Invalid => "because an argument is not valid",
            Self::Unavailable => "because the service is not available",
            Self::NotVisible => "because the element is not visible",
            Self::Other => "with an error",
        }
    }

    fn of_code(code: u16) -> Option<Self> {
        Some(match code {
            401 | 403 => Self::Unauthorized,
            404 | 410 => Self::NotFound,
            408 | 504 => Self::Timeout,
            409 => Self::Conflict,
            412 | 428 => Self::Precondition,
            400 | 422 => Self::Invalid,
            429 => Self::RateLimited,
            500..=599 => Self::Unavailable,
            _ => return None,
        })
    }

    fn of_words(text: &str) -> Self {
        const WORDS: [(&[&str], ErrorClass); 9] = [
            (&["timeout", "timed out", "deadline"], ErrorClass::Timeout),
            (&["rate limit", "too many requests", "throttl", "quota"], ErrorClass::RateLimited),
            (
                &["unauthorized", "unauthorised", "forbidden", "permission", "denied", "login"],
                ErrorClass::Unauthorized,
            ),
            (
                &[
                    "not visible",
                    "not interactable",
                    "stale element",
                    "no such element",
                    "obscured",
                ],
                ErrorClass::NotVisible,
            ),
            (&["not found", "no such", "does not exist", "unknown"], ErrorClass::NotFound),
            (&["conflict", "already exists", "locked"], ErrorClass::Conflict),
            (&["precondition", "must first", "before", "requires"], ErrorClass::Precondition),
            (&["invalid", "missing", "malformed", "validation", "expected"], ErrorClass::Invalid),
            (&["unavailable", "refused", "unreachable", "overloaded"], ErrorClass::Unavailable),
        ];
        let found = WORDS.iter().find(|(words, _)| words.iter().any(|word| text.contains(word)));
        found.map_or(Self::Other, |(_, class)| *class)
    }
}

impl std::str::FromStr for ErrorClass {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::as_str).join(", ");
        let found = Self::ALL.into_iter().find(|class| class.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is not an error class; known are {}", known()))
    }
}

impl ErrorSignature {
    /// Reads a message. A status code in it, or `code`, decides the class; its words do otherwise.
    pub fn of(message: &str, code: Option<u16>, key: &Key) -> Self {
        let lower = message.to_lowercase();
        let code = code.or_else(|| status_code(&lower));
        let by_code = code.and_then(ErrorClass::of_code);
        let class = by_code.unwrap_or_else(|| ErrorClass::of_words(&lower));
        Self { class, code, template: key.name("error template", &template(&lower)) }
    }

    /// Of the call that a conversation ends with, if that failed.
    pub fn of_last(messages: &[Message], key: &Key) -> Option<Self> {
        let last = messages.last().filter(|message| message.role == Role::Tool)?;
        Some(Self::of(&failure_in(&last.text())?, None, key))
    }

    /// The signature of a failure whose class the caller named itself.
    pub fn named(class: ErrorClass, code: Option<u16>, message: &str, key: &Key) -> Self {
        Self { class, code, ..Self::of(message, code, key) }
    }
}

/// A number from 400 to 599 that stands alone.
fn status_code(message: &str) -> Option<u16> {
    let words = message.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|w| w.len() == 3).find_map(|w| w.parse().ok().filter(|n| (400..600).contains(n)))
}

/// The message with everything that can be a value replaced: quoted text, and words that are not
/// letters only. What is left is how the program phrases this failure, whoever it happens to.
/// Source of the idea: He et al., "Drain: An Online Log Parsing Approach with Fixed Depth Tree"
/// (2017).
fn template(lower: &str) -> String {
    let mut plain = String::new();
    let mut quote: Option<char> = None;
    for c in lower.chars() {
        match quote {
            Some(end) if c == end => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '`' | '«') => {
                quote = Some(if c == '«' { '»' } else { c });
                plain.push_str(" * ");
            }
            None => plain.push(c),
        }
    }
    let mut words: Vec<&str> = Vec::new();
    for word in plain.split_whitespace() {
        let bare = word.trim_matches(|c: char| c.is_ascii_punctuation() && c != '*');
        let is_word = !bare.is_empty() && bare.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        let word = if is_word { bare } else { "*" };
        if word != "*" || words.last() != Some(&"*") {
            words.push(word);
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_do_not_make_another_failure_and_words_do() {
        let key = Key::from_bytes([7; 32]);
        let of = |text: &str| ErrorSignature::of(text, None, &key);
        let one = of("Order \"A-1\" not found (404)");
        assert_eq!(one, of("order \"B 22 x\" not found (404)"));
        assert_eq!((one.class, one.code), (ErrorClass::NotFound, Some(404)));
        assert_ne!(one, of("customer \"A-1\" not found (404)"));
        assert_ne!(
            one,
            ErrorSignature::of("Order \"A-1\" not found (404)", None, &Key::from_bytes([8; 32]))
        );
        assert_eq!(of("upstream timed out after 300 s").class, ErrorClass::Timeout);
        assert_eq!(of("element #buy is not visible").class, ErrorClass::NotVisible);
        assert_eq!(template("no row id-77 for 12 of ada@x.org today"), "no row * for * of * today");
    }
}
