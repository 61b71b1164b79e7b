//! Frozen versions that hold the cases of a suite made after them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use understudy_ident::DatasetVersion;
use understudy_manifest::Split;
use understudy_message::Message;

use crate::{
    DatasetError, FrozenDataset, SuiteFingerprints, SuiteMeanings, draft::file_name, row::RowKind,
};

/// How many rows of a version repeat a case. What was trained on them has seen the case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contamination {
    pub version: DatasetVersion,
    pub rows: u64,
    /// The same by how they repeat it.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Rows that hold token ids only, which cannot be compared with texts.
    pub unread: u64,
}

/// All that matters of a row here, whatever it teaches.
#[derive(Debug, Deserialize)]
struct Asked {
    prompt: Vec<Message>,
}

impl FrozenDataset {
    /// Looks for the cases of a suite in every row, of both splits; with `meanings` for such in other
    /// words as well, which takes milliseconds a row.
    pub fn contamination(
        &self,
        suite: &SuiteFingerprints,
        meanings: Option<&SuiteMeanings<'_>>,
    ) -> Result<Contamination, DatasetError> {
        let mut found = Contamination {
            version: self.version().clone(),
            rows: 0,
            reasons: BTreeMap::new(),
            unread: 0,
        };
        let files = RowKind::ALL
            .into_iter()
            .flat_map(|kind| [Split::Train, Split::Dev].map(|split| (kind, split)));
        for (kind, split) in files {
            let rows = self.manifest().rows(&file_name(kind, split));
            if kind == RowKind::Groups {
                found.unread += rows;
            } else if rows > 0 {
                let asked = self.rows::<Asked>(kind, split)?;
                let (by_words, others): (Vec<_>, Vec<_>) = asked
                    .iter()
                    .map(|row| (suite.find(&row.prompt), row))
                    .partition(|it| it.0.is_some());
                by_words.iter().filter_map(|(how, _)| *how).for_each(|how| found.add(how, 1));
                if let Some(meanings) = meanings {
                    let prompts = others.iter().map(|(_, row)| &row.prompt[..]);
                    found.add("meaning", meanings.count(prompts)?);
                }
            }
        }
        Ok(found)
    }
}

impl Contamination {
    fn add(&mut self, how: &'static str, rows: u64) {
        if rows > 0 {
            self.rows += rows;
            *self.reasons.entry(how).or_default() += rows;
        }
    }
}
