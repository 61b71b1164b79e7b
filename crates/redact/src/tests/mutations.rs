//! The short form of the fuzz target `redact`: texts with much in them, damaged.

use super::*;

const TEXTS: [&str; 6] = [
    "Call +1 (415) 555-2671 or write to jo.bloggs+x@mail.example.co.uk from 192.168.17.4, or ::1.",
    r#"{"card": 4111111111111111, "iban": "DE89 3704 0044 0532 0130 00", "nested": "{\"ssn\": \"078-05-1121\"}"}"#,
    "see https://user:secret@example.org:8443/a/b?c=d#e, <EMAIL_7> and <PHONE_999999>",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----\npassword=hunter2 sk-abcdefghijklmnopqrstuvwxyz0123456789",
    r#"[{"phone": "030 / 1234567"}, ["\u00e4@b\u00fccher.example", 20260101], null, true, -1e5]"#,
    "4111 1111 1111 1111\u{a0}4111-1111-1111-1112 GB82WEST12345698765432 2001:db8::1 \u{202e}txt",
];

#[test]
fn no_damage_makes_masking_loop_slip_or_break_json() {
    let mut random = ChaCha8Rng::seed_from_u64(31);
    let copies = std::env::var("UNDERSTUDY_MUTATIONS").ok().and_then(|text| text.parse().ok());
    let (mut masked_any, mut json) = (0, 0);
    for text in TEXTS {
        assert_ne!(mask(text), text, "there is something in each of them");
        for _ in 0..copies.unwrap_or(400) {
            let text = damaged(text, &mut random);
            let mut masker = Redactor::new(Policy::Standard).masker();
            let masked = masker.mask(&text);
            assert_eq!(masker.mask(&masked), masked, "{text:?}");
            masked_any += usize::from(masked != text);
            if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
                json += 1;
                assert!(serde_json::from_str::<serde_json::Value>(&masked).is_ok(), "{masked:?}");
            }
        }
    }
    assert!(masked_any > 500 && json > 30, "{masked_any} masked, {json} of them JSON");
}

fn damaged(text: &str, random: &mut ChaCha8Rng) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..random.random_range(1..5) {
        let at = random.random_range(0..chars.len());
        match random.random_range(0..4) {
            0 => {
                chars[at] = ['0', '@', '.', '-', '"', '{', '\\', ':', 'ß', '\u{0}']
                    [random.random_range(0..10)];
            }
            1 => drop(chars.remove(at)),
            2 => {
                let other: Vec<char> = TEXTS[random.random_range(0..TEXTS.len())].chars().collect();
                let from = random.random_range(0..other.len());
                let to = (from + random.random_range(0..30)).min(other.len());
                chars.splice(at..at, other[from..to].iter().copied());
            }
            _ => {
                let end = (at + random.random_range(0..20)).min(chars.len());
                let again: Vec<char> = chars[at..end].to_vec();
                chars.splice(at..at, again);
            }
        }
        if chars.is_empty() {
            chars.push(' ');
        }
    }
    chars.into_iter().collect()
}
