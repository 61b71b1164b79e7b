//! What changed between two versions.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};
use understudy_ident::{DatasetVersion, Digest};

use crate::{DatasetError, FrozenDataset};

/// Rows compare by what they teach and where they came from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatasetDiff {
    pub before: DatasetVersion,
    pub after: DatasetVersion,
    /// One for each file that either has.
    pub files: Vec<FileDiff>,
    /// The manifest entries that differ, files and counts left out.
    pub settings: Vec<SettingDiff>,
    /// What the stages counted that differs.
    pub counts: Vec<CountDiff>,
}

/// How often a stage had a reason to leave a row out or to add one. A stage that a version did not
/// have counted nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CountDiff {
    pub stage: String,
    pub reason: String,
    pub before: u64,
    pub after: u64,
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
            counts: counts_diff(before, after),
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
        map.retain(|name, _| !FOUND.contains(&name.as_str()));
        map
    };
    let (before, after) = (settings(before), settings(after));
    // A setting that is not there is at its default, in either.
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = names.into_iter().filter_map(|name| {
        let of = |map: &Map<String, Value>| map.get(name).cloned().unwrap_or_default();
        let (before, after, name) = (of(&before), of(&after), name.clone());
        (before != after).then_some(SettingDiff { name, before, after })
    });
    changed.collect()
}

/// What a manifest says that was found and not set.
const FOUND: [&str; 7] =
    ["files", "stages", "redacted", "calibration", "leakage", "balance", "population"];

fn counts_diff(before: &FrozenDataset, after: &FrozenDataset) -> Vec<CountDiff> {
    let mut stages: Vec<&str> = Vec::new();
    let mut counts: BTreeMap<(usize, &str), (u64, u64)> = BTreeMap::new();
    for (version, is_after) in [(before, false), (after, true)] {
        for stage in &version.manifest().stages {
            let known = stages.iter().position(|name| *name == stage.stage);
            let place = known.unwrap_or(stages.len());
            if known.is_none() {
                stages.push(&stage.stage);
            }
            for (reason, count) in &stage.reasons {
                let (before, after) = counts.entry((place, reason)).or_default();
                *(if is_after { after } else { before }) += count;
            }
        }
    }
    let told = counts.into_iter().filter(|(_, (before, after))| before != after);
    let diff = |((place, reason), (before, after)): ((usize, &str), (u64, u64))| CountDiff {
        stage: stages[place].to_owned(),
        reason: reason.to_owned(),
        before,
        after,
    };
    told.map(diff).collect()
}
