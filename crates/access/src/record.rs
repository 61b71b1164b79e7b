//! What is kept of a key.

use serde::{Deserialize, Serialize};
use understudy_ident::{TenantName, Timestamp};

use crate::{AccessError, KeyId, Role, Scopes};

/// How much a key may ask for; without a number, as much as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    pub requests_per_minute: Option<u32>,
    /// Of prompts and completions together.
    pub tokens_per_minute: Option<u32>,
    /// Of one completion.
    pub max_tokens: Option<u32>,
    /// Requests at once, until the last byte of the reply.
    pub concurrent: Option<u32>,
    /// Outcomes; without a number [`Limits::FEEDBACK_PER_MINUTE`], because outcomes steer releases.
    pub feedback_per_minute: Option<u32>,
}

impl Limits {
    pub const FEEDBACK_PER_MINUTE: u32 = 600;

    fn numbers(self) -> [Option<u32>; 5] {
        [
            self.requests_per_minute,
            self.tokens_per_minute,
            self.max_tokens,
            self.concurrent,
            self.feedback_per_minute,
        ]
    }
}

/// A key that is to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Who answers for what is done with it: a person, under the name that the registry knows.
    pub owner: String,
    /// What it is for.
    pub note: String,
    pub tenant: Option<TenantName>,
    /// The one person whose requests it makes, for what is kept of that person alone.
    pub user: Option<String>,
    pub scopes: Scopes,
    pub limits: Limits,
    pub expires_at: Option<Timestamp>,
}

impl NewKey {
    pub(crate) fn check(&self, now: Timestamp) -> Result<(), AccessError> {
        if self.owner.trim().is_empty() {
            return Err(AccessError::Unsaid { what: "an owner, who answers for it" });
        }
        let fits = |user: &String| {
            (1..=256).contains(&user.chars().count()) && !user.chars().any(char::is_control)
        };
        if !self.user.as_ref().is_none_or(fits) {
            return Err(AccessError::User);
        }
        if self.scopes.is_empty() {
            let known = Role::ALL.map(Role::as_str).join(", ");
            return Err(AccessError::NoScopes { known });
        }
        let beyond = self.scopes.iter().find(|scope| scope.is_beyond_tenants());
        if let (Some(tenant), Some(scope)) = (&self.tenant, beyond) {
            let (tenant, scope) = (tenant.to_string(), scope.clone());
            return Err(AccessError::BeyondTenant { tenant, scope });
        }
        if let Some(at) = self.expires_at.filter(|at| *at <= now) {
            return Err(AccessError::Expired { at });
        }
        if self.limits.numbers().contains(&Some(0)) {
            return Err(AccessError::ZeroLimit);
        }
        Ok(())
    }
}

/// A key as it was made, without its secret. Never changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    pub id: KeyId,
    pub owner: String,
    pub note: String,
    pub tenant: Option<TenantName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    pub scopes: Scopes,
    pub limits: Limits,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    /// Beside the record, because it comes later.
    #[serde(skip_deserializing)]
    pub revoked: Option<Revoked>,
    #[serde(skip_deserializing)]
    pub last_used_at: Option<Timestamp>,
}

/// The end of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    pub at: Timestamp,
    pub owner: String,
    pub reason: String,
}

/// Whether a key still opens anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Active,
    Expired,
    Revoked,
}

impl KeyRecord {
    pub fn state(&self, now: Timestamp) -> State {
        if self.revoked.is_some() {
            State::Revoked
        } else if self.expires_at.is_some_and(|end| end <= now) {
            State::Expired
        } else {
            State::Active
        }
    }
}
