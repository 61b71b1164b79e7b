//! The replicas of an endpoint, and which of them is asked.

use std::{
    collections::{BTreeMap, BTreeSet, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use understudy_inference::Prompt;

use crate::{Admission, Breaker, BreakerRules};

/// Breakers of adapters beyond this many are not kept: the replica's own stands for them.
const MOST_ADAPTERS: usize = 256;
/// A replica with this many more requests under way than the least busy one is passed over, however
/// warm its cache.
const OVERLOAD: usize = 8;

/// One server.
#[derive(Debug)]
pub(crate) struct Replica {
    /// Up to and without `/chat/completions`.
    pub(crate) url: String,
    /// The number of requests under way.
    pub(crate) busy: AtomicUsize,
    /// The names of adapters it has.
    pub(crate) holds: Mutex<BTreeSet<String>>,
    /// What it said at the last look that decides its answers, beside the adapter.
    identity: Mutex<Option<String>>,
    breakers: Mutex<Breakers>,
}

#[derive(Debug)]
struct Breakers {
    rules: BreakerRules,
    own: Breaker,
    adapters: BTreeMap<String, Breaker>,
}

/// Which part of a replica a failure speaks against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// It cannot be reached or says nothing.
    Replica,
    /// It answered that it failed.
    Adapter,
    Nobody,
}

impl Replica {
    pub(crate) fn new(url: String, rules: BreakerRules) -> Self {
        let breakers = Breakers { rules, own: Breaker::new(rules), adapters: BTreeMap::new() };
        Self {
            url,
            busy: AtomicUsize::new(0),
            holds: Mutex::default(),
            identity: Mutex::default(),
            breakers: Mutex::new(breakers),
        }
    }

    pub(crate) fn admit(&self, adapter: Option<&str>, now_ms: u64) -> Admission {
        let mut breakers = self.breakers();
        let own = breakers.own.admit(now_ms);
        if matches!(own, Admission::No(_)) {
            return own;
        }
        let Some(breaker) = adapter.and_then(|adapter| breakers.adapters.get_mut(adapter)) else {
            return own;
        };
        let of_adapter = breaker.admit(now_ms);
        if matches!(of_adapter, Admission::No(_)) {
            breakers.own.forget(now_ms);
        }
        of_adapter
    }

    pub(crate) fn record(&self, adapter: Option<&str>, now_ms: u64, blame: Blame) {
        let mut breakers = self.breakers();
        // Without adapters, what the replica serves is the replica.
        let whole = blame == Blame::Replica || (adapter.is_none() && blame == Blame::Adapter);
        breakers.own.record(now_ms, whole);
        let rules = breakers.rules;
        let Some(adapter) = adapter else { return };
        let known = breakers.adapters.contains_key(adapter);
        if known || breakers.adapters.len() < MOST_ADAPTERS {
            let breaker =
                breakers.adapters.entry(adapter.to_owned()).or_insert_with(|| Breaker::new(rules));
            breaker.record(now_ms, blame != Blame::Nobody);
        }
    }

    /// It ended in a way that says nothing of the replica.
    pub(crate) fn forget(&self, adapter: Option<&str>, now_ms: u64) {
        let mut breakers = self.breakers();
        breakers.own.forget(now_ms);
        if let Some(breaker) = adapter.and_then(|adapter| breakers.adapters.get_mut(adapter)) {
            breaker.forget(now_ms);
        }
    }

    pub(crate) fn is_out(&self, adapter: Option<&str>) -> bool {
        let breakers = self.breakers();
        let of_adapter = adapter.and_then(|adapter| breakers.adapters.get(adapter));
        breakers.own.is_open() || of_adapter.is_some_and(Breaker::is_open)
    }

    pub(crate) fn holds(&self, name: &str) -> bool {
        self.held().contains(name)
    }

    pub(crate) fn held(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn identity(&self) -> Option<String> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn identify(&self, said: Option<String>) {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = said;
    }

    fn breakers(&self) -> MutexGuard<'_, Breakers> {
        self.breakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A clock for breakers.
#[derive(Debug)]
pub(crate) struct Rising(Instant);

impl Rising {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn ms(&self) -> u64 {
        self.0.elapsed().as_millis() as u64
    }
}

/// What requests of one conversation have in common: its beginning, which is what a cache of keys
/// and values holds. Later turns go where the earlier ones went.
pub(crate) fn affinity(prompt: &Prompt) -> u64 {
    let mut hasher = DefaultHasher::new();
    match prompt {
        Prompt::Chat(chat) => {
            for message in chat.messages.iter().take(2) {
                message.role.as_str().hash(&mut hasher);
                message.text().hash(&mut hasher);
            }
        }
        Prompt::Text(text) => text.get(..text.floor_char_boundary(512)).hash(&mut hasher),
        Prompt::Tokens(ids) => ids[..ids.len().min(128)].hash(&mut hasher),
    }
    hasher.finish()
}

/// The order in which replicas are asked: the one a conversation belongs to first (the highest of
/// the hashes of conversation and replica), unless it is much busier than another.
pub(crate) fn order(replicas: &[Replica], affinity: u64) -> Vec<usize> {
    let busy = |index: &usize| replicas[*index].busy.load(Ordering::Relaxed);
    let weight = |index: &usize| {
        let mut hasher = DefaultHasher::new();
        (affinity, &replicas[*index].url).hash(&mut hasher);
        hasher.finish()
    };
    let mut order: Vec<usize> = (0..replicas.len()).collect();
    let least = order.iter().map(busy).min().unwrap_or(0);
    order.sort_by_cached_key(|index| (busy(index) > least + OVERLOAD, u64::MAX - weight(index)));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_message::Message;

    fn replicas(count: usize) -> Vec<Replica> {
        let url = |n| format!("http://host-{n}/v1");
        (0..count).map(|n| Replica::new(url(n), BreakerRules::default())).collect()
    }

    #[test]
    fn a_conversation_stays_and_others_spread() {
        let replicas = replicas(4);
        let first = |text: &str, turns: usize| {
            let mut messages = vec![Message::system("be kind"), Message::user(text)];
            messages.extend((0..turns).map(|_| Message::user("and then?")));
            order(&replicas, affinity(&Prompt::messages(messages)))[0]
        };
        let mut used = [0; 4];
        for n in 0..400 {
            let text = format!("question {n}");
            assert_eq!(first(&text, 0), first(&text, 5));
            used[first(&text, 0)] += 1;
        }
        assert!(used.iter().all(|count| (60..140).contains(count)), "{used:?}");
    }

    #[test]
    fn a_busy_replica_is_passed_over_and_the_rest_keep_their_order() {
        let replicas = replicas(3);
        let before = order(&replicas, 7);
        replicas[before[0]].busy.store(OVERLOAD + 1, Ordering::Relaxed);
        assert_eq!(order(&replicas, 7), [before[1], before[2], before[0]]);
    }

    #[test]
    fn an_adapter_that_fails_does_not_take_the_others_with_it() {
        let replica = &replicas(1)[0];
        for _ in 0..5 {
            replica.record(Some("bad"), 0, Blame::Adapter);
        }
        assert!(replica.is_out(Some("bad")) && !replica.is_out(Some("good")));
        assert!(matches!(replica.admit(Some("bad"), 0), Admission::No(_)));
        assert_eq!(replica.admit(None, 0), Admission::Yes);
        for _ in 0..10 {
            replica.record(None, 0, Blame::Replica);
        }
        assert!(replica.is_out(Some("good")));
    }
}
