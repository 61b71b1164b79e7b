//! Why something could not be signed, or does not verify.

use std::{io, path::PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    #[error(
        "this is no {what} in PEM: make one with `openssl {how}`; encrypted keys and other curves are not read"
    )]
    Key { what: &'static str, how: &'static str },
    #[error("failed to {attempt} {}", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot vouch for {}: it is a symbolic link or special file; replace it by a copy", path.display())]
    NotPlain { path: PathBuf },
    #[error("cannot vouch for {}: its name is not UTF-8; rename it", path.display())]
    Name { path: PathBuf },

    #[error("the signature cannot be read: {why}; sign again")]
    Malformed { why: String },
    #[error(
        "the signature was made with key {found}, not with {expected}; verify with the signer's key"
    )]
    OtherKey { expected: String, found: String },
    #[error("the signature does not fit its payload and the key: one of them was changed")]
    Forged,
    #[error("the signature covers {found}, but a signed directory was expected")]
    OtherStatement { found: String },

    #[error("{name} is not what was signed: restore it, or sign again")]
    Changed { name: String },
    #[error("{name} was signed and is missing: restore it, or sign again")]
    Missing { name: String },
    #[error("{name} was added after signing: remove it, or sign again")]
    Added { name: String },
}
