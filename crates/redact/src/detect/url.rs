//! Addresses of pages: profiles, shared files and sites of one's own, which cannot be told from any
//! other page by their looks.

use std::sync::LazyLock;

use regex::Regex;

use crate::{Kind, Span};

pub(super) fn find(text: &str, found: &mut Vec<Span>) {
    static ADDRESS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?i)(?:\b(?:https?|ftp)://|\bwww\.)[\p{L}\p{N}][^\s<>"'|\\^`{}]*"#)
            .expect("is a valid pattern")
    });
    for address in ADDRESS.find_iter(text) {
        let whole = address.as_str();
        // A sentence ends behind it, or a bracket around it.
        let mut end = whole.trim_end_matches(['.', ',', ';', ':', '!', '?', '*', ']']);
        while end.ends_with(')') && end.matches(')').count() > end.matches('(').count() {
            end = &end[..end.len() - 1];
        }
        let host = end.split("://").last().unwrap_or_default();
        // This machine is nobody's.
        let is_local = ["localhost", "127.0.0.1", "0.0.0.0"].iter().any(|name| {
            host.strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/', '?', '#']))
        });
        if !is_local && host.contains('.') {
            let start = address.start();
            found.push(Span { kind: Kind::Url, start, end: start + end.len() });
        }
    }
}
