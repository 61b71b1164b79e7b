//! What changed between two versions.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use understudy_ident::{DatasetVersion, Digest};

use crate::{DatasetError, FrozenDataset};

/// Rows compare by what they teach and where they came from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatasetDiff {
    pub before: DatasetVersion,
    pub after: DatasetVersion,
    /// One for each file that either has.
    pub files: Vec<FileDiff>,
    /// The manifest entries that differ, files and stage counts left out.
    pub settings: Vec<SettingDiff>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileDiff {
    pub path: String,
    pub kept: u64,
    pub added: u64,
    pub removed: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SettingDiff {
    pub name: String,
    pub before: Value,
    pub after: Value,
}

impl DatasetDiff {
    pub(crate) fn between(
        before: &FrozenDataset,
        after: &FrozenDataset,
    ) -> Result<Self, DatasetError> {
        let paths = |version: &FrozenDataset| -> Vec<String> {
            version.manifest().files.iter().map(|file| file.path.clone()).collect()
        };
        let mut all = paths(before);
        all.extend(paths(after));
        all.sort();
        all.dedup();
        let files = all.into_iter().map(|path| file_diff(path, before, after));
        Ok(Self {
            before: before.version().clone(),
            after: after.version().clone(),
            files: files.collect::<Result<_, _>>()?,
            settings: settings_diff(before, after),
        })
    }

    pub fn is_empty(&self) -> bool {
        self.before == self.after
    }
}

fn file_diff(
    path: String,
    before: &FrozenDataset,
    after: &FrozenDataset,
) -> Result<FileDiff, DatasetError> {
    // How often each line occurs before, minus how often it does after.
    let mut balance: BTreeMap<Digest, i64> = BTreeMap::new();
    let mut count = |version: &FrozenDataset, step: i64| -> Result<u64, DatasetError> {
        if !version.manifest().files.iter().any(|file| file.path == path) {
            return Ok(0);
        }
        let text = version.text(&path)?;
        for line in text.lines() {
            *balance.entry(Digest::of(line.as_bytes())).or_default() += step;
        }
        Ok(text.lines().count() as u64)
    };
    let total = count(before, 1)?;
    count(after, -1)?;
    let sum = |sign: i64| balance.values().map(|n| (n * sign).max(0).unsigned_abs()).sum::<u64>();
    let (removed, added) = (sum(1), sum(-1));
    Ok(FileDiff { path, kept: total - removed, added, removed })
}

fn settings_diff(before: &FrozenDataset, after: &FrozenDataset) -> Vec<SettingDiff> {
    let settings = |version: &FrozenDataset| {
        let manifest = serde_json::to_value(version.manifest()).unwrap_or_default();
        let mut map = manifest.as_object().cloned().unwrap_or_default();
        // The settings one by one; what the manifest itself says of them it says here as well.
        let data = map.remove("data").and_then(|data| data.as_object().cloned());
        let own = data.into_iter().flatten().filter(|(name, _)| !map.contains_key(name));
        let own: Vec<_> = own.map(|(name, value)| (format!("data.{name}"), value)).collect();
        map.extend(own);
        map.retain(|name, _| {
            !["files", "stages", "redacted", "calibration", "leakage"].contains(&name.as_str())
        });
        map
    };
    let (before, after) = (settings(before), settings(after));
    let changed = before.into_iter().filter_map(|(name, before)| {
        let after = after.get(&name).cloned().unwrap_or_default();
        (before != after).then_some(SettingDiff { name, before, after })
    });
    changed.collect()
}
