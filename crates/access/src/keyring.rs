//! All keys, ready to be asked a thousand times a second.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use blake3::Hash;
use understudy_ident::{Clock, TenantName, Timestamp};

use crate::{
    AccessError, Key, KeyId, KeyRecord, Limits, NewKey, Pepper, Revoked, Scopes, State,
    store::{Entry, Store},
};

/// After this long without a look at the database, keys may have been revoked that are not known to
/// be, so nobody is let in.
const STALE_MS: i64 = 10_000;

/// Whoever presented a key.
#[derive(Debug, Clone)]
pub struct Principal {
    pub key: KeyId,
    pub owner: String,
    pub tenant: Option<TenantName>,
    pub user: Option<String>,
    pub scopes: Scopes,
    pub limits: Limits,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Of no key, a wrong secret and a key without the form of one nothing more is said.
    #[error("this is no valid API key")]
    Unknown,
    #[error("this API key has expired; ask for a new one")]
    Expired,
    #[error("this API key was revoked; ask for a new one")]
    Revoked,
    #[error("the keys could not be read for a while, so that none is accepted")]
    Stale,
}

/// Shared between threads; several processes may have the same database open.
pub struct Keyring {
    store: Mutex<Store>,
    seen: RwLock<Seen>,
    used: Mutex<BTreeMap<KeyId, Timestamp>>,
    pepper_path: PathBuf,
    given: Option<Pepper>,
    clock: Arc<dyn Clock>,
}

/// The keys as they were at the last look.
struct Seen {
    entries: Arc<BTreeMap<KeyId, Entry>>,
    pepper: Option<Pepper>,
    version: i64,
    at: Timestamp,
}

