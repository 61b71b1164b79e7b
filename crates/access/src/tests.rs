//! Keys, limits and lockouts, without a server.

mod keys;
mod limits;

use std::sync::Arc;

use understudy_ident::ManualClock;

use crate::{Keyring, Limits, NewKey, Role};

struct Desk {
    directory: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl Desk {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), clock: Arc::new(ManualClock::default()) }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn try_open(&self) -> Result<Keyring, crate::AccessError> {
        let clock = Arc::clone(&self.clock) as Arc<_>;
        Keyring::open(&self.path("access.db"), &self.path("access.pepper"), None, clock)
    }

    fn open(&self) -> Keyring {
        self.try_open().unwrap()
    }
}

fn new_key() -> NewKey {
    NewKey {
        owner: "ada".to_owned(),
        note: "a test".to_owned(),
        tenant: None,
        user: None,
        scopes: Role::Application.scopes(false),
        limits: Limits::default(),
        expires_at: None,
    }
}
