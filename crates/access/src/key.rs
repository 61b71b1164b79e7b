//! A key as its holder has it.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::AccessError;

/// So that a key is recognised wherever it leaks.
const PREFIX: &str = "us_";

const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;

/// The part of a key that may be known: it names the key in listings and in the audit chain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(String);

/// `us_<id>_<secret>`.
pub struct Key {
    id: KeyId,
    secret: [u8; SECRET_BYTES],
}

impl Key {
    /// A fresh key, from the system's source of randomness.
    pub fn generate() -> Result<Self, AccessError> {
        let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
        getrandom::fill(&mut id).map_err(AccessError::Random)?;
        getrandom::fill(&mut secret).map_err(AccessError::Random)?;
        Ok(Self { id: KeyId(to_hex(&id)), secret })
    }

    /// What somebody presents, if it has the form of a key. Not being one is no secret.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let id = id.parse().ok()?;
        Some(Self { id, secret: from_hex(secret)?.try_into().ok()? })
    }

    pub fn id(&self) -> &KeyId {
        &self.id
    }

    pub(crate) fn secret(&self) -> &[u8] {
        &self.secret
    }

    /// The whole key, for its holder's eyes. The only way there is to see it.
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}_{}", self.id, to_hex(&self.secret))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.secret.fill(0);
        // What is never read again would not be written either.
        std::hint::black_box(&self.secret);
    }
}

impl KeyId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        match from_hex(text) {
            Some(bytes) if bytes.len() == ID_BYTES => Ok(Self(text.to_owned())),
            _ => Err(AccessError::UnknownKey { id: text.chars().take(80).collect() }),
        }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// Lowercase only, so that a key has one spelling.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}
