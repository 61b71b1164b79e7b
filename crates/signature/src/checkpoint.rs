//! A signed statement of how long a log is and what its head hashes to.
//!
//! The text is three lines, `origin`, `size` and the head in base64, and is signed as a C2SP signed
//! note (<https://c2sp.org/signed-note>): a blank line, then `— name base64(id ‖ signature)`, where
//! `id` is the first four bytes of `SHA-256(name ‖ "\n" ‖ 0x01 ‖ public key)`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer as _};
use sha2::{Digest as _, Sha256};

use crate::{CheckpointKey, CheckpointPublicKey, SignatureError, bundle::malformed, key::hex};

/// The algorithm byte of Ed25519 in a signed note.
const ED25519: u8 = 1;

/// The end of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log; also the name the key signs under. Without spaces or plus signs.
    pub origin: String,
    /// Entries so far.
    pub size: u64,
    /// The hash of the last of them.
    pub head: [u8; 32],
}

impl Checkpoint {
    pub fn sign(&self, key: &CheckpointKey) -> String {
        let text = self.text();
        let signature = key.0.sign(text.as_bytes());
        let mut bytes = key_id(&self.origin, &key.public()).to_vec();
        bytes.extend_from_slice(&signature.to_bytes());
        format!("{text}\n— {} {}\n", self.origin, STANDARD.encode(bytes))
    }

    /// Reads a note, once it is certain that `key` signed it.
    pub fn open(note: &str, key: &CheckpointPublicKey) -> Result<Self, SignatureError> {
        let Signed { body, name, id, signature } = Signed::read(note)?;
        let checkpoint = Self::parse(body)?;
        let expected = key_id(name, key);
        if id != expected {
            return Err(SignatureError::OtherKey { expected: hex(&expected), found: hex(&id) });
        }
        let signature = Signature::from_slice(&signature).map_err(|_| SignatureError::Forged)?;
        let text = checkpoint.text();
        if format!("{body}\n") != text || name != checkpoint.origin {
            return Err(SignatureError::Forged);
        }
        // Strict, so that no second signature of the same text is valid too.
        key.0.verify_strict(text.as_bytes(), &signature).map_err(|_| SignatureError::Forged)?;
        Ok(checkpoint)
    }

    /// The id of the key that a note names; whether that key signed it, [`open`](Self::open) says.
    pub fn key_id(note: &str) -> Result<String, SignatureError> {
        Ok(hex(&Signed::read(note)?.id))
    }

    fn parse(body: &str) -> Result<Self, SignatureError> {
        let mut lines = body.lines();
        let (origin, size, head) = (lines.next(), lines.next(), lines.next());
        let parsed = origin.zip(size).zip(head).and_then(|((origin, size), head)| {
            let head = STANDARD.decode(head).ok()?.try_into().ok()?;
            Some(Self { origin: origin.to_owned(), size: size.parse().ok()?, head })
        });
        parsed.ok_or_else(|| malformed("the note is no checkpoint".into()))
    }

    fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.head))
    }
}

/// A note as it is written, before anybody has said that it is true.
struct Signed<'a> {
    body: &'a str,
    name: &'a str,
    id: [u8; 4],
    signature: Vec<u8>,
}

impl<'a> Signed<'a> {
    fn read(note: &'a str) -> Result<Self, SignatureError> {
        let parts = note.split_once("\n\n");
        let (body, signed) = parts.ok_or_else(|| malformed("the note has no signature".into()))?;
        let line = signed.trim_end_matches('\n').strip_prefix("— ");
        let (name, encoded) = line
            .and_then(|line| line.split_once(' '))
            .ok_or_else(|| malformed("the note's last line is no signature".into()))?;
        let bytes = STANDARD.decode(encoded).map_err(|error| malformed(error.to_string()))?;
        let (id, signature) = bytes
            .split_first_chunk::<4>()
            .ok_or_else(|| malformed("the signature is too short".into()))?;
        Ok(Self { body, name, id: *id, signature: signature.to_vec() })
    }
}

impl CheckpointPublicKey {
    /// What notes about a log call this key.
    pub fn id(&self, origin: &str) -> String {
        hex(&key_id(origin, self))
    }
}

fn key_id(name: &str, key: &CheckpointPublicKey) -> [u8; 4] {
    let mut hasher = Sha256::new();
    hasher.update(name.as_bytes());
    hasher.update([b'\n', ED25519]);
    hasher.update(key.0.as_bytes());
    let digest: [u8; 32] = hasher.finalize().into();
    [digest[0], digest[1], digest[2], digest[3]]
}
