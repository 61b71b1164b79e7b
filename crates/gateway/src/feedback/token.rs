//! The permission to say something about one reply, for whoever was shown it.
//!
//! A token is the time it ends, in seconds since 1970 and hexadecimal, a dot, and a keyed BLAKE3
//! hash over that time and the reply's id. Who does not have the key cannot make one for another
//! reply, and nobody has to store it.

use std::fmt;

use understudy_ident::Timestamp;

const CONTEXT: &str = "understudy 2026-11 feedback token v1";

const DAYS: i64 = 30;

#[derive(Clone, Copy)]
pub(crate) struct TokenKey([u8; 32]);

impl TokenKey {
    pub(crate) fn derived(secret: &[u8; 32]) -> Self {
        Self(blake3::derive_key(CONTEXT, secret))
    }

    /// For the reply with this id, given at this time.
    pub(crate) fn token(&self, response: &str, at: Timestamp) -> String {
        let end = at.as_second() + DAYS * 24 * 60 * 60;
        format!("{end:x}.{}", self.hash(response, end).to_hex())
    }

    pub(crate) fn check(
        &self,
        token: &str,
        response: &str,
        now: Timestamp,
    ) -> Result<(), &'static str> {
        const WRONG: &str = "the token is not one for this response";
        let (end, hash) = token.split_once('.').ok_or(WRONG)?;
        let end = i64::from_str_radix(end, 16).map_err(|_| WRONG)?;
        let hash = blake3::Hash::from_hex(hash).map_err(|_| WRONG)?;
        // Hashes compare in a time that tells nothing.
        if hash != self.hash(response, end) {
            return Err(WRONG);
        }
        if now.as_second() > end { Err("the token has ended") } else { Ok(()) }
    }

    /// The same for everybody with this key, and no help in finding it.
    pub(crate) fn public_name(&self) -> String {
        blake3::keyed_hash(&self.0, b"name").to_hex()[..16].to_owned()
    }

    fn hash(&self, response: &str, end: i64) -> blake3::Hash {
        let said = [&end.to_le_bytes(), response.as_bytes()].concat();
        blake3::keyed_hash(&self.0, &said)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey")
    }
}
