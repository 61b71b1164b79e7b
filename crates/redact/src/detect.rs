//! The detectors, and who wins where they overlap.

mod card;
mod context;
mod email;
mod iban;
mod ip;
mod phone;
mod secret;
mod ssn;
mod url;

use crate::Span;

/// Everything found, in order and without overlaps.
pub(crate) fn all(text: &str) -> Vec<Span> {
    let mut found = Vec::new();
    secret::find(text, &mut found);
    iban::find(text, &mut found);
    email::find(text, &mut found);
    card::find(text, &mut found);
    ssn::find(text, &mut found);
    ip::find(text, &mut found);
    url::find(text, &mut found);
    phone::find(text, &mut found);
    // Stable, so that within a kind the detector's own preference is kept.
    found.sort_by_key(|span| span.kind);
    let mut kept: Vec<Span> = Vec::new();
    for span in found {
        if kept.iter().all(|other| span.end <= other.start || other.end <= span.start) {
            kept.push(span);
        }
    }
    kept.sort_by_key(|span| span.start);
    kept
}
