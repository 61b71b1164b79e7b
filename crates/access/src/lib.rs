//! Who may do what over HTTP: API keys with scopes, tenants and limits.
//!
//! A key is `us_<id>_<secret>`, with 256 random bits of secret that are shown once. What is kept is
//! a BLAKE3 hash of it, keyed with a pepper that lies outside the database: who steals the database
//! has neither keys nor a way to try some.
//!
//! Guarantees: a key that expired or was revoked is refused by every process that shares the
//! database, within the time between two [`Keyring::refresh`]es; secrets are compared in a time that
//! tells nothing; a guesser learns nothing from an answer and is soon told to wait, and nobody else
//! is; what a key was made with never changes; memory does not grow with the number of strangers.
//!
//! Never: stores a secret, shows it twice, or lets one appear in `Debug` output or an error.

mod allowance;
mod bucket;
mod error;
mod key;
mod keyring;
mod listen;
mod lockout;
mod pepper;
mod record;
mod scope;
mod store;

pub use allowance::{Allowances, Exceeded, Permit, What};
pub use bucket::{Bucket, Buckets};
pub use error::AccessError;
pub use key::{Key, KeyId};
pub use keyring::{Denied, Keyring, Principal};
pub use listen::may_listen;
pub use lockout::Lockout;
pub use pepper::Pepper;
pub use record::{KeyRecord, Limits, NewKey, Revoked, State};
pub use scope::{Role, Scope, Scopes};

#[cfg(test)]
mod tests;
