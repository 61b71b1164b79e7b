//! The part of every hash that is not in the database.

use std::{
    fmt, fs,
    io::{self, Write as _},
    path::Path,
};

use blake3::Hash;

use crate::{
    AccessError, Key,
    key::{from_hex, to_hex},
};

const KEYS: &str = "understudy 2026-11 API key v1";
const ITSELF: &str = "understudy 2026-11 pepper check v1";

/// 256 random bits, in a file that only its owner reads, or from wherever the operator has them.
#[derive(Clone)]
pub struct Pepper([u8; 32]);

impl Pepper {
    /// 64 hexadecimal characters, from an environment variable say; `source` names it in errors.
    pub fn parse(text: &str, source: &Path) -> Result<Self, AccessError> {
        let bytes = from_hex(text.trim()).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| AccessError::BadPepper { path: source.to_owned() })
    }

    /// Reads the pepper, if there is one.
    pub fn read(path: &Path) -> Result<Option<Self>, AccessError> {
        let failed = |source| AccessError::Io { attempt: "read", path: path.to_owned(), source };
        let text = match fs::read_to_string(path) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(failed)?,
        };
        if is_open(path).map_err(failed)? {
            return Err(AccessError::OpenPepper { path: path.to_owned() });
        }
        Self::parse(&text, path).map(Some)
    }

    /// Makes a pepper where there is none; never replaces one.
    pub fn create(path: &Path) -> Result<Self, AccessError> {
        let failed = |source| AccessError::Io { attempt: "create", path: path.to_owned(), source };
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(AccessError::Random)?;
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(failed)?;
        file.write_all(to_hex(&bytes).as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(Self(bytes))
    }

    /// The hash that stands for a key. Its id is part of it, so that a hash cannot be moved from
    /// one key to another.
    pub(crate) fn hash(&self, key: &Key) -> Hash {
        let mut hasher = blake3::Hasher::new_keyed(&blake3::derive_key(KEYS, &self.0));
        hasher.update(key.id().as_str().as_bytes());
        hasher.update(key.secret());
        hasher.finalize()
    }

    /// By which another pepper is told from this one.
    pub(crate) fn check(&self) -> Hash {
        blake3::derive_key(ITSELF, &self.0).into()
    }
}

#[cfg(unix)]
fn is_open(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::metadata(path)?.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_open(_: &Path) -> io::Result<bool> {
    Ok(false)
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper")
    }
}
