//! Addresses of machines, which stand for their users' households.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use regex::Regex;

use super::context;
use crate::{Kind, Span};

/// Before four numbers with dots, they say that it is no address.
const VERSIONS: &str = "v version versions release build section chapter";

pub(super) fn find(text: &str, found: &mut Vec<Span>) {
    static FOUR: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}").expect("is a valid pattern"));
    static SIX: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new("[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}").expect("is a valid pattern")
    });
    for address in FOUR.find_iter(text) {
        let (start, end) = (address.start(), address.end());
        let nearest = context::words_before(text, start).into_iter().next();
        let is_version = nearest.is_some_and(|word| context::lists(VERSIONS, &word));
        let is_personal =
            |ip: Ipv4Addr| !ip.is_loopback() && !ip.is_unspecified() && !ip.is_broadcast();
        if !is_version
            && is_alone(text, start, end)
            && address.as_str().parse().is_ok_and(is_personal)
        {
            found.push(Span { kind: Kind::Ip, start, end });
        }
    }
    for address in SIX.find_iter(text) {
        let (start, end) = (address.start(), address.end());
        // `dead::beef` may as well be a name in a program.
        let groups = address.as_str().split(':').filter(|group| !group.is_empty()).count();
        let has_digit = address.as_str().bytes().any(|byte| byte.is_ascii_digit());
        let is_address = address.as_str().parse::<Ipv6Addr>().is_ok();
        if groups >= 3 && has_digit && is_address && is_alone(text, start, end) {
            found.push(Span { kind: Kind::Ip, start, end });
        }
    }
}

/// A full stop may end the sentence, but not go on with another number.
fn is_alone(text: &str, start: usize, end: usize) -> bool {
    let glued = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ':'));
    let mut after = text[end..].chars();
    let next = after.next();
    let goes_on = next == Some('.') && after.next().is_some_and(|c| c.is_ascii_digit());
    let before = text[..start].chars().next_back();
    // `10.0.0.1:8080` has a port.
    let has_port = next == Some(':') && !text[start..end].contains(':');
    !(glued(before) && before != Some(':'))
        && before != Some('.')
        && !goes_on
        && (!glued(next) || has_port)
}
