//! How far an edit goes, and what it therefore teaches: a slip that was corrected shows what to
//! prefer, and a text that was written anew only what to say.

use understudy_message::Message;
use understudy_redact::{Kind, Masker, without_numbers};
use understudy_trajectory::words_changed;

use crate::language;

/// Below this share of changed words the reply was used as it was.
const TRIFLE: f64 = 0.02;
/// Above this share nothing tells that both texts answer the same request.
const REWRITE: f64 = 0.6;
/// The share from which on a pair counts in full.
const FULL_MARGIN: f64 = 0.3;
/// An edit that leaves less than this is a deletion.
const LEAST_LEFT: f64 = 0.2;
/// How much longer one side of a pair may be, so that length is not what is learnt.
const LENGTHS: std::ops::RangeInclusive<f64> = 0.5..=2.0;

/// What an edit teaches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Change {
    /// To prefer the edited text by this margin, and to imitate it.
    Correction { margin: f64 },
    /// To imitate the edited text; and why not to prefer it.
    Rewrite(&'static str),
    /// Nothing, and why.
    Nothing(&'static str),
}

/// Judges the edit of a reply, with the masker of its trajectory.
pub(crate) fn judge(reply: &Message, text: &str, masker: &Masker) -> Change {
    if text.trim().is_empty() {
        return Change::Nothing("edit_empty");
    }
    if !reply.tool_calls.is_empty() {
        // The edit is of the words beside a call; as a pair it would teach not to call.
        return Change::Nothing("edit_of_tool_calls");
    }
    let reply = reply.text();
    if without_personal_data(&reply, masker) == without_personal_data(text, masker) {
        return Change::Nothing("edit_of_personal_data");
    }
    if language::changes(&reply, text) {
        // As a pair it would teach the language, whatever else was mended.
        return Change::Nothing("edit_changes_language");
    }
    let (before, after) = (words(&reply), words(text));
    let length = after.len() as f64 / before.len().max(1) as f64;
    let share = changed(&before, &after);
    if length < LEAST_LEFT {
        Change::Nothing("edit_deletes_most")
    } else if share > REWRITE {
        Change::Rewrite("edit_rewrites")
    } else if !LENGTHS.contains(&length) {
        Change::Rewrite("edit_length_ratio")
    } else {
        Change::Correction { margin: (share / FULL_MARGIN).min(1.0) }
    }
}

/// Whether an edit changes next to nothing, spaces aside: clients report one when a text field was
/// saved.
pub(crate) fn is_trifle(reply: &str, text: &str) -> bool {
    changed(&words(reply), &words(text)) < TRIFLE
}

/// The words of a text with nothing in place of what is masked.
fn without_personal_data(text: &str, masker: &Masker) -> Vec<String> {
    let masked = masker.clone().mask(text);
    let blank = |text: String, kind: Kind| {
        text.replace(&format!("<{}>", kind.as_str().to_uppercase()), " ")
    };
    let left = Kind::ALL.into_iter().fold(without_numbers(&masked).into_owned(), blank);
    words(&left).into_iter().map(str::to_owned).collect()
}

/// Words and marks. Scripts without spaces are compared character by character.
fn words(text: &str) -> Vec<&str> {
    let joins = |c: char| c.is_alphanumeric() && c < '\u{2e80}';
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = if joins(first) {
            rest.find(|c| !joins(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (word, others) = rest.split_at(end);
        words.push(word);
        rest = others.trim_start();
    }
    words
}

/// The share of words that have to be changed, added or taken away, of the longer text.
fn changed(before: &[&str], after: &[&str]) -> f64 {
    words_changed(before, after) as f64 / before.len().max(after.len()).max(1) as f64
}
