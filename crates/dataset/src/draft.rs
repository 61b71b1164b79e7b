//! A dataset that is decided but not yet on disk, and the step that freezes it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use understudy_ident::{DatasetVersion, Digest};
use understudy_manifest::{DatasetManifest, FileEntry, Split, canonical_json};
use understudy_storage::{StorageError, atomic};

use crate::{
    DatasetError, FrozenDataset, card,
    error::Attempt,
    row::{Row, RowKind},
};

pub(crate) const MANIFEST: &str = "manifest.json";
const CARD: &str = "README.md";
/// Of the files of rows.
pub(crate) const EXTENSION: &str = "jsonl";

/// Everything that will be frozen, in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    manifest: DatasetManifest,
    /// In the order of the manifest's entries.
    contents: Vec<String>,
}

impl Draft {
    pub(crate) fn new(mut manifest: DatasetManifest, rows: &[Row], splits: &[Split]) -> Self {
        let mut contents = Vec::new();
        for kind in RowKind::ALL {
            // Versions without groups are older than groups are, and stay what they were.
            if kind == RowKind::Groups && !rows.iter().any(|row| row.kind() == kind) {
                continue;
            }
            for split in [Split::Train, Split::Dev] {
                let lines =
                    rows.iter().zip(splits).filter(|(row, s)| row.kind() == kind && **s == split);
                let (mut content, mut count) = (String::new(), 0);
                for (row, _) in lines {
                    content.push_str(&row.to_line());
                    content.push('\n');
                    count += 1;
                }
                manifest.files.push(FileEntry {
                    path: file_name(kind, split),
                    rows: count,
                    bytes: content.len() as u64,
                    digest: Digest::of(content.as_bytes()),
                });
                contents.push(content);
            }
        }
        Self { manifest, contents }
    }

    pub fn manifest(&self) -> &DatasetManifest {
        &self.manifest
    }

    pub fn version(&self) -> DatasetVersion {
        self.manifest.version()
    }

    /// The text of one file, as it will be.
    pub fn file(&self, path: &str) -> Option<&str> {
        let nth = self.manifest.files.iter().position(|file| file.path == path)?;
        self.contents.get(nth).map(String::as_str)
    }

    /// Writes the version to `<root>/<task>/<digest>`, whole or not at all. One that is there
    /// already is checked and returned as it is.
    pub fn freeze(&self, root: &Path) -> Result<FrozenDataset, DatasetError> {
        let place = directory(root, &self.version());
        if place.exists() {
            return FrozenDataset::open(&place);
        }
        let parent = place.parent().unwrap_or(root);
        atomic::create_dir(parent)?;
        let staging = tempfile::Builder::new()
            .prefix(atomic::TEMPORARY_PREFIX)
            .tempdir_in(parent)
            .attempt("create a temporary directory in", parent)?;
        // One level down, because a temporary directory is private and the version need not be.
        let staged = staging.path().join("version");
        fs::create_dir(&staged).attempt("create directory", &staged)?;
        for (entry, content) in self.manifest.files.iter().zip(&self.contents) {
            write(&staged.join(&entry.path), content)?;
        }
        write(&staged.join(MANIFEST), &format!("{}\n", canonical_json(&self.manifest)))?;
        write(&staged.join(CARD), &card::render(&self.manifest, EXTENSION))?;
        match atomic::publish_dir(&staged, &place) {
            // Somebody else built the same version at the same time.
            Ok(()) | Err(StorageError::AlreadyPublished { .. }) => FrozenDataset::open(&place),
            Err(error) => Err(error.into()),
        }
    }
}

/// Where a version lies.
pub(crate) fn directory(root: &Path, version: &DatasetVersion) -> PathBuf {
    root.join(version.name.as_str()).join(version.digest.to_hex())
}

/// `sft.train.jsonl`, `pairs.dev.jsonl`, …
pub(crate) fn file_name(kind: RowKind, split: Split) -> String {
    format!("{}.{}.{EXTENSION}", kind.as_str(), split.as_str())
}

fn write(path: &Path, content: &str) -> Result<(), DatasetError> {
    fs::write(path, content).attempt("write", path)
}
