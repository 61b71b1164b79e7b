//! One process owns a data directory at a time.

use std::{
    fs::{self, File, TryLockError},
    io::{Seek, Write},
    path::{Path, PathBuf},
};

use crate::{
    atomic,
    error::{Attempt, StorageError},
};

const FILE_NAME: &str = "lock";

/// Exclusive ownership of a data directory, until dropped or until the process ends in any way.
///
/// The operating system holds the lock, so a crash cannot leave a stale one; the process id written
/// into the file only tells a person, or the next process, who to look for.
#[derive(Debug)]
pub struct DataDirLock {
    dir: PathBuf,
    _file: File,
}

impl DataDirLock {
    /// Takes the lock at once or fails at once; creates the directory if need be.
    pub fn acquire(dir: impl Into<PathBuf>) -> Result<Self, StorageError> {
        let dir = dir.into();
        atomic::create_dir(&dir)?;
        let path = dir.join(FILE_NAME);
        // Not truncated on opening: until the lock is ours, the content is the holder's.
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .attempt("open the lock file", &path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StorageError::DataDirInUse { holder: holder(&path), dir });
            }
            Err(TryLockError::Error(error)) => Err(error).attempt("lock", &path)?,
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .attempt("write the process id into", &path)?;
        Ok(Self { dir, _file: file })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Who wrote the lock file last, if it can be read.
fn holder(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_told_who_the_first_is() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("data");
        let first = DataDirLock::acquire(&dir).unwrap();
        assert_eq!(first.dir(), dir);
        let error = DataDirLock::acquire(&dir).unwrap_err();
        let ours = std::process::id();
        assert!(
            matches!(&error, StorageError::DataDirInUse { holder: Some(pid), .. } if *pid == ours)
        );
        let text = error.to_string();
        assert!(
            text.contains(&format!("by process {ours}")) && text.contains("--data-dir"),
            "{text}"
        );
        drop(first);
        DataDirLock::acquire(&dir).unwrap();
    }

    #[test]
    fn what_a_dead_process_wrote_does_not_hold_the_lock() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(FILE_NAME), "4000000000, and a longer line than ours\n")
            .unwrap();
        let lock = DataDirLock::acquire(home.path()).unwrap();
        assert_eq!(holder(&home.path().join(FILE_NAME)), Some(std::process::id()));
        drop(lock);
    }
}
