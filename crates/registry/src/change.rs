//! Who changes something, and why.

use serde_json::Value;
use understudy_ident::{Clock, Timestamp};

use crate::RegistryError;

/// What every change must say about itself; it ends up in the audit chain.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// Who answers for it: a person, or the controller that decided.
    pub owner: &'a str,
    pub reason: &'a str,
    /// The findings it rests on, such as a verdict on live traffic. Must hold no user content.
    pub evidence: Option<&'a Value>,
    pub clock: &'a dyn Clock,
}

impl<'a> Change<'a> {
    pub fn new(owner: &'a str, reason: &'a str, clock: &'a dyn Clock) -> Self {
        Self { owner, reason, evidence: None, clock }
    }

    pub fn with_evidence(self, evidence: &'a Value) -> Self {
        Self { evidence: Some(evidence), ..self }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn check(&self) -> Result<(), RegistryError> {
        said("owner", self.owner)?;
        said("reason", self.reason)
    }
}

/// Refuses an empty answer to a question that must be answered.
pub(crate) fn said(what: &'static str, text: &str) -> Result<(), RegistryError> {
    if text.trim().is_empty() { Err(RegistryError::Unsaid { what }) } else { Ok(()) }
}
