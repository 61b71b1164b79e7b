//! International bank account numbers: country, length and checksum must all agree (ISO 13616).

use std::sync::LazyLock;

use regex::Regex;

use crate::{Kind, Span};

/// Characters in an account number of each country.
const LENGTHS: [(&str, usize); 77] = [
    ("AD", 24),
    ("AE", 23),
    ("AL", 28),
    ("AT", 20),
    ("AZ", 28),
    ("BA", 20),
    ("BE", 16),
    ("BG", 22),
    ("BH", 22),
    ("BR", 29),
    ("BY", 28),
    ("CH", 21),
    ("CR", 22),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DK", 18),
    ("DO", 28),
    ("EE", 20),
    ("EG", 29),
    ("ES", 24),
    ("FI", 18),
    ("FO", 18),
    ("FR", 27),
    ("GB", 22),
    ("GE", 22),
    ("GI", 23),
    ("GL", 18),
    ("GR", 27),
    ("GT", 28),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IL", 23),
    ("IQ", 23),
    ("IS", 26),
    ("IT", 27),
    ("JO", 30),
    ("KW", 30),
    ("KZ", 20),
    ("LB", 28),
    ("LC", 32),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("LY", 25),
    ("MC", 27),
    ("MD", 24),
    ("ME", 22),
    ("MK", 19),
    ("MR", 27),
    ("MT", 31),
    ("MU", 30),
    ("NL", 18),
    ("NO", 15),
    ("PK", 24),
    ("PL", 28),
    ("PS", 29),
    ("PT", 25),
    ("QA", 29),
    ("RO", 24),
    ("RS", 22),
    ("SA", 24),
    ("SC", 31),
    ("SD", 18),
    ("SE", 24),
    ("SI", 19),
    ("SK", 24),
    ("SM", 27),
    ("ST", 25),
    ("SV", 28),
    ("TL", 23),
    ("TN", 24),
    ("TR", 26),
    ("UA", 29),
    ("VG", 24),
];

pub(super) fn find(text: &str, found: &mut Vec<Span>) {
    static OPENING: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b[A-Za-z]{2}[0-9]{2}").expect("is a valid pattern"));
    for opening in OPENING.find_iter(text) {
        let start = opening.start();
        let country = text[start..start + 2].to_ascii_uppercase();
        let Some((_, length)) = LENGTHS.iter().find(|(known, _)| *known == country) else {
            continue;
        };
        if let Some(end) = end_of_account(text, start, *length) {
            found.push(Span { kind: Kind::Iban, start, end });
        }
    }
}

/// Where `length` letters and digits from `start` end, if they are alone and the checksum holds.
/// Groups may be set apart by single spaces.
fn end_of_account(text: &str, start: usize, length: usize) -> Option<usize> {
    let mut account = String::with_capacity(length);
    let mut after_space = false;
    for (at, c) in text[start..].char_indices() {
        if account.len() == length {
            let alone = !c.is_alphanumeric();
            return (alone && is_valid(&account)).then_some(start + at);
        }
        match c {
            ' ' if !after_space => after_space = true,
            c if c.is_ascii_alphanumeric() => {
                after_space = false;
                account.push(c.to_ascii_uppercase());
            }
            _ => return None,
        }
    }
    (account.len() == length && is_valid(&account)).then_some(text.len())
}

/// The number read with its first four characters last, letters as 10 to 35, is 1 modulo 97.
fn is_valid(account: &str) -> bool {
    let (head, tail) = account.split_at(4);
    let remainder = tail.chars().chain(head.chars()).try_fold(0u32, |remainder, c| {
        let value = c.to_digit(36)?;
        Some(if value < 10 { remainder * 10 + value } else { remainder * 100 + value } % 97)
    });
    remainder == Some(1)
}
