//! Where bytes come to rest: atomic files, the data directory's lock, SQLite databases opened the one
//! way this project opens them, and logs of what is no loss to lose.
//!
//! Guarantees: whatever a function here has returned `Ok` for survives `kill -9` and, but for a
//! [`KeyedLog`], power loss; a reader sees the old content or the new, never a torn one; of two
//! updates neither undoes the other; a database is never opened by code older than its schema.
//!
//! Never: knows what it stores.

pub mod atomic;
mod error;
mod keyed;
mod lock;
pub mod sqlite;

pub use error::StorageError;
pub use keyed::KeyedLog;
pub use lock::DataDirLock;
