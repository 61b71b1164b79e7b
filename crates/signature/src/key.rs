//! Keys, read from PEM: P-256 for directories, Ed25519 for checkpoints.

use std::fmt;

use ed25519_dalek::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use sha2::{Digest as _, Sha256};

use crate::SignatureError;

/// Signs directories. PKCS#8 or SEC 1, unencrypted.
pub struct SigningKey(pub(crate) p256::ecdsa::SigningKey);

impl SigningKey {
    pub fn from_pem(pem: &str) -> Result<Self, SignatureError> {
        let secret = p256::SecretKey::from_sec1_pem(pem).ok();
        let secret = secret.or_else(|| p256::SecretKey::from_pkcs8_pem(pem).ok());
        secret.map(|secret| Self(secret.into())).ok_or(SignatureError::Key {
            what: "private P-256 key",
            how: "ecparam -name prime256v1 -genkey -noout -out key.pem",
        })
    }

    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(*self.0.verifying_key())
    }
}

/// Secret, so that only the public half is shown.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {})", self.verifying_key().hint())
    }
}

/// Verifies directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyingKey(pub(crate) p256::ecdsa::VerifyingKey);

impl VerifyingKey {
    pub fn from_pem(pem: &str) -> Result<Self, SignatureError> {
        let key = p256::ecdsa::VerifyingKey::from_public_key_pem(pem);
        key.map(Self).map_err(|_| SignatureError::Key {
            what: "public P-256 key",
            how: "ec -in key.pem -pubout -out key.pub.pem",
        })
    }

    pub fn to_pem(&self) -> String {
        self.0.to_public_key_pem(LineEnding::LF).expect("a point on the curve has an encoding")
    }

    /// What a bundle calls the key: SHA-256 of its PEM, in hexadecimal, as `model-signing` has it.
    pub fn hint(&self) -> String {
        hex(&Sha256::digest(self.to_pem().as_bytes()))
    }
}

/// Signs checkpoints. PKCS#8, unencrypted.
pub struct CheckpointKey(pub(crate) ed25519_dalek::SigningKey);

impl CheckpointKey {
    pub fn from_pem(pem: &str) -> Result<Self, SignatureError> {
        let key = ed25519_dalek::SigningKey::from_pkcs8_pem(pem);
        key.map(Self).map_err(|_| SignatureError::Key {
            what: "private Ed25519 key",
            how: "genpkey -algorithm ed25519 -out audit.pem",
        })
    }

    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    pub fn public(&self) -> CheckpointPublicKey {
        CheckpointPublicKey(self.0.verifying_key())
    }
}

impl fmt::Debug for CheckpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckpointKey(of {})", hex(self.0.verifying_key().as_bytes()))
    }
}

/// Verifies checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointPublicKey(pub(crate) ed25519_dalek::VerifyingKey);

impl CheckpointPublicKey {
    pub fn from_pem(pem: &str) -> Result<Self, SignatureError> {
        let key = ed25519_dalek::VerifyingKey::from_public_key_pem(pem);
        key.map(Self).map_err(|_| SignatureError::Key {
            what: "public Ed25519 key",
            how: "pkey -in audit.pem -pubout -out audit.pub.pem",
        })
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}
