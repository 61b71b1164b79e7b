//! Files and directories that appear whole or not at all.
//!
//! The order is always: write under a temporary name in the same directory, flush the content to
//! the disk, rename, flush the directory. A rename is atomic only within one file system, hence the
//! same directory; and it is durable only once the directory itself was flushed.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use tempfile::TempPath;

use crate::error::{Attempt, StorageError};

/// What every temporary name begins with, so that leftovers of a crash can be told from content.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

/// Replaces the file at `path`, or creates it, and its parent directories, if there was none.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    create_dir(parent(path))?;
    publish_staged(stage(path, bytes)?, path)
}

/// Replaces the file at `path` by what `change` makes of its content, `None` where there is none yet.
/// Whoever else updates the same file, in this process or another, waits: no update is lost. The
/// lock is a file beside it that stays, because deleting it would let two hold it.
pub fn update<R, E: From<StorageError>>(
    path: &Path,
    change: impl FnOnce(Option<Vec<u8>>) -> Result<(Vec<u8>, R), E>,
) -> Result<R, E> {
    create_dir(parent(path))?;
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = PathBuf::from(name);
    // Held until it is closed, in whatever way this returns.
    let _held = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock)
        .and_then(|file| file.lock().map(|()| file))
        .attempt("lock", &lock)?;
    let before = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        content => Some(content.attempt("read", path)?),
    };
    let (after, result) = change(before)?;
    write(path, &after)?;
    Ok(result)
}

/// Moves a finished file to its final name, replacing what was there. Both must lie on one file
/// system. The source is flushed first, so it may have been written by anybody.
pub fn publish_file(temporary: &Path, path: &Path) -> Result<(), StorageError> {
    sync(temporary)?;
    create_dir(parent(path))?;
    fs::rename(temporary, path).attempt("move a finished file to", path)?;
    sync(parent(path))
}

/// Moves a finished directory to its final name, and refuses if anything already has that name.
/// Both must lie on one file system. Only plain files and directories may be inside.
pub fn publish_dir(temporary: &Path, path: &Path) -> Result<(), StorageError> {
    if path.symlink_metadata().is_ok() {
        return Err(StorageError::AlreadyPublished { path: path.to_owned() });
    }
    sync_tree(temporary)?;
    create_dir(parent(path))?;
    // Should somebody publish between the check above and here, the kernel refuses to rename over
    // a directory with content, so nothing published is ever lost.
    fs::rename(temporary, path).map_err(|source| match source.kind() {
        io::ErrorKind::DirectoryNotEmpty
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::NotADirectory => StorageError::AlreadyPublished { path: path.to_owned() },
        _ => StorageError::Io {
            attempt: "move a finished directory to",
            path: path.to_owned(),
            source,
        },
    })?;
    sync(parent(path))
}

/// Creates a directory and its parents; those that are new survive a power loss.
pub fn create_dir(path: &Path) -> Result<(), StorageError> {
    if path.is_dir() {
        return Ok(());
    }
    create_dir(parent(path))?;
    match fs::create_dir(path) {
        // Another thread may have been faster; what it created may not be durable yet.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        result => result.attempt("create directory", path)?,
    }
    sync(parent(path))
}

/// Flushes one file, or the list of names in one directory, to the disk.
pub(crate) fn sync(path: &Path) -> Result<(), StorageError> {
    // A directory cannot be opened as a file on Windows, where renames are flushed by the journal.
    if cfg!(windows) && path.is_dir() {
        return Ok(());
    }
    File::open(path).and_then(|file| file.sync_all()).attempt("flush to disk", path)
}

/// Writes the content under a temporary name beside `path`, flushed but not yet visible.
fn stage(path: &Path, bytes: &[u8]) -> Result<TempPath, StorageError> {
    let directory = parent(path);
    // `create_new` rather than tempfile's private mode: who may read is decided by the umask.
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .make_in(directory, |path| File::create_new(path))
        .attempt("create a temporary file in", directory)?;
    let written = file.write_all(bytes).and_then(|()| file.as_file().sync_all());
    written.attempt("write a temporary file for", path)?;
    Ok(file.into_temp_path())
}

fn publish_staged(staged: TempPath, path: &Path) -> Result<(), StorageError> {
    staged.persist(path).map_err(|error| error.error).attempt("move a finished file to", path)?;
    sync(parent(path))
}

fn sync_tree(directory: &Path) -> Result<(), StorageError> {
    let entries = fs::read_dir(directory).attempt("list", directory)?;
    for entry in entries {
        let entry = entry.attempt("list", directory)?;
        let kind = entry.file_type().attempt("look at", &entry.path())?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            sync(&entry.path())?;
        } else {
            return Err(StorageError::NotPlain { path: entry.path() });
        }
    }
    sync(directory)
}

/// The directory a path lies in; `.` for a bare file name.
pub(crate) fn parent(path: &Path) -> &Path {
    let parent = path.parent().unwrap_or(path);
    if parent.as_os_str().is_empty() { Path::new(".") } else { parent }
}

#[cfg(test)]
mod tests;
