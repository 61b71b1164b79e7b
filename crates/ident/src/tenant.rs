//! Whose something is. A dot in a name separates its tenant from the rest: `acme.support-triage` is
//! what the tenant `acme` calls `support-triage`. A name without one belongs to whoever runs the
//! server, who is nobody's tenant.

use std::{fmt, str::FromStr};

use crate::{IdentError, text::wire_text};

/// A tenant's name: 1 to 32 of a-z, 0-9 and `-`, starting with a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantName(String);

impl TenantName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whose this name is, if it is a tenant's.
    pub fn owning(name: &str) -> Option<&str> {
        let (tenant, rest) = name.split_once('.')?;
        // So that `llama-3.1` is a name and no tenant's `1`.
        let is_name = rest.starts_with(|c: char| c.is_ascii_lowercase());
        (is_valid(tenant) && is_name).then_some(tenant)
    }

    /// Whose an id is, by what comes before the first dot of its suffix. It need not be a tenant's
    /// name, and is then nobody's.
    pub(crate) fn marking(suffix: &str) -> Option<&str> {
        let (tenant, _) = suffix.split_once('.')?;
        tenant.starts_with(|c: char| c.is_ascii_lowercase()).then_some(tenant)
    }

    /// The full name of what a member of `tenant` calls `name`; `None` where that is somebody
    /// else's, or could be taken for it. Full names stay what they are.
    pub fn full(tenant: Option<&Self>, name: &str) -> Option<String> {
        let owner = Self::owning(name);
        let Some(tenant) = tenant else {
            return owner.is_none().then(|| name.to_owned());
        };
        if owner.is_some() {
            return (owner == Some(tenant.as_str())).then(|| name.to_owned());
        }
        let full = format!("{tenant}.{name}");
        (Self::owning(&full) == Some(tenant.as_str())).then_some(full)
    }

    /// What the owner of a full name calls it.
    pub fn local(name: &str) -> &str {
        Self::owning(name).map_or(name, |tenant| &name[tenant.len() + 1..])
    }
}

impl FromStr for TenantName {
    type Err = IdentError;

    fn from_str(text: &str) -> Result<Self, IdentError> {
        if is_valid(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdentError::TenantName { text: text.to_owned() })
        }
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_valid(text: &str) -> bool {
    let starts_well = text.starts_with(|c: char| c.is_ascii_lowercase());
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    starts_well && text.len() <= 32 && text.chars().all(allowed)
}

wire_text!(TenantName);
