//! An adapter's files: copied whole, named by their content, published by one rename.

mod header;

pub(crate) use header::check_header;

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use understudy_ident::Digest;
use understudy_manifest::AdapterManifest;
use understudy_storage::atomic;

use crate::RegistryError;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// The files that name an adapter's content.
pub(crate) const NAMED: [&str; 2] = [CONFIG, WEIGHTS];

/// A copy this old was left by a registration that died; a living one takes seconds.
const LEFTOVER_AGE: Duration = Duration::from_hours(1);

/// A finished copy under a temporary name, deleted unless it is published.
pub(crate) struct Staged {
    home: TempDir,
    pub(crate) generation: Digest,
    pub(crate) bytes: u64,
}

/// Copies a PEFT directory beside its future place, with `manifest` as its `manifest.json`.
pub(crate) fn stage(
    directory: &Path,
    manifest: &AdapterManifest,
    beside: &Path,
) -> Result<Staged, RegistryError> {
    for file in NAMED {
        if !directory.join(file).is_file() {
            let directory = directory.to_owned();
            return Err(RegistryError::NotAnAdapter { directory, missing: file });
        }
    }
    atomic::create_dir(beside)?;
    let home = tempfile::Builder::new()
        .prefix(atomic::TEMPORARY_PREFIX)
        .tempdir_in(beside)
        .attempt("create a temporary directory in", beside)?;
    // A directory inside, because the temporary one itself is readable by its owner only.
    let copy = content(&home);
    let bytes = copy_tree(directory, &copy)?;
    let manifest_path = copy.join(AdapterManifest::FILE);
    let text = serde_json::to_string_pretty(manifest)?;
    fs::write(&manifest_path, text).attempt("write", &manifest_path)?;
    // Of the copy, not of the source, so that nothing can change between reading and keeping.
    let generation = generation(&copy)?;
    Ok(Staged { home, generation, bytes })
}

/// Gives a copy its final name. The caller holds the registry's write lock and knows that no version
/// of that name exists, so a directory already there was left by a registration that was interrupted
/// between this rename and its commit.
pub(crate) fn publish(staged: &Staged, place: &Path) -> Result<(), RegistryError> {
    if place.symlink_metadata().is_ok() {
        let aside = staged.home.path().join("interrupted");
        fs::rename(place, &aside).attempt("move aside", place)?;
    }
    Ok(atomic::publish_dir(&content(&staged.home), place)?)
}

/// The digest that names an adapter's content: its config, then its weights.
pub fn generation(directory: &Path) -> Result<Digest, RegistryError> {
    let read = |name: &str| {
        let path = directory.join(name);
        fs::read(&path).attempt("read", &path)
    };
    let (config, weights) = (read(CONFIG)?, read(WEIGHTS)?);
    Ok(Digest::of_parts([config.as_slice(), &weights]))
}

/// Deletes copies that died registrations left under temporary names.
pub(crate) fn sweep(adapters: &Path) -> Result<(), RegistryError> {
    atomic::create_dir(adapters)?;
    for task in entries(adapters)?.iter().filter(|path| path.is_dir()) {
        for leftover in entries(task)?.iter().filter(|path| is_leftover(path)) {
            match fs::remove_dir_all(leftover) {
                // Another process sweeps too.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result.attempt("delete", leftover)?,
            }
        }
    }
    Ok(())
}

fn is_leftover(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let modified = path.metadata().and_then(|metadata| metadata.modified());
    let age = modified.ok().and_then(|then| SystemTime::now().duration_since(then).ok());
    name.starts_with(atomic::TEMPORARY_PREFIX) && age.is_some_and(|age| age > LEFTOVER_AGE)
}

/// Copies plain files and directories, refuses anything else, and says how many bytes that were.
fn copy_tree(from: &Path, to: &Path) -> Result<u64, RegistryError> {
    fs::create_dir(to).attempt("create directory", to)?;
    let mut bytes = 0;
    for path in entries(from)? {
        let target = to.join(path.file_name().unwrap_or_default());
        let kind = path.symlink_metadata().attempt("look at", &path)?.file_type();
        bytes += if kind.is_dir() {
            copy_tree(&path, &target)?
        } else if kind.is_file() {
            fs::copy(&path, &target).attempt("copy", &path)?
        } else {
            return Err(RegistryError::NotPlain { path });
        };
    }
    Ok(bytes)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, RegistryError> {
    let listed = fs::read_dir(directory).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()
    });
    listed.attempt("list", directory)
}

fn content(home: &TempDir) -> PathBuf {
    home.path().join("content")
}

/// Adds what was attempted, and on which path, to an error of the operating system.
trait Attempt<T> {
    fn attempt(self, attempt: &'static str, path: &Path) -> Result<T, RegistryError>;
}

impl<T> Attempt<T> for io::Result<T> {
    fn attempt(self, attempt: &'static str, path: &Path) -> Result<T, RegistryError> {
        self.map_err(|source| RegistryError::Io { attempt, path: path.to_owned(), source })
    }
}
