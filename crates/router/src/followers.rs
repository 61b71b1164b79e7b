//! Who routes by the same table elsewhere, and which of its changes they have.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a follower may route by what it was told, counted from when it asked. After that it serves
/// what is stable alone.
pub const LEASE: Duration = Duration::from_secs(5);

/// One that was silent for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_hours(1);

/// The servers that follow this one. Nobody here reads a clock: whoever hears says when.
#[derive(Debug, Default)]
pub struct Followers {
    by_name: Mutex<BTreeMap<String, Follower>>,
}

/// What a follower said last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Follower {
    /// The number of the table that it has in force as a whole; 0 for none of this process.
    pub sequence: u64,
    /// Milliseconds from asking for that table to having it in force.
    pub took_ms: f64,
    pub heard: Instant,
}

impl Followers {
    /// A follower asked on, which acknowledges what it was told before.
    pub fn heard(&self, name: &str, follower: Follower) {
        let mut known = self.lock();
        known.retain(|_, known| follower.heard.saturating_duration_since(known.heard) < FORGOTTEN);
        known.insert(name.to_owned(), follower);
    }

    pub fn list(&self) -> BTreeMap<String, Follower> {
        self.lock().clone()
    }

    /// Whose lease has not run out.
    pub fn are_there(&self, now: Instant) -> bool {
        self.lock().values().any(|follower| follower.is_leased(now))
    }

    /// Those that may still route by a table before this one.
    pub fn behind(&self, sequence: u64, now: Instant) -> Vec<String> {
        let known = self.lock();
        let behind = known.iter().filter(|(_, one)| one.sequence < sequence && one.is_leased(now));
        behind.map(|(name, _)| name.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Follower>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower {
    fn is_leased(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) <= LEASE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_behind_is_known_until_the_end_of_the_lease() {
        let followers = Followers::default();
        let now = Instant::now();
        assert!(!followers.are_there(now));
        let says = |name: &str, sequence, heard| {
            followers.heard(name, Follower { sequence, took_ms: 1.0, heard });
        };
        says("one", 3, now);
        says("two", 2, now);
        assert_eq!(followers.behind(3, now), ["two"]);
        assert!(followers.behind(2, now).is_empty());
        let later = now + LEASE + Duration::from_millis(1);
        assert!(followers.behind(3, later).is_empty() && !followers.are_there(later));
        says("two", 3, later);
        assert_eq!(followers.behind(4, later), ["two"]);
        says("one", 4, later + FORGOTTEN);
        assert_eq!(followers.list().len(), 1);
    }
}
