//! Content-addressed blobs in a local directory: `ab/cdef…` below the root, by BLAKE3 digest.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use understudy_ident::Digest;

use crate::{
    atomic,
    error::{Attempt, StorageError},
};

/// A directory of immutable byte strings, each named by its digest. Cheap to clone; any number of
/// threads and processes may use one directory at the same time.
#[derive(Debug, Clone)]
pub struct BlobStore {
    root: PathBuf,
}

impl BlobStore {
    /// Opens the store in `root`, creating the directory if need be.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, StorageError> {
        let root = root.into();
        atomic::create_dir(&root)?;
        Ok(Self { root })
    }

    /// Stores the bytes, durably, and returns their name. Storing the same bytes again costs one
    /// read, and repairs a blob that was damaged in the meantime.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StorageError> {
        let digest = Digest::of(bytes);
        let path = self.path(&digest);
        if fs::read(&path).is_ok_and(|stored| stored == bytes) {
            // Whoever stored it may not have flushed the directory yet, and we are about to promise
            // that the blob survives.
            atomic::sync(atomic::parent(&path))?;
        } else {
            atomic::write(&path, bytes)?;
        }
        Ok(digest)
    }

    /// Reads a blob and checks that it still is what its name says.
    pub fn get(&self, digest: &Digest) -> Result<Vec<u8>, StorageError> {
        let path = self.path(digest);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StorageError::BlobMissing { digest: *digest, path });
            }
            result => result.attempt("read blob", &path)?,
        };
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(StorageError::BlobCorrupt { path, expected: *digest, found });
        }
        Ok(bytes)
    }

    /// Whether a blob of that name is there; its content is checked only by [`BlobStore::get`].
    pub fn contains(&self, digest: &Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Where a blob lies, or would lie.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_hex();
        let (shard, rest) = hex.split_at(2);
        self.root.join(shard).join(rest)
    }

    /// The digests of all blobs, sorted. Torn temporary files and strangers are not blobs.
    pub fn digests(&self) -> Result<Vec<Digest>, StorageError> {
        let mut digests = Vec::new();
        for shard in names(&self.root)? {
            let directory = self.root.join(&shard);
            if !directory.is_dir() {
                continue;
            }
            let rests = names(&directory)?;
            digests.extend(rests.iter().filter_map(|rest| parse(&shard, rest)));
        }
        digests.sort_unstable();
        Ok(digests)
    }
}

fn parse(shard: &str, rest: &str) -> Option<Digest> {
    if shard.len() == 2 { format!("{shard}{rest}").parse().ok() } else { None }
}

/// The names in a directory that are text; a blob's always is.
fn names(directory: &Path) -> Result<Vec<String>, StorageError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).attempt("list", directory)? {
        let name = entry.attempt("list", directory)?.file_name();
        names.extend(name.into_string().ok());
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
