//! Who vouches for these bytes.
//!
//! Two kinds of signature, each in a format that other programs read:
//!
//! - [`sign_directory`] and [`verify_directory`]: every file of a directory, as the Python package
//!   `model-signing` writes and reads it. A Sigstore bundle holds a DSSE envelope around an in-toto
//!   statement, signed with ECDSA over P-256 and SHA-256.
//! - [`Checkpoint`]: how long a log is and what its head hashes to, as a C2SP signed note with an
//!   Ed25519 signature.
//!
//! Guarantees: what verifies was signed with the key at hand, byte for byte, and a directory that
//! verifies holds every signed file, unchanged, and no other; each way to fail has its own error.
//!
//! Never: makes, stores or prints a private key; follows a symbolic link; accepts a signature
//! without being told whose it must be.

mod bundle;
mod checkpoint;
mod directory;
mod error;
mod files;
mod key;

pub use bundle::{Bundle, statement};
pub use checkpoint::Checkpoint;
pub use directory::{SignedDirectory, sign_directory, verify_directory};
pub use error::SignatureError;
pub use key::{CheckpointKey, CheckpointPublicKey, SigningKey, VerifyingKey};

#[cfg(test)]
mod tests;
