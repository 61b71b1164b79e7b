//! Duplicates after redaction: rows that teach the same, and rows that all but do.

use std::collections::HashSet;

use understudy_manifest::Dedupe;

use crate::{
    components::Components,
    ledger::{Ledger, Tally},
    minhash::{self, Sketch},
    row::RowKind,
    written::Written,
};

/// Keeps the oldest of each: a row that stays is what keeps a session in its split from one
/// version to the next.
pub(crate) fn dedupe(rows: &mut Vec<Written>, how: Dedupe, ledger: &mut Ledger) {
    let before = rows.len();
    let mut seen = HashSet::new();
    let mut tally = Tally::default();
    rows.retain(|row| {
        let is_new = seen.insert(row.content);
        if !is_new {
            tally.add(row.kind.as_str());
        }
        is_new
    });
    if how == Dedupe::Near {
        let exact = rows.len();
        keep_the_first_of_near_ones(rows);
        tally.add_many("near", (exact - rows.len()) as u64);
    }
    ledger.close("dedupe", before, rows.len(), tally);
}

fn keep_the_first_of_near_ones(rows: &mut Vec<Written>) {
    let mut near = Components::apart(rows.len());
    for (one, other) in minhash::ties(rows.len(), |nth| class(&rows[nth])) {
        near.join(one, other);
    }
    let mut firsts = near.firsts().into_iter().enumerate();
    rows.retain(|_| firsts.next().is_none_or(|(nth, first)| nth == first));
}

/// Only rows of one kind repeat each other, and of labels only those that say the same.
fn class(row: &Written) -> Option<(u8, &Sketch)> {
    let class = match (row.kind, row.label) {
        (RowKind::Sft, _) => 0,
        (RowKind::Pairs, _) => 1,
        (RowKind::Labels, Some(true)) => 2,
        (RowKind::Labels, _) => 3,
        (RowKind::Prompts, _) => 4,
        (RowKind::Groups, _) => return None,
    };
    Some((class, row.sketch.as_deref()?))
}
