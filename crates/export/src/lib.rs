//! Frozen dataset versions as files of other programs: JSONL in TRL's conversational form, and
//! Parquet that Hugging Face `datasets` loads with the same rows.
//!
//! Guarantees: every row of every file is there, in order, read from files whose digests were
//! checked; both formats load as equal rows; the directory appears whole or not at all, beside the
//! card and the manifest of the version it was made from.
//!
//! Never: changes a version, or leaves a row out without saying so in [`Exported::left_out`].

mod error;
mod parquet;
mod plain;
mod shape;
mod shred;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::Value;
use understudy_dataset::{FrozenDataset, RowKind};
use understudy_ident::Digest;
use understudy_manifest::{FileEntry, Split, canonical_json};
use understudy_storage::atomic;

pub use error::ExportError;

use crate::{error::Attempt, parquet::Writer, shape::Shape};

/// What the files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// JSONL with TRL's columns: `prompt`, `completion`, `chosen`, `rejected`, `margin`, `label`.
    Trl,
    /// The same rows in columns, Zstandard-compressed.
    Parquet,
}

/// How the arguments of a tool call are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arguments {
    /// As the JSON they are; `datasets` from 4.7 on keeps objects of different keys apart.
    Json,
    /// As text that holds JSON, which every version of `datasets` loads.
    Text,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Exported {
    pub directory: PathBuf,
    pub format: Format,
    /// Rows by file.
    pub files: BTreeMap<String, u64>,
    /// Rows of kinds the format has no place for, by file of the version.
    pub left_out: BTreeMap<String, u64>,
}

/// Writes a version to a directory that does not exist yet.
pub fn export(
    dataset: &FrozenDataset,
    format: Format,
    arguments: Arguments,
    directory: &Path,
) -> Result<Exported, ExportError> {
    if directory.symlink_metadata().is_ok() {
        return Err(ExportError::Exists(directory.to_owned()));
    }
    // Relative to nothing, because it is looked for again when a subject is erased.
    let directory = std::path::absolute(directory).attempt("find", directory)?;
    let parent = directory.parent().unwrap_or(&directory);
    atomic::create_dir(parent)?;
    let staging = tempfile::Builder::new()
        .prefix(atomic::TEMPORARY_PREFIX)
        .tempdir_in(parent)
        .attempt("create a temporary directory in", parent)?;
    let staged = staging.path().join("export");
    fs::create_dir(&staged).attempt("create directory", &staged)?;

    let mut exported = Exported {
        directory: directory.clone(),
        format,
        files: BTreeMap::new(),
        left_out: BTreeMap::new(),
    };
    for kind in RowKind::ALL {
        let mut rows = Rows { dataset, kind, format, arguments, has_margins: false };
        rows.has_margins = rows.find_margins()?;
        rows.write(&staged, &mut exported)?;
    }
    let written: Vec<FileEntry> = exported
        .files
        .iter()
        .map(|(name, rows)| entry(&staged, name, *rows))
        .collect::<Result<_, _>>()?;
    write(&staged.join("README.md"), &dataset.card(&written)?)?;
    write(&staged.join("manifest.json"), &format!("{}\n", canonical_json(dataset.manifest())))?;
    atomic::publish_dir(&staged, &directory)?;
    Ok(exported)
}

impl Format {
    pub fn extension(self) -> &'static str {
        match self {
            Self::Trl => "jsonl",
            Self::Parquet => "parquet",
        }
    }
}

/// The rows of one kind on their way out.
struct Rows<'a> {
    dataset: &'a FrozenDataset,
    kind: RowKind,
    format: Format,
    arguments: Arguments,
    /// Whether any pair says by how much its chosen reply is better.
    has_margins: bool,
}

impl Rows<'_> {
    fn find_margins(&self) -> Result<bool, ExportError> {
        let mut found = false;
        for split in [Split::Train, Split::Dev] {
            let from = self.kind.file_name(split);
            if self.kind == RowKind::Pairs && self.dataset.manifest().rows(&from) > 0 {
                self.each(&from, |row| {
                    found |= row.get("margin").is_some();
                    Ok(())
                })?;
            }
        }
        Ok(found)
    }

    fn write(&self, staged: &Path, exported: &mut Exported) -> Result<(), ExportError> {
        let shape = if self.format == Format::Parquet { Some(self.shape()?) } else { None };
        for split in [Split::Train, Split::Dev] {
            let from = self.kind.file_name(split);
            let rows = self.dataset.manifest().rows(&from);
            if rows == 0 {
                continue;
            }
            if self.format == Format::Trl && self.kind == RowKind::Groups {
                exported.left_out.insert(from, rows);
                continue;
            }
            let stem = from.trim_end_matches(".jsonl");
            let name = format!("{stem}.{}", self.format.extension());
            let path = staged.join(&name);
            match &shape {
                None => self.write_lines(&from, &path)?,
                Some(shape) => self.write_columns(&from, &path, shape)?,
            }
            exported.files.insert(name, rows);
        }
        Ok(())
    }

    fn write_lines(&self, from: &str, path: &Path) -> Result<(), ExportError> {
        let mut file = BufWriter::new(File::create_new(path).attempt("create", path)?);
        self.each(from, |row| writeln!(file, "{row}").attempt("write", path))?;
        file.flush().attempt("write", path)
    }

    fn write_columns(&self, from: &str, path: &Path, shape: &Shape) -> Result<(), ExportError> {
        let mut writer = Writer::create(path, shape)?;
        self.each(from, |row| writer.add(&row))?;
        writer.finish()
    }

    /// What the rows of both splits have: their files must agree on their columns.
    fn shape(&self) -> Result<Shape, ExportError> {
        let mut shape = Shape::of(self.kind, self.arguments);
        for split in [Split::Train, Split::Dev] {
            let from = self.kind.file_name(split);
            if self.dataset.manifest().rows(&from) > 0 {
                self.each(&from, |row| {
                    shape.observe(&row);
                    Ok(())
                })?;
            }
        }
        Ok(shape.pruned())
    }

    fn each(
        &self,
        from: &str,
        mut each: impl FnMut(Value) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let mut nth = 0;
        self.dataset.each_line(from, |line| {
            nth += 1;
            let row = serde_json::from_str(line).map_err(|why| ExportError::Row {
                file: from.to_owned(),
                line: nth,
                why: why.to_string(),
            })?;
            let mut row = plain::row(row, self.arguments);
            if let Some(row) = row.as_object_mut().filter(|_| self.has_margins) {
                // Trainers read the column of every row or of none: a choice counts in full.
                row.entry("margin").or_insert(Value::from(1.0));
            }
            each(row)
        })
    }
}

/// A file that was written, as the card lists it.
fn entry(staged: &Path, name: &str, rows: u64) -> Result<FileEntry, ExportError> {
    let path = staged.join(name);
    let bytes = fs::metadata(&path).attempt("read", &path)?.len();
    let file = File::open(&path).attempt("read", &path)?;
    let digest = Digest::of_reader(file).attempt("read", &path)?;
    Ok(FileEntry { path: name.to_owned(), rows, bytes, digest })
}

fn write(path: &Path, text: &str) -> Result<(), ExportError> {
    fs::write(path, text).attempt("write", path)
}

#[cfg(test)]
mod tests;
