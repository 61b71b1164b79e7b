//! A name or a text, as what it can be compared by.

use understudy_ident::Digest;

/// Half a digest: among a million texts, two that share one have a chance of about 10⁻²⁷.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(u128);

impl Key {
    /// Of a name among names of the same kind.
    pub(crate) fn of(kind: &str, name: &str) -> Self {
        Self::from(Digest::of_parts([kind, name].map(str::as_bytes)))
    }

    /// Of something that has a number and no name.
    pub(crate) fn numbered(nth: usize) -> Self {
        Self(nth as u128)
    }
}

impl From<Digest> for Key {
    fn from(digest: Digest) -> Self {
        let mut half = [0; 16];
        half.copy_from_slice(&digest.as_bytes()[..16]);
        Self(u128::from_le_bytes(half))
    }
}
