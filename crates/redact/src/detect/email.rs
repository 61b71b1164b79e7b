//! E-mail addresses.

use std::sync::LazyLock;

use regex::Regex;

use crate::{Kind, Span};

pub(super) fn find(text: &str, found: &mut Vec<Span>) {
    static ADDRESS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"[\p{L}\p{N}][\p{L}\p{N}._%+'-]*@(?:[\p{L}\p{N}](?:[\p{L}\p{N}-]*[\p{L}\p{N}])?\.)+\p{L}{2,24}",
        )
        .expect("is a valid pattern")
    });
    for address in ADDRESS.find_iter(text) {
        let ending = address.as_str().rsplit('.').next().unwrap_or_default();
        // `logo@2x.png` is a file.
        if !["png", "jpg", "jpeg", "gif", "svg", "webp"].contains(&ending) {
            let (start, end) = (address.start(), address.end());
            found.push(Span { kind: Kind::Email, start, end });
        }
    }
}
