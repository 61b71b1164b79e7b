//! The name of a task, which is also what an application sends as `model`.

use std::{fmt, str::FromStr};

use crate::{IdentError, TenantName, text::wire_text};

/// A narrow, repeatable workload: `support-triage`, or `acme.support-triage` where it is a tenant's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskName(String);

impl TaskName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whose it is; `None` is whoever runs the server.
    pub fn tenant(&self) -> Option<TenantName> {
        TenantName::owning(&self.0).and_then(|tenant| tenant.parse().ok())
    }
}

impl FromStr for TaskName {
    type Err = IdentError;

    fn from_str(text: &str) -> Result<Self, IdentError> {
        let local = TenantName::local(text);
        let starts_well = local.starts_with(|c: char| c.is_ascii_lowercase());
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if starts_well && local.len() <= 64 && local.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdentError::TaskName { text: text.to_owned() })
        }
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

wire_text!(TaskName);