impl Keyring {
    /// Opens the database of keys, creating it if there is none. The pepper is the one that is
    /// given, or lies in `pepper_path`, where the first key makes one.
    pub fn open(
        database: &Path,
        pepper_path: &Path,
        given: Option<Pepper>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, AccessError> {
        let store = Store::open(database)?;
        let pepper_path = pepper_path.to_owned();
        let seen = Seen::look(&store, &pepper_path, given.as_ref(), clock.now())?;
        Ok(Self {
            store: Mutex::new(store),
            seen: RwLock::new(seen),
            used: Mutex::default(),
            pepper_path,
            given,
            clock,
        })
    }

    /// Makes a key. This is the only time its secret can be seen.
    pub fn create(&self, new: NewKey) -> Result<(Key, KeyRecord), AccessError> {
        let now = self.clock.now();
        new.check(now)?;
        let mut store = self.store();
        let pepper = self.pepper(&store)?;
        let key = Key::generate()?;
        let NewKey { owner, note, tenant, user, scopes, limits, expires_at } = new;
        let record = KeyRecord {
            id: key.id().clone(),
            owner,
            note,
            tenant,
            user,
            scopes,
            limits,
            created_at: now,
            expires_at,
            revoked: None,
            last_used_at: None,
        };
        let entry = Entry { record: record.clone(), hash: pepper.hash(&key) };
        store.insert(&entry, &pepper)?;
        self.look(&store)?;
        Ok((key, record))
    }

    /// Ends a key for good. Doing it again changes nothing; what is answered is how it first ended.
    pub fn revoke(&self, id: &KeyId, owner: &str, reason: &str) -> Result<KeyRecord, AccessError> {
        for (what, text) in [("an owner", owner), ("a reason to be revoked", reason)] {
            if text.trim().is_empty() {
                return Err(AccessError::Unsaid { what });
            }
        }
        let store = self.store();
        if !store.entries()?.contains_key(id) {
            return Err(AccessError::UnknownKey { id: id.to_string() });
        }
        let (owner, reason) = (owner.to_owned(), reason.to_owned());
        store.revoke(id, &Revoked { at: self.clock.now(), owner, reason })?;
        self.look(&store)?;
        self.find(id)
    }

    pub fn find(&self, id: &KeyId) -> Result<KeyRecord, AccessError> {
        let found = self.entries().get(id).map(|entry| entry.record.clone());
        found.ok_or_else(|| AccessError::UnknownKey { id: id.to_string() })
    }

    /// Every key that was ever made, oldest first.
    pub fn list(&self) -> Vec<KeyRecord> {
        let mut records: Vec<KeyRecord> =
            self.entries().values().map(|entry| entry.record.clone()).collect();
        records.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        records
    }

    /// Whether a key was ever made. From then on one is asked for, even when none is left.
    pub fn is_locked(&self) -> bool {
        !self.entries().is_empty()
    }

    /// How many keys open something.
    pub fn active(&self) -> usize {
        let now = self.clock.now();
        let entries = self.entries();
        entries.values().filter(|entry| entry.record.state(now) == State::Active).count()
    }

    /// Who presents this. Takes as long for an id that nobody has as for a wrong secret.
    pub fn check(&self, presented: &str) -> Result<Principal, Denied> {
        let now = self.clock.now();
        let (entries, pepper, looked) = {
            let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
            (Arc::clone(&seen.entries), seen.pepper.clone(), seen.at)
        };
        if now.as_millisecond() - looked.as_millisecond() > STALE_MS {
            return Err(Denied::Stale);
        }
        let (Some(key), Some(pepper)) = (Key::parse(presented), pepper) else {
            return Err(Denied::Unknown);
        };
        let hash = pepper.hash(&key);
        let found = entries.get(key.id());
        // A hash that no key has: with another input, but as long to compare.
        let wanted = found.map_or(Hash::from([0; 32]), |entry| entry.hash);
        // BLAKE3's hashes are compared in constant time.
        let (true, Some(entry)) = (hash == wanted, found) else { return Err(Denied::Unknown) };
        match entry.record.state(now) {
            State::Revoked => return Err(Denied::Revoked),
            State::Expired => return Err(Denied::Expired),
            State::Active => {}
        }
        lock(&self.used).insert(key.id().clone(), now);
        let KeyRecord { id, owner, tenant, user, scopes, limits, .. } = entry.record.clone();
        Ok(Principal { key: id, owner, tenant, user, scopes, limits })
    }

    /// Looks whether another process has made or revoked keys, and notes which were used. To be
    /// called more often than once a second.
    pub fn refresh(&self) -> Result<(), AccessError> {
        let store = self.store();
        let version = store.version()?;
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        if version == seen.version {
            seen.at = self.clock.now();
            return Ok(());
        }
        drop(seen);
        self.look(&store)
    }

    /// Writes down when keys were last used.
    pub fn note_used(&self) -> Result<(), AccessError> {
        let used = std::mem::take(&mut *lock(&self.used));
        if used.is_empty() {
            return Ok(());
        }
        let mut store = self.store();
        store.note_used(&used)?;
        self.look(&store)
    }

    fn look(&self, store: &Store) -> Result<(), AccessError> {
        let now = self.clock.now();
        let fresh = Seen::look(store, &self.pepper_path, self.given.as_ref(), now)?;
        *self.seen.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    fn entries(&self) -> Arc<BTreeMap<KeyId, Entry>> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&seen.entries)
    }

    /// The pepper to hash a new key with, made where there is none.
    fn pepper(&self, store: &Store) -> Result<Pepper, AccessError> {
        match checked(store, &self.pepper_path, self.given.as_ref())? {
            Some(pepper) => Ok(pepper),
            None => Pepper::create(&self.pepper_path),
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }
}

impl Seen {
    fn look(
        store: &Store,
        path: &Path,
        given: Option<&Pepper>,
        at: Timestamp,
    ) -> Result<Self, AccessError> {
        // Read before the keys, so that what is committed in between is noticed the next time.
        let version = store.version()?;
        let entries = Arc::new(store.entries()?);
        let pepper = checked(store, path, given)?;
        Ok(Self { entries, pepper, version, at })
    }
}

/// The pepper, if there is one, after a check that it is the one keys were hashed with.
fn checked(
    store: &Store,
    path: &Path,
    given: Option<&Pepper>,
) -> Result<Option<Pepper>, AccessError> {
    let pepper = match given {
        Some(pepper) => Some(pepper.clone()),
        None => Pepper::read(path)?,
    };
    let Some(pepper) = pepper else {
        let lost = || AccessError::LostPepper { path: path.to_owned() };
        return if store.entries()?.is_empty() { Ok(None) } else { Err(lost()) };
    };
    match store.knows(&pepper)? {
        Some(false) => Err(AccessError::OtherPepper),
        Some(true) | None => Ok(Some(pepper)),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("keys", &self.entries().len()).finish_non_exhaustive()
    }
}
