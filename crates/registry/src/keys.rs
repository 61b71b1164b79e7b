//! API keys in the audit chain. The keys themselves are kept elsewhere; here stands who let whom in.

use serde::{Deserialize, Serialize};
use understudy_ident::{TenantName, Timestamp};

use crate::{Change, Registry, RegistryError, Role, audit::Action, change::said, fact, people};

/// What is noted of an API key: nothing that opens anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyNote {
    pub id: String,
    /// Who answers for what is done with it.
    pub holder: String,
    pub tenant: Option<TenantName>,
    pub scopes: Vec<String>,
    pub expires_at: Option<Timestamp>,
}

impl Registry {
    /// Notes that a key was made, which release managers may do.
    pub fn note_key_created(
        &self,
        note: &KeyNote,
        change: Change<'_>,
    ) -> Result<(), RegistryError> {
        said("holder of the key", &note.holder)?;
        self.once(change, &("create key", &note.id), |transaction| {
            people::allow(transaction, change, &[Role::ReleaseManager], "make an API key")?;
            fact::add(transaction, Action::CreateKey, None, &note.id, note, change)
        })
    }

    /// Notes that a key was revoked. Like all that takes something away, anybody may, and a second
    /// time changes nothing.
    pub fn note_key_revoked(
        &self,
        note: &KeyNote,
        change: Change<'_>,
    ) -> Result<(), RegistryError> {
        self.once(change, &("revoke key", &note.id), |transaction| {
            if fact::about::<KeyNote>(transaction, Action::RevokeKey, &note.id)?.is_empty() {
                fact::add(transaction, Action::RevokeKey, None, &note.id, note, change)?;
            }
            Ok(())
        })
    }
}
