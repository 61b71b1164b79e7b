//! Exact duplicates: rows that teach the same after redaction.

use std::collections::BTreeSet;

use crate::{
    ledger::{Ledger, Tally},
    written::Written,
};

/// Keeps the oldest of each: a row that stays is what keeps a session in its split from one
/// version to the next.
pub(crate) fn dedupe(rows: &mut Vec<Written>, ledger: &mut Ledger) {
    let before = rows.len();
    let mut seen = BTreeSet::new();
    let mut tally = Tally::default();
    rows.retain(|row| {
        let is_new = seen.insert(row.content);
        if !is_new {
            tally.add(row.kind.as_str());
        }
        is_new
    });
    ledger.close("dedupe", before, rows.len(), tally);
}
