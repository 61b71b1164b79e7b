//! The door: who is known, who guesses, and who had enough.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use understudy_access::{Allowances, Buckets, Keyring, Lockout, Permit, Principal};
use understudy_ident::TenantName;

use super::{Caller, Holding, Refusal};

/// How soon a key that another process revoked opens nothing any more.
const REFRESH: Duration = Duration::from_millis(250);

/// Every so many refreshes it is written down when keys were last used.
const NOTE_EVERY: u32 = 240;

/// Outcomes an hour that one of an application's users may tell: a release is to be steered by many.
const PER_SUBJECT: u32 = 60;
const HOUR: Duration = Duration::from_hours(1);

/// Subjects that are remembered.
const SUBJECTS: usize = 65_536;

/// How callers are told apart.
#[derive(Debug)]
pub struct Door {
    keys: Option<Arc<Keyring>>,
    /// Whether nobody needs a key as long as none was made.
    may_be_open: bool,
    started: Instant,
    allowances: Allowances,
    lockout: Mutex<Lockout>,
    subjects: Mutex<Buckets<[u8; 32]>>,
}

impl Door {
    /// Answers this machine's user, and nobody else.
    pub fn open() -> Self {
        Self::new(None, true)
    }

    /// Asks for a key as soon as one was made, and everywhere but on a loopback address always.
    pub fn keyed(keys: Arc<Keyring>, listen: SocketAddr) -> Self {
        Self::new(Some(keys), listen.ip().is_loopback())
    }

    fn new(keys: Option<Arc<Keyring>>, may_be_open: bool) -> Self {
        Self {
            keys,
            may_be_open,
            started: Instant::now(),
            allowances: Allowances::default(),
            lockout: Mutex::default(),
            subjects: Mutex::new(Buckets::new(PER_SUBJECT, HOUR, SUBJECTS)),
        }
    }

    /// Whether this machine's user needs no key.
    pub(crate) fn is_open(&self) -> bool {
        self.may_be_open && !self.keys.as_ref().is_some_and(|keys| keys.is_locked())
    }

    pub(super) fn holder(&self, who: Principal, body_bytes: u64) -> Caller {
        let (allowances, started) = (self.allowances.clone(), self.started);
        Caller::holding(Holding { who, allowances, started, body_bytes })
    }

    /// Who presents this, if guessers have not to wait.
    pub(super) fn check(&self, from: Option<IpAddr>, text: &str) -> Result<Principal, Refusal> {
        let from = from.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let now = self.now();
        if let Some(wait) = lock(&self.lockout).wait(from, text, now) {
            return Err(Refusal::Locked(wait));
        }
        let checked = match &self.keys {
            Some(keys) => keys.check(text),
            None => Err(understudy_access::Denied::Unknown),
        };
        match checked {
            Ok(who) => {
                lock(&self.lockout).right(from, text);
                Ok(who)
            }
            Err(denied) => {
                let unknown = denied == understudy_access::Denied::Unknown;
                if unknown && let Some(wait) = lock(&self.lockout).wrong(from, text, now) {
                    tracing::warn!(%from, ?wait, "wrong API keys come from here");
                }
                Err(denied.into())
            }
        }
    }

    pub(super) fn begin(&self, who: &Principal) -> Result<Permit, Refusal> {
        Ok(self.allowances.begin(who, self.now())?)
    }

    /// Lets outcomes be told about what one user did, or says how long to wait.
    pub(crate) fn subject(
        &self,
        tenant: Option<&TenantName>,
        subject: &str,
        outcomes: u32,
    ) -> Result<(), Duration> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(tenant.map_or("", TenantName::as_str).as_bytes());
        hasher.update(&[0]);
        hasher.update(subject.as_bytes());
        lock(&self.subjects).take(*hasher.finalize().as_bytes(), outcomes, self.now())
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Follows what other processes do to the keys, as long as the server runs.
pub(crate) async fn follow_keys(door: Arc<Door>) {
    let Some(keys) = door.keys.clone() else { return };
    for nth in 1_u32.. {
        tokio::time::sleep(REFRESH).await;
        let keys = Arc::clone(&keys);
        let looked = tokio::task::spawn_blocking(move || {
            keys.refresh()?;
            if nth.is_multiple_of(NOTE_EVERY) { keys.note_used() } else { Ok(()) }
        });
        match looked.await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => tracing::error!("the API keys cannot be read: {why}"),
            Err(why) => tracing::error!("reading the API keys ended badly: {why}"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
