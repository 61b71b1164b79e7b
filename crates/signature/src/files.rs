//! The files of a directory and their SHA-256.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::SignatureError;

/// A file's name below the directory, by its components: the order in which `model-signing` lists
/// files, where `a/b` comes before `a-b`.
pub(crate) type Name = Vec<String>;

/// Every file below a directory but those under an ignored path, with its SHA-256.
pub(crate) fn hashed(
    directory: &Path,
    ignored: &[String],
) -> Result<BTreeMap<Name, [u8; 32]>, SignatureError> {
    let mut files = BTreeMap::new();
    walk(directory, &Vec::new(), ignored, &mut files)?;
    Ok(files)
}

fn walk(
    directory: &Path,
    below: &Name,
    ignored: &[String],
    files: &mut BTreeMap<Name, [u8; 32]>,
) -> Result<(), SignatureError> {
    for path in entries(directory)? {
        let Some(last) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(SignatureError::Name { path });
        };
        let mut name = below.clone();
        name.push(last.to_owned());
        if ignored.contains(&name.join("/")) {
            continue;
        }
        let kind = path.symlink_metadata().map_err(failed("look at", &path))?.file_type();
        if kind.is_dir() {
            walk(&path, &name, ignored, files)?;
        } else if kind.is_file() {
            files.insert(name, sha256(&path)?);
        } else {
            return Err(SignatureError::NotPlain { path });
        }
    }
    Ok(())
}

fn sha256(path: &Path) -> Result<[u8; 32], SignatureError> {
    let mut file = File::open(path).map_err(failed("open", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match io::Read::read(&mut file, &mut buffer).map_err(failed("read", path))? {
            0 => return Ok(hasher.finalize().into()),
            read => hasher.update(&buffer[..read]),
        }
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, SignatureError> {
    let listed = fs::read_dir(directory).and_then(|entries| {
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()
    });
    listed.map_err(failed("list", directory))
}

fn failed(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SignatureError {
    let path = path.to_owned();
    move |source| SignatureError::Io { attempt, path, source }
}
