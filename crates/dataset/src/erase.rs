//! Taking a subject's rows out of frozen versions.
//!
//! A version cannot lose a row and stay what its name says. So the version goes: a successor without
//! the rows is frozen beside it, a note of what happened takes the place of its rows, and its
//! manifest stays, because adapters name it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use understudy_ident::DatasetVersion;
use understudy_manifest::{Origin, Split, StageCount, canonical_json};
use understudy_storage::atomic;

use crate::{
    DatasetError, Draft, FrozenDataset,
    error::Attempt,
    frozen::every,
    row::RowKind,
    spill::{Place, Spill},
};

/// Its presence says that the rows of a version are gone.
pub(crate) const TOMBSTONE: &str = "erased.json";

/// A version that is no more, as its tombstone tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedVersion {
    pub version: DatasetVersion,
    /// How many of its rows were the subject's.
    pub rows: u64,
    /// The version with all the other rows; none if there were no others.
    pub successor: Option<DatasetVersion>,
    /// What it was done for.
    pub erasure: String,
}

#[derive(Deserialize)]
struct Row {
    origin: Origin,
}

/// Erases every row that was made from one of these steps, in every version below `root`. Tells of
/// the versions that had any; called again, it also finishes what a crash interrupted.
pub fn erase(
    root: &Path,
    steps: &BTreeSet<String>,
    erasure: &str,
) -> Result<Vec<ErasedVersion>, DatasetError> {
    let mut erased = Vec::new();
    for version in every(root)? {
        if let Some(before) = tombstone(root, &version)? {
            destroy(root, &version)?;
            erased.extend((before.erasure == erasure).then_some(before));
            continue;
        }
        let frozen = FrozenDataset::find(root, &version)?;
        let rows = affected(&frozen, steps)?;
        if rows == 0 {
            continue;
        }
        let successor = successor(&frozen, steps, rows, root)?;
        let erasure = erasure.to_owned();
        let one = ErasedVersion { version, rows, successor, erasure };
        // From here on nobody opens it; the rows go afterwards, or when this is called again.
        let path = frozen.dir().join(TOMBSTONE);
        atomic::write(&path, format!("{}\n", canonical_json(&one)).as_bytes())?;
        destroy(root, &one.version)?;
        erased.push(one);
    }
    Ok(erased)
}

/// The versions whose rows a version has what is left of, after erasures: whoever is in it was in
/// them.
pub fn predecessors(
    root: &Path,
    version: &DatasetVersion,
) -> Result<Vec<DatasetVersion>, DatasetError> {
    let mut successor = BTreeMap::new();
    for version in every(root)? {
        if let Some(ErasedVersion { successor: Some(next), version, .. }) =
            tombstone(root, &version)?
        {
            successor.insert(version, next);
        }
    }
    let mut found = BTreeSet::from([version.clone()]);
    loop {
        let earlier = successor.iter().filter(|(_, next)| found.contains(*next));
        let new: Vec<DatasetVersion> =
            earlier.map(|(one, _)| one.clone()).filter(|one| !found.contains(one)).collect();
        if new.is_empty() {
            found.remove(version);
            return Ok(found.into_iter().collect());
        }
        found.extend(new);
    }
}

/// What the tombstone of a version says, if its rows were erased.
pub fn erased(
    root: &Path,
    version: &DatasetVersion,
) -> Result<Option<ErasedVersion>, DatasetError> {
    tombstone(root, version)
}

/// How many rows of a version were made from these steps.
pub(crate) fn affected(
    frozen: &FrozenDataset,
    steps: &BTreeSet<String>,
) -> Result<u64, DatasetError> {
    let mut rows = 0;
    each_row(frozen, |_, _, row, _| {
        rows += u64::from(is_of(row, steps));
        Ok(())
    })?;
    Ok(rows)
}

/// The tombstone of a version, if it has one.
pub(crate) fn tombstone(
    root: &Path,
    version: &DatasetVersion,
) -> Result<Option<ErasedVersion>, DatasetError> {
    read(&crate::draft::directory(root, version))
}

pub(crate) fn read(directory: &Path) -> Result<Option<ErasedVersion>, DatasetError> {
    let path = directory.join(TOMBSTONE);
    let text = match fs::read_to_string(&path) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.attempt("read", &path)?,
    };
    let wrong = |why: serde_json::Error| DatasetError::NotADataset {
        path: directory.to_owned(),
        why: why.to_string(),
    };
    serde_json::from_str(&text).map(Some).map_err(wrong)
}

fn is_of(row: &Row, steps: &BTreeSet<String>) -> bool {
    row.origin.steps.iter().any(|step| steps.contains(step))
}

fn each_row(
    frozen: &FrozenDataset,
    mut each: impl FnMut(RowKind, Split, &Row, &str) -> Result<(), DatasetError>,
) -> Result<(), DatasetError> {
    for kind in RowKind::ALL {
        for split in [Split::Train, Split::Dev] {
            let file = kind.file_name(split);
            if frozen.manifest().rows(&file) == 0 {
                continue;
            }
            let mut nth = 0;
            frozen.each_line(&file, |line| -> Result<(), DatasetError> {
                nth += 1;
                let row: Row = serde_json::from_str(line).map_err(|why| DatasetError::Row {
                    path: frozen.dir().join(&file),
                    line: nth,
                    why: why.to_string(),
                })?;
                each(kind, split, &row, line)
            })?;
        }
    }
    Ok(())
}

/// Freezes the version without the rows of these steps, in the splits they were in.
fn successor(
    frozen: &FrozenDataset,
    steps: &BTreeSet<String>,
    rows: u64,
    root: &Path,
) -> Result<Option<DatasetVersion>, DatasetError> {
    let spill = Arc::new(Spill::create(root)?);
    let mut kept: Vec<(RowKind, Split, Place)> = Vec::new();
    each_row(frozen, |kind, split, row, line| {
        if !is_of(row, steps) {
            kept.push((kind, split, spill.push(line.as_bytes())?));
        }
        Ok(())
    })?;
    if kept.is_empty() {
        return Ok(None);
    }
    let mut manifest = frozen.manifest().clone();
    manifest.sources.push(format!("{} without an erased subject", frozen.version()));
    manifest.files.clear();
    manifest.stages.push(StageCount {
        stage: "erase".to_owned(),
        rows_in: kept.len() as u64 + rows,
        rows_out: kept.len() as u64,
        reasons: [("erased".to_owned(), rows)].into(),
    });
    let files = frozen.manifest().files.iter().map(|file| file.path.as_str());
    let mut beside = frozen.beside()?;
    beside.late.retain(|step| !steps.contains(step.as_str()));
    let draft = Draft::of_lines(manifest, files, &kept, spill)?.beside(beside);
    Ok(Some(draft.freeze(root)?.version().clone()))
}

/// Removes the rows, and whatever else was put beside the manifest.
fn destroy(root: &Path, version: &DatasetVersion) -> Result<(), DatasetError> {
    let directory = crate::draft::directory(root, version);
    for entry in fs::read_dir(&directory).attempt("list", &directory)? {
        let entry = entry.attempt("list", &directory)?;
        let keeps = [TOMBSTONE, crate::draft::MANIFEST];
        if entry.file_name().to_str().is_some_and(|name| keeps.contains(&name)) {
            continue;
        }
        fs::remove_file(entry.path()).attempt("remove", &entry.path())?;
    }
    fs::File::open(&directory).and_then(|file| file.sync_all()).attempt("flush", &directory)
}
