//! Keys, tokens, passwords and PEM blocks.

use std::{collections::BTreeMap, sync::LazyLock};

use regex::Regex;

use crate::{Kind, Span};

/// Keys whose issuer gave them a shape of their own.
const PROVIDERS: [&str; 14] = [
    r"\bsk-[A-Za-z0-9_-]{20,}",
    r"\b[rsp]k_(?:live|test)_[A-Za-z0-9]{16,}",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    r"\bgh[pousr]_[A-Za-z0-9]{36,}",
    r"\bgithub_pat_[A-Za-z0-9_]{22,}",
    r"\bglpat-[A-Za-z0-9_-]{20,}",
    r"\bxox[abeprs]-[A-Za-z0-9-]{10,}",
    r"\bAIza[A-Za-z0-9_-]{35}",
    r"\bya29\.[A-Za-z0-9_-]{20,}",
    r"\bhf_[A-Za-z0-9]{30,}",
    r"\bnpm_[A-Za-z0-9]{36}",
    r"\bdop_v1_[a-f0-9]{64}",
    r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    // A JSON web token.
    r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
];

/// A block without its last line was cut off, and is as secret as a whole one.
const PEM: &str = r"-----BEGIN [A-Z0-9 ]+-----(?s:.)*?(?:-----END [A-Z0-9 ]+-----|\z)";
const AUTHORIZATION: &str = r"(?i)\b(?:bearer|basic)\s+(?P<secret>[A-Za-z0-9._~+/=-]{12,})";
const IN_URL: &str = r"\b[a-z][a-z0-9+.-]*://[^\s:/@]*:(?P<secret>[^\s/@<]{3,})@";
/// `password=…`, `"api_key": "…"`, `SECRET_TOKEN: …`.
const NAMED: &str = concat!(
    r"(?i)(?P<name>pass(?:word|wd|phrase)|pwd|secret|api[_-]?key|access[_-]?key|private[_-]?key|",
    r#"token|auth|key)["'\\]*\s*[:=]\s*["'\\]*(?P<secret>[^\s"'\\,;<>(){}\[\]]{8,})"#,
);

pub(super) fn find(text: &str, found: &mut Vec<Span>) {
    static WHOLE: LazyLock<Vec<Regex>> =
        LazyLock::new(|| PROVIDERS.iter().chain([&PEM]).map(|pattern| compile(pattern)).collect());
    static VALUE: LazyLock<[Regex; 3]> =
        LazyLock::new(|| [AUTHORIZATION, IN_URL, NAMED].map(compile));
    let [authorization, in_url, named] = &*VALUE;

    let mut add = |m: regex::Match<'_>| {
        found.push(Span { kind: Kind::Secret, start: m.start(), end: m.end() });
    };
    for pattern in WHOLE.iter() {
        pattern.find_iter(text).for_each(&mut add);
    }
    for captures in authorization.captures_iter(text) {
        let secret = captures.name("secret");
        secret.filter(|m| looks_random(m.as_str(), 3.0)).into_iter().for_each(&mut add);
    }
    for captures in in_url.captures_iter(text) {
        captures.name("secret").into_iter().for_each(&mut add);
    }
    for captures in named.captures_iter(text) {
        // Session tokens and map keys are named alike, so these names need stronger evidence.
        let vague = ["token", "auth", "key"].contains(&captures["name"].to_lowercase().as_str());
        let (length, bits) = if vague { (16, 3.5) } else { (8, 2.5) };
        let secret = captures.name("secret");
        let secret = secret.filter(|m| {
            let random = m.len() >= length && looks_random(m.as_str(), bits);
            random || (!vague && is_one_long_word(m.as_str()))
        });
        secret.into_iter().for_each(&mut add);
    }
}

fn compile(pattern: &str) -> Regex {
    Regex::new(pattern).expect("is a valid pattern")
}

/// Not a word: letters mixed with digits or cases, and at least `bits` of entropy per character.
fn looks_random(value: &str, bits: f64) -> bool {
    let letters = value.chars().any(char::is_alphabetic);
    let digits = value.chars().any(|c| c.is_ascii_digit());
    let inner_capital = value.chars().skip(1).any(char::is_uppercase);
    let small = value.chars().any(char::is_lowercase);
    letters && (digits || (inner_capital && small)) && entropy(value) >= bits
}

/// Longer than words get: a key in hexadecimal or in small letters alone is not that random.
fn is_one_long_word(value: &str) -> bool {
    value.len() >= 24 && value.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Shannon entropy of the characters, in bits per character.
fn entropy(value: &str) -> f64 {
    let mut counts: BTreeMap<char, f64> = BTreeMap::new();
    for c in value.chars() {
        *counts.entry(c).or_default() += 1.0;
    }
    let length = value.chars().count() as f64;
    counts.values().map(|count| -(count / length) * (count / length).log2()).sum()
}
