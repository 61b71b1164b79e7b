//! Finds and masks personal data, and says what it masked.
//!
//! Guarantees: the same value gets the same pseudonym (`<EMAIL_1>`) everywhere within one
//! [`Masker`] and none that links it to another; text that is JSON stays JSON of the same shape;
//! masking twice changes nothing more; every replacement is counted by kind.
//!
//! What a pattern cannot find (names, places, organisations) is found by a [`Recogniser`], where the
//! caller has one, and told to the masker, which masks it wherever it occurs. [`Cues`] is one that
//! needs no model and finds a part of them.
//!
//! Never: decides policy silently. What is looked for is the [`Policy`] the caller named, whose id
//! goes into the dataset's manifest. By itself it knows patterns and checksums only: without a
//! recogniser names, addresses and birthdays are left as they are.

mod cues;
mod detect;
mod json;
mod mask;
mod measured;
mod names;

pub use cues::{CUES, Cues};
pub use mask::{Masker, without_numbers};
pub use measured::{MEASURED_ON, Measured, Overall};
pub use names::{Named, Recogniser, RecogniserError};

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Every [`Kind`].
    Standard,
    /// Nothing.
    Off,
}

impl Policy {
    /// Goes into manifests: a detector that finds more or less makes a new version.
    pub fn id(self) -> &'static str {
        match self {
            Self::Standard => "standard@4",
            Self::Off => "off",
        }
    }

    /// The policy with this id; `None` for an older version, whose detectors are gone.
    pub fn named(id: &str) -> Option<Self> {
        [Self::Standard, Self::Off].into_iter().find(|policy| policy.id() == id)
    }

    /// What its detectors find of what is there, [`MEASURED_ON`].
    pub fn measured(self) -> &'static [Measured] {
        match self {
            Self::Standard => &measured::STANDARD,
            Self::Off => &[],
        }
    }

    /// The same of everything that is labelled there, names among it.
    pub fn overall(self) -> Option<Overall> {
        (self == Self::Standard).then_some(measured::STANDARD_OVERALL)
    }
}

/// What a piece of text was recognised as. Where two overlap, the earlier kind wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A provider's key, a bearer token, a password, a PEM block.
    Secret,
    Iban,
    Email,
    /// A payment card number.
    Card,
    /// A number of the United States' social security.
    Ssn,
    /// The address of a machine.
    Ip,
    /// The address of a page.
    Url,
    Phone,
    /// Somebody's name: found by a [`Recogniser`] only, as the two below.
    Person,
    /// A place or a street address.
    Location,
    Organization,
}

impl Kind {
    pub const ALL: [Self; 11] = [
        Self::Secret,
        Self::Iban,
        Self::Email,
        Self::Card,
        Self::Ssn,
        Self::Ip,
        Self::Url,
        Self::Phone,
        Self::Person,
        Self::Location,
        Self::Organization,
    ];

    /// The word used in counts and, in capitals, in pseudonyms.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Iban => "iban",
            Self::Email => "email",
            Self::Card => "card",
            Self::Ssn => "ssn",
            Self::Ip => "ip",
            Self::Url => "url",
            Self::Phone => "phone",
            Self::Person => "person",
            Self::Location => "location",
            Self::Organization => "organization",
        }
    }
}

/// Where something was found, in bytes of the text that was searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

/// Applies one policy.
#[derive(Debug, Clone, Copy)]
pub struct Redactor {
    policy: Policy,
}

impl Redactor {
    pub fn new(policy: Policy) -> Self {
        Self { policy }
    }

    pub fn policy(self) -> Policy {
        self.policy
    }

    /// What the policy would mask in a plain text, in order and without overlaps.
    pub fn find(self, text: &str) -> Vec<Span> {
        match self.policy {
            Policy::Standard => detect::all(text),
            Policy::Off => Vec::new(),
        }
    }

    /// Starts the masking of texts that share pseudonyms: one trajectory, usually.
    pub fn masker(self) -> Masker {
        Masker::new(self)
    }
}

#[cfg(test)]
mod tests;
