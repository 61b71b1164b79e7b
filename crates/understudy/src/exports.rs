//! The list of copies that were made of dataset versions, one JSON object a line.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    path::PathBuf,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use understudy_ident::{DatasetVersion, Timestamp};

use crate::paths::DataDir;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Copy {
    pub(crate) version: DatasetVersion,
    pub(crate) directory: PathBuf,
    pub(crate) at: Timestamp,
}

/// Notes a copy, durably.
pub(crate) fn note(data: &DataDir, copy: &Copy) -> Result<()> {
    let path = data.exports();
    let line = format!("{}\n", serde_json::to_string(copy)?);
    let append = || -> std::io::Result<()> {
        let mut file: File = OpenOptions::new().create(true).append(true).open(&path)?;
        file.write_all(line.as_bytes())?;
        file.sync_all()
    };
    append().with_context(|| format!("failed to note the export in {}", path.display()))
}

/// Every copy that was made, oldest first.
pub(crate) fn all(data: &DataDir) -> Result<Vec<Copy>> {
    let path = data.exports();
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        read => read.with_context(|| format!("failed to read {}", path.display()))?,
    };
    let copy = |(nth, line)| {
        serde_json::from_str(line)
            .with_context(|| format!("line {} of {} is no export", nth + 1, path.display()))
    };
    text.lines().enumerate().map(copy).collect()
}
