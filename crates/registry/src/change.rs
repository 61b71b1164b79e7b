//! Who changes something, and why.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use understudy_ident::{Clock, Timestamp};

use crate::RegistryError;

/// An override's reason is read when things went wrong, so it has to be a sentence.
const SHORTEST_REASON: usize = 20;

/// What every change must say about itself; it ends up in the audit chain.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// Who answers for it: a person, or the controller that decided.
    pub owner: &'a str,
    pub reason: &'a str,
    /// The findings it rests on, such as a verdict on live traffic. Must hold no user content.
    pub evidence: Option<&'a Value>,
    pub clock: &'a dyn Clock,
    pub actor: Actor,
    /// Somebody answers for going on in a freeze.
    pub forced: Option<&'a Override>,
    /// An idempotency key: within a day, the same key with the same command changes nothing and
    /// gets the same answer, and with another command is refused.
    pub request: Option<&'a str>,
    /// Of a command about a release that asks for none: only if it is still at this revision.
    pub if_revision: Option<u64>,
}

/// Who is behind a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    /// Has the roles that were granted to the owner's name.
    Person,
    /// Has the controller's role and no other.
    Program,
}

/// Who put a candidate on stage past the rules, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    pub owner: String,
    pub reason: String,
}

impl Override {
    pub(crate) fn check(&self) -> Result<(), RegistryError> {
        said("owner of the override", &self.owner)?;
        said("reason of the override", &self.reason)?;
        if self.reason.trim().chars().count() < SHORTEST_REASON {
            return Err(RegistryError::ThinOverride { least: SHORTEST_REASON });
        }
        Ok(())
    }
}

impl<'a> Change<'a> {
    /// A change by a person.
    pub fn new(owner: &'a str, reason: &'a str, clock: &'a dyn Clock) -> Self {
        let actor = Actor::Person;
        let (evidence, forced, request, if_revision) = (None, None, None, None);
        Self { owner, reason, evidence, clock, actor, forced, request, if_revision }
    }

    /// The same change, decided by the program itself.
    pub fn by_program(self) -> Self {
        Self { actor: Actor::Program, ..self }
    }

    pub fn with_evidence(self, evidence: &'a Value) -> Self {
        Self { evidence: Some(evidence), ..self }
    }

    pub fn forced_by(self, forced: &'a Override) -> Self {
        Self { forced: Some(forced), ..self }
    }

    pub fn with_request(self, key: &'a str) -> Self {
        Self { request: Some(key), ..self }
    }

    /// Whoever insists on a revision is refused when the release has moved on; without it, a
    /// candidate is always taken off.
    pub fn if_revision(self, revision: Option<u64>) -> Self {
        Self { if_revision: revision, ..self }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn check(&self) -> Result<(), RegistryError> {
        said("owner", self.owner)?;
        said("reason", self.reason)?;
        self.forced.map_or(Ok(()), Override::check)
    }
}

/// Refuses an empty answer to a question that must be answered.
pub(crate) fn said(what: &'static str, text: &str) -> Result<(), RegistryError> {
    if text.trim().is_empty() { Err(RegistryError::Unsaid { what }) } else { Ok(()) }
}
