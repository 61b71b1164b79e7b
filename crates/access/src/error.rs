//! What can go wrong with keys, by what can be done about it.

use std::{io, net::SocketAddr, path::PathBuf};

use understudy_storage::StorageError;

#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("{text:?} is not a scope: use {known}")]
    Scope { text: String, known: String },
    #[error("{text:?} is not a role: use {known}")]
    Role { text: String, known: String },
    #[error("a key needs {what}")]
    Unsaid { what: &'static str },
    #[error("a key's user must have 1 to 256 characters, none of them a control character")]
    User,
    #[error("a key needs at least one scope, or a role: {known}")]
    NoScopes { known: String },
    #[error(
        "a key of the tenant {tenant} cannot have the scope {scope}, which reaches beyond every tenant; make it a key without a tenant"
    )]
    BeyondTenant { tenant: String, scope: Scope },
    #[error("a key that expires at {at} would never have been valid; give a later time")]
    Expired { at: understudy_ident::Timestamp },
    #[error("a limit of 0 would refuse everything; revoke the key instead")]
    ZeroLimit,
    #[error("there is no key with the id {id:?}; `understudy key list` shows all of them")]
    UnknownKey { id: String },
    #[error("{path} is not a pepper, which is 64 hexadecimal characters")]
    BadPepper { path: PathBuf },
    #[error("{path} can be read by others; run `chmod 600 {path}`")]
    OpenPepper { path: PathBuf },
    #[error(
        "the pepper that keys are hashed with is gone: restore {path} (or the environment variable it came from), or move access.db away and make new keys"
    )]
    LostPepper { path: PathBuf },
    #[error(
        "this is not the pepper that keys were hashed with: restore the former one, or move access.db away and make new keys"
    )]
    OtherPepper,
    #[error("failed to {attempt} {path}")]
    Io { attempt: &'static str, path: PathBuf, source: io::Error },
    #[error("the system gave no random bytes: {0}")]
    Random(getrandom::Error),
    #[error(
        "refusing to listen on {address} without any API key: whoever reaches it could read what users said and load adapters. Make a key first, with `understudy key create --owner you --role admin`, or listen on 127.0.0.1"
    )]
    NoKeys { address: SocketAddr },
    #[error("the database of keys failed")]
    Sqlite(#[from] rusqlite::Error),
    #[error("a record in the database of keys cannot be read")]
    Record(#[from] serde_json::Error),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

use crate::Scope;
