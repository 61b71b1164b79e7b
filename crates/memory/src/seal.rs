//! A user's file is sealed with a key of that user's own: forgetting destroys the key, and with it every
//! copy of the file, in whatever backup it lies.

use std::{fmt::Write as _, path::Path};

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};

use crate::{Key, MemoryError, key};

/// What sealed text begins with; text from before files were sealed does not.
pub(crate) const MARK: &str = "sealed:1:";
const NONCE: usize = 24;

/// Closes and opens the texts of one file.
#[derive(Clone)]
pub(crate) struct Seal([u8; 32]);

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(…)")
    }
}

impl Seal {
    /// Of the secret in a file, which is made if there is none. The tenant's key is part of it, so a
    /// copy of the secrets alone opens nothing.
    pub(crate) fn obtain(path: &Path, tenant: &Key) -> Result<Self, MemoryError> {
        let secret = key::obtain(path, "without it nobody reads the lessons it seals")?;
        Ok(Self(tenant.derived("seal", &secret)))
    }

    /// A text as it is stored, bound to what it is of. Its nonce follows from key, place and
    /// content, so equal nonces mean equal contents.
    pub(crate) fn close(&self, of: &str, text: &str) -> String {
        let parts = [of.len().to_string().as_str(), of, text].join("\n");
        let nonce = *blake3::keyed_hash(&self.0, parts.as_bytes()).as_bytes();
        let nonce = &nonce[..NONCE];
        let sealed = self
            .cipher()
            .encrypt(&nonce_of(nonce), Payload { msg: text.as_bytes(), aad: of.as_bytes() })
            .expect("a text is shorter than the cipher's limit of 256 GB");
        let mut stored = MARK.to_owned();
        for byte in nonce.iter().chain(&sealed) {
            let _ = write!(stored, "{byte:02x}");
        }
        stored
    }

    /// The text again; `None` where the key is another one, or the bytes were changed.
    pub(crate) fn open(&self, of: &str, stored: &str) -> Option<String> {
        let Some(hex) = stored.strip_prefix(MARK) else { return Some(stored.to_owned()) };
        let bytes = unhex(hex)?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE)?;
        let payload = Payload { msg: sealed, aad: of.as_bytes() };
        String::from_utf8(self.cipher().decrypt(&nonce_of(nonce), payload).ok()?).ok()
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&self.0).into())
    }
}

fn nonce_of(bytes: &[u8]) -> XNonce {
    let mut nonce = XNonce::default();
    nonce.copy_from_slice(bytes);
    nonce
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    text.len().is_multiple_of(2).then(|| text.as_bytes().chunks(2).map(pair).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_and_the_place_it_was_closed_for_open_a_text() {
        let seal = Seal([7; 32]);
        let closed = seal.close("body mem_1", "prefer zqsecretxv.");
        assert!(closed.starts_with(MARK) && !closed.contains("zqsecretxv"));
        assert_eq!(seal.open("body mem_1", &closed).unwrap(), "prefer zqsecretxv.");
        assert_eq!(seal.close("body mem_1", "prefer zqsecretxv."), closed);
        assert_ne!(seal.close("body mem_2", "prefer zqsecretxv."), closed);
        assert_eq!(seal.open("body mem_2", &closed), None);
        assert_eq!(Seal([8; 32]).open("body mem_1", &closed), None);
        let last = if closed.ends_with('0') { '1' } else { '0' };
        for broken in [
            format!("{}{last}", &closed[..closed.len() - 1]),
            format!("{MARK}00"),
            format!("{MARK}é"),
        ] {
            assert_eq!(seal.open("body mem_1", &broken), None, "{broken}");
        }
        assert_eq!(seal.open("body mem_1", "{\"rev\":1}").unwrap(), "{\"rev\":1}", "from before");
    }
}
