//! Keeping held-out cases out of the rows.

use crate::{
    SuiteFingerprints,
    error::DatasetError,
    ledger::{Ledger, Tally},
    written::Written,
};

/// Drops the rows that repeat a case of any suite.
pub(crate) fn decontaminate(rows: &mut Vec<Written>, ledger: &mut Ledger) {
    let before = rows.len();
    let mut tally = Tally::default();
    rows.retain(|row| {
        if let Some(how) = row.repeats {
            tally.add(how);
        }
        row.repeats.is_none()
    });
    ledger.close("decontaminate", before, rows.len(), tally);
}

/// The last word before anything is written: whatever the stages did, an exact copy of a held-out
/// case stops the build.
pub(crate) fn assert_clean(
    rows: &[Written],
    suites: &[SuiteFingerprints],
) -> Result<(), DatasetError> {
    for suite in suites {
        let leaked = rows.iter().filter(|row| row.leaks == Some(suite.suite())).count();
        if leaked > 0 {
            return Err(DatasetError::Leak { suite: suite.suite(), rows: leaked });
        }
    }
    Ok(())
}
