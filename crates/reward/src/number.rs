//! Numbers in running text, as people and models write them.

use std::sync::LazyLock;

use regex::Regex;

/// Digits, perhaps with commas between thousands, a fraction and an exponent.
static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = r"(?:\d{1,3}(?:,\d{3})+\b|\d+)(?:\.\d+)?(?:[eE][+-]?\d+)?|\.\d+";
    Regex::new(pattern).expect("the pattern is fixed and valid")
});

/// The last number of a text: 1234.5 in `"so it costs $1,234.50."`. A minus counts as a sign unless
/// it follows a letter, a digit or a closing bracket, as in `A-17` or `9-4`.
pub fn last_number(text: &str) -> Option<f64> {
    let found = NUMBER.find_iter(text).last()?;
    let value: f64 = found.as_str().replace(',', "").parse().ok()?;
    let before = text[..found.start()].trim_end_matches(['$', '€', '£']);
    let sign = before.strip_suffix(['-', '\u{2212}']).map(|rest| rest.chars().next_back());
    let is_operator = |c: char| c.is_alphanumeric() || matches!(c, ')' | ']' | '-');
    let negative = sign.is_some_and(|before| !before.is_some_and(is_operator));
    value.is_finite().then_some(if negative { -value } else { value })
}

/// Whether two numbers differ by no more than `tolerance`.
pub fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a - b).abs() <= tolerance
}
