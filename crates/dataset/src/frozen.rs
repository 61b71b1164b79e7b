//! Reading a version back, after making sure that it is what its name says.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use understudy_ident::{DatasetVersion, Digest, Hasher, TaskName};
use understudy_manifest::{
    DatasetManifest, FileEntry, GroupExample, LabelExample, PairExample, PromptExample, SftExample,
    Split,
};

use crate::{
    Beside, DatasetDiff, DatasetError, card,
    draft::{MANIFEST, directory, file_name},
    erase::{self, TOMBSTONE},
    error::Attempt,
    row::RowKind,
};

/// A version on disk whose every byte was checked when it was opened.
#[derive(Debug, Clone, PartialEq)]
pub struct FrozenDataset {
    dir: PathBuf,
    version: DatasetVersion,
    manifest: DatasetManifest,
}

impl FrozenDataset {
    /// Opens `<root>/<task>/<digest>`: the manifest must have the digest the directory is named by,
    /// and every file the digest the manifest gives.
    pub fn open(dir: &Path) -> Result<Self, DatasetError> {
        if let Some(erased) = erase::read(dir)? {
            let (version, successor) = (erased.version, erased.successor);
            return Err(DatasetError::Erased { version, successor: successor.map(Box::new) });
        }
        let path = dir.join(MANIFEST);
        let not_a_dataset = |why: String| DatasetError::NotADataset { path: dir.to_owned(), why };
        let text = fs::read_to_string(&path).attempt("read", &path)?;
        let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let expected: Digest = name
            .parse()
            .map_err(|_| not_a_dataset("its name is not the digest of its manifest".to_owned()))?;
        // Of the text and not of what was understood of it, so that not even a space may change.
        let found = Digest::of(text.trim_end_matches('\n').as_bytes());
        if found != expected {
            return Err(DatasetError::Changed { path, expected, found });
        }
        let manifest: DatasetManifest =
            serde_json::from_str(&text).map_err(|why| not_a_dataset(why.to_string()))?;
        if manifest.schema != DatasetManifest::SCHEMA {
            let why = format!("it has schema {}, and only 1 is known", manifest.schema);
            return Err(not_a_dataset(why));
        }
        let version = DatasetVersion { name: manifest.task.clone(), digest: found };
        let frozen = Self { dir: dir.to_owned(), version, manifest };
        frozen.manifest.files.iter().try_for_each(|file| frozen.check(file))?;
        Ok(frozen)
    }

