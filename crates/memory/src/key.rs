//! Names that tell equal from different and nothing else: keyed hashes of ids, users and targets.

use std::{fmt, fs, path::Path, str::FromStr};

use rusqlite::Connection;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use understudy_storage::atomic;

use crate::{
    MemoryError, TenantId,
    error::{AttemptIo, AttemptSql},
};

/// A secret of 256 bits. Without it, a [`Keyed`] cannot be guessed from candidates.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// For tests and simulations, where nothing is secret.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn open(path: &Path) -> Result<Self, MemoryError> {
        obtain(path, "without it earlier users are not recognised").map(Self)
    }

    /// A tenant's own key: the same user or document has unrelated names in two tenants.
    pub fn of_tenant(&self, tenant: &TenantId) -> Self {
        Self(*self.hash("tenant", tenant.as_str().as_bytes()).as_bytes())
    }

    /// The name of something, for one purpose: names for two purposes cannot be linked either.
    pub fn name(&self, purpose: &str, thing: &str) -> Keyed {
        let mut short = [0; 16];
        short.copy_from_slice(&self.hash(purpose, thing.as_bytes()).as_bytes()[..16]);
        Keyed(short)
    }

    /// Another key, of this one and a secret.
    pub(crate) fn derived(&self, purpose: &str, secret: &[u8; 32]) -> [u8; 32] {
        *self.hash(purpose, secret).as_bytes()
    }

    fn hash(&self, purpose: &str, bytes: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&(purpose.len() as u64).to_le_bytes());
        hasher.update(purpose.as_bytes());
        hasher.update(bytes);
        hasher.finalize()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Reads a secret, or makes one that only the owner of the file may read. `loss` is what is lost with
/// it.
pub(crate) fn obtain(path: &Path, loss: &str) -> Result<[u8; 32], MemoryError> {
    if !path.exists() {
        create(path)?;
    }
    let bytes = fs::read(path).attempt("read the key", path)?;
    bytes.try_into().map_err(|_| MemoryError::Corrupt {
        what: "key",
        path: path.to_owned(),
        why: format!("it is not 32 bytes long; {loss}"),
    })
}

fn create(path: &Path) -> Result<(), MemoryError> {
    let directory = path.parent().unwrap_or(path);
    atomic::create_dir(directory)?;
    // SQLite's generator is seeded by the operating system; it saves a dependency.
    let (bytes, name): (Vec<u8>, String) = Connection::open_in_memory()
        .and_then(|connection| {
            let sql = "SELECT randomblob(32), lower(hex(randomblob(8)))";
            connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
        })
        .attempt_sql("make a key for", path)?;
    // A name of its own: whoever shared it would overwrite a key that is published already.
    let staged = path.with_extension(format!("new-{name}"));
    write_private(&staged, &bytes).attempt("write the key", &staged)?;
    // A link fails where a key exists already: of two processes that start at once, one wins.
    match fs::hard_link(&staged, path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).attempt("publish the key", path)?;
        }
        _ => {}
    }
    fs::remove_file(&staged).attempt("delete", &staged)?;
    // What the key seals or names is durable at once, so it has to be as well.
    #[cfg(unix)]
    fs::File::open(directory).and_then(|it| it.sync_all()).attempt("flush to disk", directory)?;
    Ok(())
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// 128 bits that stand for something; on the wire 32 hexadecimal characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Keyed([u8; 16]);

impl Keyed {
    /// As a number below 2^64: what draws are made from.
    pub(crate) fn number(self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        u64::from_le_bytes(first)
    }
}

impl fmt::Display for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Keyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Keyed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not 32 hexadecimal characters");
        if text.len() != 32 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Keyed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Keyed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
