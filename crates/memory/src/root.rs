//! The directory of all memories: one folder a tenant, in it one file for all and one for each user.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use understudy_ident::Digest;

use crate::{
    By, DeploymentStore, Key, MemoryError, MemoryId, Principal, Releases, Settings, TenantId,
    UserStore, error::AttemptIo,
};

/// Where memories lie:
///
/// ```text
/// memory/key                                  names of users and sources are keyed with it
/// memory/tenants/acme/deployment.db           lessons for every user of acme
/// memory/tenants/acme/releases/9f2c…/         what was released, by content
/// memory/tenants/acme/users/51d0….db          lessons of one user, named by a keyed hash
/// memory/tenants/acme/keys/51d0….key          what that file is sealed with
/// ```
#[derive(Debug, Clone)]
pub struct MemoryRoot {
    directory: PathBuf,
    key: Key,
    settings: Settings,
}

impl MemoryRoot {
    pub fn open(directory: &Path, settings: Settings) -> Result<Self, MemoryError> {
        settings.check()?;
        let key = Key::open(&directory.join("key"))?;
        Ok(Self { directory: directory.to_owned(), key, settings })
    }

    /// The tenant's own key; [`crate::Episode`]s of its deployment job are read with it.
    pub fn key_of(&self, tenant: &TenantId) -> Key {
        self.key.of_tenant(tenant)
    }

    pub fn deployment(&self, tenant: &TenantId) -> Result<DeploymentStore, MemoryError> {
        let path = self.tenant(tenant).join("deployment.db");
        DeploymentStore::open(&path, self.key_of(tenant), self.settings.clone())
    }

    pub fn releases(&self, tenant: &TenantId) -> Releases {
        Releases::new(self.tenant(tenant).join("releases"))
    }

    /// The file of one user; there is no way to name a file but to be its user.
    pub fn user(&self, principal: &Principal) -> Result<UserStore, MemoryError> {
        let [path, secret] = self.user_paths(principal);
        UserStore::sealed(&path, &secret, self.key_of(principal.tenant()), self.settings.clone())
    }

    /// Whether a user has a file, without making one.
    pub fn has_user(&self, principal: &Principal) -> bool {
        self.user_paths(principal)[0].is_file()
    }

    /// Overwrites and deletes everything kept for a user, the key first: a copy of the file that lies
    /// elsewhere is unreadable from then on. Says whether there was anything.
    ///
    /// On a file system that copies on write, overwriting reaches the new copy only; there, an
    /// encrypted disk is what forgets.
    pub fn forget_user(&self, principal: &Principal) -> Result<bool, MemoryError> {
        let [path, secret] = self.user_paths(principal);
        let mut found = shred(&secret)?;
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let mut name = path.clone().into_os_string();
            name.push(suffix);
            found |= shred(Path::new(&name))?;
        }
        Ok(found)
    }

    /// Forgets one lesson of a user's own, down to the bytes.
    pub fn forget_own(
        &self,
        principal: &Principal,
        id: &MemoryId,
        by: &By,
    ) -> Result<(), MemoryError> {
        self.user(principal)?.erase(id, by)
    }

    /// Cuts what serves without one of its lessons; nothing where it does not hold it. It does not
    /// serve yet, and what held the lesson is still there.
    pub fn recut_without(
        &self,
        tenant: &TenantId,
        id: &MemoryId,
        by: &By,
    ) -> Result<Option<Digest>, MemoryError> {
        let store = self.deployment(tenant)?;
        let releases = self.releases(tenant);
        let Some(serving) = store.releases()?.into_iter().next().flatten() else { return Ok(None) };
        let release = releases.read(&serving)?;
        if !release.items.iter().any(|item| item.id == *id) {
            return Ok(None);
        }
        releases.cut(&release.without(id), by.at).map(Some)
    }

    /// Forgets one lesson of a deployment, and every release that holds it. When it was being
    /// served, a release without it takes over, and its name is returned.
    pub fn forget_item(
        &self,
        tenant: &TenantId,
        id: &MemoryId,
        by: &By,
    ) -> Result<Option<Digest>, MemoryError> {
        let store = self.deployment(tenant)?;
        let releases = self.releases(tenant);
        let serving = store.releases()?.into_iter().next().flatten();
        store.erase(id, by)?;
        let mut replaced = None;
        for digest in releases.list()? {
            let release = releases.read(&digest)?;
            if !release.items.iter().any(|item| item.id == *id) {
                continue;
            }
            if serving == Some(digest) {
                let smaller = releases.cut(&release.without(id), by.at)?;
                store.point(Some(&smaller), by)?;
                replaced = Some(smaller);
            }
            releases.remove(&digest)?;
        }
        Ok(replaced)
    }

    fn tenant(&self, tenant: &TenantId) -> PathBuf {
        self.directory.join("tenants").join(tenant.as_str())
    }

    /// A user's file, and the secret of its key. They lie in directories of their own, so that a
    /// backup can go without the keys.
    fn user_paths(&self, principal: &Principal) -> [PathBuf; 2] {
        let name = self.key_of(principal.tenant()).name("user", principal.user());
        let tenant = self.tenant(principal.tenant());
        [
            tenant.join("users").join(format!("{name}.db")),
            tenant.join("keys").join(format!("{name}.key")),
        ]
    }
}

/// Overwrites a file with zeros, flushes that, and deletes it.
pub(crate) fn shred(path: &Path) -> Result<bool, MemoryError> {
    let mut file = match fs::OpenOptions::new().write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).attempt("open for overwriting", path),
    };
    let length = file.metadata().attempt("look at", path)?.len();
    io::copy(&mut io::Read::take(io::repeat(0), length), &mut file).attempt("overwrite", path)?;
    file.sync_all().attempt("flush", path)?;
    drop(file);
    fs::remove_file(path).attempt("delete", path)?;
    Ok(true)
}
