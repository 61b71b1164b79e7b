//! On whose behalf memories are read and written.
//!
//! There is no default tenant, no wildcard and no `Deserialize`: a request's body can never become a
//! principal, only whoever authenticated the request can make one.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use crate::MemoryError;

/// One customer of a deployment; tenants never meet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(String);

impl TenantId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TenantId {
    type Err = MemoryError;

    fn from_str(text: &str) -> Result<Self, MemoryError> {
        let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase());
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if starts_well && text.len() <= 64 && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(MemoryError::Tenant { text: text.to_owned() })
        }
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for TenantId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// An authenticated user of one tenant.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    tenant: TenantId,
    user: String,
}

impl Principal {
    /// To be called where a request was authenticated, with what the credential says, and nowhere
    /// else.
    pub fn authenticated(tenant: TenantId, user: &str) -> Result<Self, MemoryError> {
        let fits = (1..=256).contains(&user.chars().count()) && !user.chars().any(char::is_control);
        if fits { Ok(Self { tenant, user: user.to_owned() }) } else { Err(MemoryError::User) }
    }

    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    pub(crate) fn user(&self) -> &str {
        &self.user
    }
}

/// Without the user's name, which is often an e-mail address, so that it reaches no log.
impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}
