//! How far an edit goes, and what it therefore teaches: a slip that was corrected shows what to
//! prefer, and a text that was written anew only what to say.

use std::collections::BTreeMap;

use understudy_message::Message;
use understudy_redact::{Kind, Masker, without_numbers};

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
/// Comparisons of two words, at most: some ten milliseconds. What differs in more places than that
/// is compared by which words occur, whatever their order.
const COMPARISONS: usize = 4_000_000;

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
    let longer = before.len().max(after.len()).max(1);
    let same = |(a, b): &(&&str, &&str)| a == b;
    let head = before.iter().zip(after).take_while(same).count();
    let (before, after) = (&before[head..], &after[head..]);
    let tail = before.iter().rev().zip(after.iter().rev()).take_while(same).count();
    let (before, after) = (&before[..before.len() - tail], &after[..after.len() - tail]);
    let distance = if before.len().saturating_mul(after.len()) <= COMPARISONS {
        distance(before, after)
    } else {
        before.len().max(after.len()) - in_common(before, after)
    };
    distance as f64 / longer as f64
}

/// Levenshtein's distance, a row of its table at a time.
fn distance(before: &[&str], after: &[&str]) -> usize {
    let mut row: Vec<usize> = (0..=after.len()).collect();
    for (nth, word) in before.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], nth + 1);
        for (place, other) in after.iter().enumerate() {
            let substituted = diagonal + usize::from(word != other);
            diagonal = row[place + 1];
            row[place + 1] = substituted.min(diagonal + 1).min(row[place] + 1);
        }
    }
    row[after.len()]
}

/// How many words of one text the other has as well, each as often as it has it.
fn in_common(before: &[&str], after: &[&str]) -> usize {
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for word in before {
        *left.entry(word).or_default() += 1;
    }
    let taken = after.iter().filter(|word| {
        left.get_mut(**word).is_some_and(|left| {
            let is_there = *left > 0;
            *left = left.saturating_sub(1);
            is_there
        })
    });
    taken.count()
}
