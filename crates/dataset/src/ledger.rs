//! What every stage did, kept for the manifest.

use std::collections::BTreeMap;

use understudy_manifest::StageCount;

/// The stages so far, in order.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    stages: Vec<StageCount>,
}

/// Counts by reason within one stage.
#[derive(Debug, Default)]
pub(crate) struct Tally(BTreeMap<String, u64>);

impl Tally {
    pub(crate) fn add(&mut self, reason: &str) {
        self.add_many(reason, 1);
    }

    /// Adding none leaves no trace: a manifest lists only what happened.
    pub(crate) fn add_many(&mut self, reason: &str, count: u64) {
        if count > 0 {
            *self.0.entry(reason.to_owned()).or_default() += count;
        }
    }
}

impl Ledger {
    pub(crate) fn close(&mut self, stage: &str, rows_in: usize, rows_out: usize, tally: Tally) {
        self.stages.push(StageCount {
            stage: stage.to_owned(),
            rows_in: rows_in as u64,
            rows_out: rows_out as u64,
            reasons: tally.0,
        });
    }

    pub(crate) fn into_stages(self) -> Vec<StageCount> {
        self.stages
    }
}
