//! What lies beside a manifest and outside its digest: how a version came to be when it was built
//! first. Later builds may have read more, and found the same rows.

use std::{collections::BTreeSet, fs, io, path::Path};

use serde::{Serialize, de::DeserializeOwned};
use understudy_ident::{DatasetVersion, StepId};
use understudy_manifest::canonical_json;

use crate::{DatasetError, draft::directory, error::Attempt};

/// What was read.
const SOURCES: &str = "sources.json";
/// Which of its steps came late.
const LATE: &str = "late.json";

/// Nothing of versions of before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Beside {
    /// What was read: a journal up to a record, or a file by digest.
    pub sources: Vec<String>,
    /// Steps that came, or had something said of them, after an earlier version was cut that covers
    /// their time.
    pub late: BTreeSet<StepId>,
}

impl Beside {
    /// Of a version below `root`, whose rows are not looked at.
    pub fn of(root: &Path, version: &DatasetVersion) -> Result<Self, DatasetError> {
        Self::read(&directory(root, version))
    }

    pub(crate) fn read(dir: &Path) -> Result<Self, DatasetError> {
        Ok(Self { sources: read(&dir.join(SOURCES))?, late: read(&dir.join(LATE))? })
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<(), DatasetError> {
        if !self.sources.is_empty() {
            write(&dir.join(SOURCES), &self.sources)?;
        }
        if !self.late.is_empty() {
            write(&dir.join(LATE), &self.late)?;
        }
        Ok(())
    }
}

fn read<T: DeserializeOwned + Default>(path: &Path) -> Result<T, DatasetError> {
    let text = match fs::read_to_string(path) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        text => text.attempt("read", path)?,
    };
    serde_json::from_str(&text)
        .map_err(|why| DatasetError::NotADataset { path: path.to_owned(), why: why.to_string() })
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), DatasetError> {
    fs::write(path, format!("{}\n", canonical_json(value))).attempt("write", path)
}
