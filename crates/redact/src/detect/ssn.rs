//! Numbers of the United States' social security.

use std::sync::LazyLock;

use regex::Regex;

use super::context;
use crate::{Kind, Span};

/// Words that make a number credible which is not set apart by hyphens.
const WORDS: &str = "ssn ssns social security";

pub(super) fn find(text: &str, found: &mut Vec<Span>) {
    static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new("([0-9]{3})([- ]?)([0-9]{2})([- ]?)([0-9]{4})").expect("is a valid pattern")
    });
    for number in NUMBER.captures_iter(text) {
        let (Some(whole), [area, first, group, second, serial]) =
            (number.get(0), number.extract().1)
        else {
            continue;
        };
        let (start, end) = (whole.start(), whole.end());
        // None was ever given out in these ranges.
        let is_issued =
            area != "000" && area != "666" && area < "900" && group != "00" && serial != "0000";
        let is_alone =
            !glued(text[..start].chars().next_back()) && !glued(text[end..].chars().next());
        let is_credible =
            first == second && (first == "-" || context::mentions(text, start, end, WORDS));
        if is_issued && is_alone && is_credible {
            found.push(Span { kind: Kind::Ssn, start, end });
        }
    }
}

fn glued(c: Option<char>) -> bool {
    c.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
}
