//! International bank account numbers: country, length and checksum must all agree (ISO 13616).

use std::sync::LazyLock;

use regex::Regex;

use crate::{Kind, Span};

/// Each country's code and the characters in its account numbers.
const LENGTHS: &str = "\
    AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 \
    EE20 EG29 ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 \
    IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MR27 MT31 MU30 \
    NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SD18 SE24 SI19 SK24 SM27 ST25 SV28 \
    TL23 TN24 TR26 UA29 VG24";

pub(super) fn find(text: &str, found: &mut Vec<Span>) {
    static OPENING: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b[A-Za-z]{2}[0-9]{2}").expect("is a valid pattern"));
    for opening in OPENING.find_iter(text) {
        let start = opening.start();
        let country = text[start..start + 2].to_ascii_uppercase();
        let listed = LENGTHS.split(' ').find_map(|entry| entry.strip_prefix(country.as_str()));
        let Some(length) = listed.and_then(|length| length.parse().ok()) else { continue };
        if let Some(end) = end_of_account(text, start, length) {
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
