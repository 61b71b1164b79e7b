//! Keeping held-out cases out of the rows.

use crate::{
    SuiteFingerprints,
    error::DatasetError,
    ledger::{Ledger, Tally},
    row::{Row, RowKind},
};

/// Drops the rows that repeat a case of any suite.
pub(crate) fn decontaminate(
    rows: &mut Vec<Row>,
    suites: &[SuiteFingerprints],
    ledger: &mut Ledger,
) {
    let before = rows.len();
    let mut tally = Tally::default();
    // The rows of one step stand together and share its prompt.
    let mut last = None;
    rows.retain(|row| {
        // A group may hold more spellings of the prompt than its step does.
        let step = (row.candidate, row.kind() == RowKind::Groups);
        let how = match last {
            Some((judged, how)) if judged == step => how,
            _ => suites.iter().find_map(|suite| row.prompts().find_map(|p| suite.find(p))),
        };
        last = Some((step, how));
        if let Some(how) = how {
            tally.add(how);
        }
        how.is_none()
    });
    ledger.close("decontaminate", before, rows.len(), tally);
}

/// The last word before anything is written: whatever the stages did, an exact copy of a held-out
/// case stops the build.
pub(crate) fn assert_clean(rows: &[Row], suites: &[SuiteFingerprints]) -> Result<(), DatasetError> {
    for suite in suites {
        let leaked =
            rows.iter().filter(|row| row.prompts().any(|p| suite.holds_exactly(p))).count();
        if leaked > 0 {
            return Err(DatasetError::Leak { suite: suite.suite(), rows: leaked });
        }
    }
    Ok(())
}
