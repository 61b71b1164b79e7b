//! What each key has left of what it may ask for.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{Bucket, KeyId, Limits, Principal};

const MINUTE: Duration = Duration::from_mins(1);

/// What there was too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Requests,
    Tokens,
    Concurrent,
    Feedback,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requests => "requests a minute",
            Self::Tokens => "tokens a minute",
            Self::Concurrent => "requests at once",
            Self::Feedback => "outcomes a minute",
        })
    }
}

/// A limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this API key may have {limit} {what}; wait, or ask for more")]
pub struct Exceeded {
    pub what: What,
    pub limit: u32,
    pub retry_after: Duration,
}

/// The keys that were used since the start, with what they have left. There are as many as there
/// are keys. A cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Allowances {
    meters: Arc<Mutex<BTreeMap<KeyId, Meter>>>,
}

#[derive(Debug)]
struct Meter {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    feedback: Bucket,
    running: u32,
}

impl Meter {
    fn new(limits: Limits, now: Duration) -> Self {
        let bucket = |limit: Option<u32>| limit.map(|limit| Bucket::new(limit, MINUTE, now));
        let feedback = limits.feedback_per_minute.unwrap_or(Limits::FEEDBACK_PER_MINUTE);
        Self {
            requests: bucket(limits.requests_per_minute),
            tokens: bucket(limits.tokens_per_minute),
            feedback: Bucket::new(feedback, MINUTE, now),
            running: 0,
        }
    }
}

impl Allowances {
    /// Lets a request begin, or says which limit it would exceed. A request that is refused is not
    /// counted.
    pub fn begin(&self, who: &Principal, now: Duration) -> Result<Permit, Exceeded> {
        let limits = who.limits;
        let mut meters = self.meters();
        let meter = meters.entry(who.key.clone()).or_insert_with(|| Meter::new(limits, now));
        if let Some(limit) = limits.concurrent.filter(|most| meter.running >= *most) {
            let retry_after = Duration::from_secs(1);
            return Err(Exceeded { what: What::Concurrent, limit, retry_after });
        }
        let exceeded = |what, limit: Option<u32>| {
            move |retry_after| Exceeded { what, limit: limit.unwrap_or_default(), retry_after }
        };
        if let Some(tokens) = &mut meter.tokens {
            tokens.peek(now).map_err(exceeded(What::Tokens, limits.tokens_per_minute))?;
        }
        if let Some(requests) = &mut meter.requests {
            requests.take(1, now).map_err(exceeded(What::Requests, limits.requests_per_minute))?;
        }
        meter.running += 1;
        Ok(Permit { meters: Arc::clone(&self.meters), key: who.key.clone() })
    }

    /// Counts tokens once it is known how many they were. Who has spent more than there was waits
    /// before asking again.
    pub fn spend_tokens(&self, key: &KeyId, tokens: u32, now: Duration) {
        if let Some(bucket) = self.meters().get_mut(key).and_then(|meter| meter.tokens.as_mut()) {
            bucket.spend(tokens, now);
        }
    }

    /// Lets so many outcomes be told, all or none.
    pub fn tell(&self, who: &Principal, outcomes: u32, now: Duration) -> Result<(), Exceeded> {
        let mut meters = self.meters();
        let meter = meters.entry(who.key.clone()).or_insert_with(|| Meter::new(who.limits, now));
        let limit = who.limits.feedback_per_minute.unwrap_or(Limits::FEEDBACK_PER_MINUTE);
        let exceeded = |retry_after| Exceeded { what: What::Feedback, limit, retry_after };
        meter.feedback.take(outcomes, now).map_err(exceeded)
    }

    /// What is left of requests and tokens, where they are limited.
    pub fn left(&self, key: &KeyId, now: Duration) -> (Option<u32>, Option<u32>) {
        let mut meters = self.meters();
        let Some(meter) = meters.get_mut(key) else { return (None, None) };
        let left = |bucket: &mut Option<Bucket>| bucket.as_mut().map(|bucket| bucket.left(now));
        (left(&mut meter.requests), left(&mut meter.tokens))
    }

    fn meters(&self) -> MutexGuard<'_, BTreeMap<KeyId, Meter>> {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held as long as a request runs.
#[derive(Debug)]
pub struct Permit {
    meters: Arc<Mutex<BTreeMap<KeyId, Meter>>>,
    key: KeyId,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(meter) = meters.get_mut(&self.key) {
            meter.running = meter.running.saturating_sub(1);
        }
    }
}
