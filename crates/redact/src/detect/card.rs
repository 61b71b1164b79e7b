//! Payment cards: an issuer's prefix and length, a printed grouping and the Luhn checksum.

use std::{ops::RangeInclusive, sync::LazyLock};

use regex::Regex;

use super::context;
use crate::{Kind, Span};

/// Words that make a number of an uncommon issuer credible.
const CARD_WORDS: &str = "\
    card cards credit debit visa mastercard amex maestro diners discover jcb cc pan";

pub(super) fn find(text: &str, found: &mut Vec<Span>) {
    static RUN: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("[0-9]+(?:[ -][0-9]+)*").expect("is a valid pattern"));
    for run in RUN.find_iter(text) {
        let mut groups: Vec<(usize, usize)> = Vec::new();
        let mut at = run.start();
        for group in run.as_str().split([' ', '-']) {
            groups.push((at, at + group.len()));
            at += group.len() + 1;
        }
        let mut first = 0;
        while first < groups.len() {
            let taken = card_at(text, &groups[first..]).unwrap_or(0);
            if taken > 0 {
                let (start, end) = (groups[first].0, groups[first + taken - 1].1);
                found.push(Span { kind: Kind::Card, start, end });
            }
            first += taken.max(1);
        }
    }
}

/// How many of the leading groups make up a card.
fn card_at(text: &str, groups: &[(usize, usize)]) -> Option<usize> {
    let lengths: Vec<usize> = groups.iter().map(|(start, end)| end - start).collect();
    let taken = match lengths.as_slice() {
        [12..=19, ..] => 1,
        [4, 4, 4, 4, 3, ..] if is_card(text, &groups[..5]) => 5,
        [4, 4, 4, 4, ..] => 4,
        [4, 6, 4 | 5, ..] => 3,
        _ => return None,
    };
    is_card(text, &groups[..taken]).then_some(taken)
}

fn is_card(text: &str, groups: &[(usize, usize)]) -> bool {
    let (Some(first), Some(last)) = (groups.first(), groups.last()) else { return false };
    let (start, end) = (first.0, last.1);
    let glued = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if glued(text[..start].chars().next_back()) || glued(text[end..].chars().next()) {
        return false;
    }
    let number: String = text[start..end].chars().filter(char::is_ascii_digit).collect();
    let speaks_of_cards = || context::mentions(text, start, end, CARD_WORDS);
    let issued =
        |issuer: &Issuer| issuer.gives_out(&number) && (!issuer.needs_word || speaks_of_cards());
    luhn(&number) && ISSUERS.iter().any(issued)
}

/// Which numbers an issuer gives out.
struct Issuer {
    lengths: RangeInclusive<usize>,
    /// The first and the last prefix, equally long.
    prefixes: (&'static str, &'static str),
    /// Prefixes so wide, or lengths so like article and account numbers, that the text has to
    /// speak of cards as well: one number in ten passes the checksum by chance.
    needs_word: bool,
}

const ISSUERS: [Issuer; 16] = [
    // Visa
    common(16..=16, "4", "4"),
    rare(13..=13, "4", "4"),
    rare(19..=19, "4", "4"),
    // Mastercard
    common(16..=16, "51", "55"),
    common(16..=16, "2221", "2720"),
    // American Express
    common(15..=15, "34", "34"),
    common(15..=15, "37", "37"),
    // Discover
    common(16..=16, "6011", "6011"),
    common(16..=16, "644", "659"),
    // JCB
    common(16..=16, "3528", "3589"),
    rare(16..=16, "35", "35"),
    rare(15..=15, "1800", "1800"),
    rare(15..=15, "2131", "2131"),
    // Diners Club
    common(14..=14, "300", "305"),
    common(14..=14, "36", "39"),
    // Maestro and UnionPay
    rare(12..=19, "50", "69"),
];

const fn common(lengths: RangeInclusive<usize>, first: &'static str, last: &'static str) -> Issuer {
    Issuer { lengths, prefixes: (first, last), needs_word: false }
}

const fn rare(lengths: RangeInclusive<usize>, first: &'static str, last: &'static str) -> Issuer {
    Issuer { lengths, prefixes: (first, last), needs_word: true }
}

impl Issuer {
    fn gives_out(&self, number: &str) -> bool {
        let (first, last) = self.prefixes;
        let prefix = &number[..first.len()];
        self.lengths.contains(&number.len()) && first <= prefix && prefix <= last
    }
}

/// From the right, every second digit is doubled and its own digits summed; the total ends in 0.
fn luhn(number: &str) -> bool {
    let digits = number.chars().rev().filter_map(|c| c.to_digit(10));
    let terms = digits.enumerate().map(|(nth, digit)| match (nth % 2, digit) {
        (0, digit) => digit,
        (_, 0..=4) => digit * 2,
        _ => digit * 2 - 9,
    });
    terms.sum::<u32>().is_multiple_of(10)
}