    /// Opens a version by name.
    pub fn find(root: &Path, version: &DatasetVersion) -> Result<Self, DatasetError> {
        Self::open(&directory(root, version))
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn manifest(&self) -> &DatasetManifest {
        &self.manifest
    }

    pub fn version(&self) -> &DatasetVersion {
        &self.version
    }

    /// How it came to be when it was built first.
    pub fn beside(&self) -> Result<Beside, DatasetError> {
        Beside::read(&self.dir)
    }

    /// Examples to imitate.
    pub fn sft(&self, split: Split) -> Result<Vec<SftExample>, DatasetError> {
        self.rows(RowKind::Sft, split)
    }

    /// Preferences.
    pub fn pairs(&self, split: Split) -> Result<Vec<PairExample>, DatasetError> {
        self.rows(RowKind::Pairs, split)
    }

    /// Single judgements.
    pub fn labels(&self, split: Split) -> Result<Vec<LabelExample>, DatasetError> {
        self.rows(RowKind::Labels, split)
    }

    /// Recorded attempts at one prompt; none in a version that has no files of them.
    pub fn groups(&self, split: Split) -> Result<Vec<GroupExample>, DatasetError> {
        self.optional(RowKind::Groups, split)
    }

    /// What was asked, without an answer; none in a version that was built without them.
    pub fn prompts(&self, split: Split) -> Result<Vec<PromptExample>, DatasetError> {
        self.optional(RowKind::Prompts, split)
    }

    /// What another version has more or less than this one.
    pub fn diff(&self, other: &Self) -> Result<DatasetDiff, DatasetError> {
        DatasetDiff::between(self, other)
    }

    /// Hands on the lines of a file one by one, and makes sure in the end that they are what was
    /// frozen: for versions that do not fit into memory.
    pub fn each_line<E: From<DatasetError>>(
        &self,
        name: &str,
        mut each: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let (path, entry) = (self.dir.join(name), self.entry(name)?);
        let mut reader = BufReader::new(fs::File::open(&path).attempt("read", &path)?);
        let (mut hasher, mut line) = (Hasher::default(), String::new());
        while reader.read_line(&mut line).attempt("read", &path)? > 0 {
            hasher.update(line.as_bytes());
            each(line.trim_end_matches('\n'))?;
            line.clear();
        }
        let (expected, found) = (entry.digest, hasher.finish());
        if found != expected {
            return Err(DatasetError::Changed { path, expected, found }.into());
        }
        Ok(())
    }

    /// The card of this version's rows in these files, which lie in one directory.
    pub fn card(&self, files: &[FileEntry]) -> Result<String, DatasetError> {
        Ok(card::render(&self.manifest, &self.beside()?, files))
    }

    fn optional<T: DeserializeOwned>(
        &self,
        kind: RowKind,
        split: Split,
    ) -> Result<Vec<T>, DatasetError> {
        if self.manifest.rows(&file_name(kind, split)) == 0 {
            return Ok(Vec::new());
        }
        self.rows(kind, split)
    }

    pub(crate) fn rows<T: DeserializeOwned>(
        &self,
        kind: RowKind,
        split: Split,
    ) -> Result<Vec<T>, DatasetError> {
        self.read(&file_name(kind, split))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>, DatasetError> {
        let path = self.dir.join(name);
        let row = |(nth, line): (usize, &str)| {
            let wrong = |why: serde_json::Error| DatasetError::Row {
                path: path.clone(),
                line: nth + 1,
                why: why.to_string(),
            };
            serde_json::from_str(line).map_err(wrong)
        };
        self.text(name)?.lines().enumerate().map(row).collect()
    }

    /// A file of the manifest, checked again: much can happen to a file after `open`.
    pub(crate) fn text(&self, name: &str) -> Result<String, DatasetError> {
        let path = self.dir.join(name);
        String::from_utf8(self.bytes(name)?)
            .map_err(|why| DatasetError::NotADataset { path, why: why.to_string() })
    }

    fn bytes(&self, name: &str) -> Result<Vec<u8>, DatasetError> {
        let (path, entry) = (self.dir.join(name), self.entry(name)?);
        let bytes = fs::read(&path).attempt("read", &path)?;
        let found = Digest::of(&bytes);
        if found != entry.digest {
            return Err(DatasetError::Changed { path, expected: entry.digest, found });
        }
        Ok(bytes)
    }

    fn entry(&self, name: &str) -> Result<&FileEntry, DatasetError> {
        let entry = self.manifest.files.iter().find(|file| file.path == name);
        entry.ok_or_else(|| DatasetError::NotADataset {
            path: self.dir.clone(),
            why: format!("its manifest names no file `{name}`"),
        })
    }

    /// Whether a file still is what was frozen, without holding it in memory.
    fn check(&self, entry: &FileEntry) -> Result<(), DatasetError> {
        let path = self.dir.join(&entry.path);
        let file = fs::File::open(&path).attempt("read", &path)?;
        let found = Digest::of_reader(file).attempt("read", &path)?;
        if found != entry.digest {
            return Err(DatasetError::Changed { path, expected: entry.digest, found });
        }
        Ok(())
    }
}

/// All versions below `root`, by name and digest. What is not named like one is passed over, and so
/// is what was erased.
pub fn list(root: &Path) -> Result<Vec<DatasetVersion>, DatasetError> {
    let mut versions = every(root)?;
    versions.retain(|version| !directory(root, version).join(TOMBSTONE).exists());
    Ok(versions)
}

/// The same with erased ones.
pub(crate) fn every(root: &Path) -> Result<Vec<DatasetVersion>, DatasetError> {
    let mut versions = Vec::new();
    for task in names(root)? {
        let Ok(name) = task.parse::<TaskName>() else { continue };
        for digest in names(&root.join(&task))? {
            if let Ok(digest) = digest.parse() {
                versions.push(DatasetVersion { name: name.clone(), digest });
            }
        }
    }
    versions.sort();
    Ok(versions)
}

/// The names in a directory; none when it does not exist yet.
fn names(dir: &Path) -> Result<Vec<String>, DatasetError> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(dir).attempt("list", dir)?;
    let names = entries.map(|entry| Ok(entry.attempt("list", dir)?.file_name()));
    let names: Vec<_> = names.collect::<Result<_, DatasetError>>()?;
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
}
