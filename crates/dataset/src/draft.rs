//! A dataset that is decided but not yet a directory, and the step that freezes it.

use std::{
    fs,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use understudy_ident::{DatasetVersion, Hasher};
use understudy_manifest::{DatasetManifest, FileEntry, Split, canonical_json};
use understudy_storage::{StorageError, atomic};

use crate::{
    Beside, DatasetError, FrozenDataset, card,
    error::Attempt,
    row::RowKind,
    spill::{Place, Spill},
    written::Written,
};

pub(crate) const MANIFEST: &str = "manifest.json";
const CARD: &str = "README.md";
/// Of the files of rows.
pub(crate) const EXTENSION: &str = "jsonl";

/// Everything that will be frozen, the rows of it in a temporary file.
#[derive(Debug, Clone)]
pub struct Draft {
    manifest: DatasetManifest,
    spill: Arc<Spill>,
    /// The lines of each file, in the order of the manifest's entries.
    lines: Vec<Vec<Place>>,
    beside: Beside,
}

/// Drafts are equal when they freeze to the same version.
impl PartialEq for Draft {
    fn eq(&self, other: &Self) -> bool {
        self.manifest == other.manifest
    }
}

impl Draft {
    pub(crate) fn new(
        mut manifest: DatasetManifest,
        rows: &[Written],
        splits: &[Split],
        spill: Arc<Spill>,
    ) -> Result<Self, DatasetError> {
        let mut lines = Vec::new();
        for kind in RowKind::ALL {
            if kind.is_optional() && !rows.iter().any(|row| row.kind == kind) {
                continue;
            }
            for split in [Split::Train, Split::Dev] {
                let own =
                    rows.iter().zip(splits).filter(|(row, s)| row.kind == kind && **s == split);
                let places: Vec<Place> = own.map(|(row, _)| row.place).collect();
                manifest.files.push(entry(file_name(kind, split), &places, &spill)?);
                lines.push(places);
            }
        }
        Ok(Self { manifest, spill, lines, beside: Beside::default() })
    }

    /// A draft of finished lines in these files.
    pub(crate) fn of_lines<'a>(
        mut manifest: DatasetManifest,
        files: impl Iterator<Item = &'a str>,
        rows: &[(RowKind, Split, Place)],
        spill: Arc<Spill>,
    ) -> Result<Self, DatasetError> {
        let mut lines = Vec::new();
        for file in files {
            let own = rows.iter().filter(|(kind, split, _)| file_name(*kind, *split) == file);
            let places: Vec<Place> = own.map(|(_, _, place)| *place).collect();
            manifest.files.push(entry(file.to_owned(), &places, &spill)?);
            lines.push(places);
        }
        Ok(Self { manifest, spill, lines, beside: Beside::default() })
    }

    /// Tells what was read, and what of it came late.
    pub(crate) fn beside(self, beside: Beside) -> Self {
        Self { beside, ..self }
    }

    pub fn manifest(&self) -> &DatasetManifest {
        &self.manifest
    }

    pub fn version(&self) -> DatasetVersion {
        self.manifest.version()
    }

    /// The text of one file, as it will be.
    pub fn file(&self, path: &str) -> Result<Option<String>, DatasetError> {
        let Some(nth) = self.manifest.files.iter().position(|file| file.path == path) else {
            return Ok(None);
        };
        let mut text = Vec::new();
        self.write_lines(nth, &mut text).attempt("read back", Path::new(path))?;
        Ok(Some(String::from_utf8_lossy(&text).into_owned()))
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
        for (nth, entry) in self.manifest.files.iter().enumerate() {
            let path = staged.join(&entry.path);
            let write = || -> std::io::Result<()> {
                let mut file = BufWriter::new(fs::File::create_new(&path)?);
                self.write_lines(nth, &mut file)?;
                file.flush()
            };
            write().attempt("write", &path)?;
        }
        write(&staged.join(MANIFEST), &format!("{}\n", canonical_json(&self.manifest)))?;
        self.beside.write(&staged)?;
        let card = card::render(&self.manifest, &self.beside, &self.manifest.files);
        write(&staged.join(CARD), &card)?;
        match atomic::publish_dir(&staged, &place) {
            // Somebody else built the same version at the same time.
            Ok(()) | Err(StorageError::AlreadyPublished { .. }) => FrozenDataset::open(&place),
            Err(error) => Err(error.into()),
        }
    }

    fn write_lines(&self, nth: usize, to: &mut impl Write) -> std::io::Result<()> {
        for place in &self.lines[nth] {
            let line = self.spill.read(*place).map_err(std::io::Error::other)?;
            to.write_all(&line)?;
            to.write_all(b"\n")?;
        }
        Ok(())
    }
}

fn entry(path: String, places: &[Place], spill: &Spill) -> Result<FileEntry, DatasetError> {
    let mut hasher = Hasher::default();
    for place in places {
        hasher.update(&spill.read(*place)?);
        hasher.update(b"\n");
    }
    Ok(FileEntry {
        path,
        rows: places.len() as u64,
        bytes: places.iter().map(|place| place.bytes() + 1).sum(),
        digest: hasher.finish(),
    })
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
