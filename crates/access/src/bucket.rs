//! Token buckets. Time is what the caller says it is, since any beginning.

use std::{collections::BTreeMap, time::Duration};

/// Lets through `most` in a span of time, and as many at once after such a rest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    most: f64,
    per_second: f64,
    /// Below nothing once more was spent than there was.
    level: f64,
    at: Duration,
}

impl Bucket {
    /// A full one.
    pub fn new(most: u32, span: Duration, now: Duration) -> Self {
        let most = f64::from(most);
        Self { most, per_second: most / span.as_secs_f64(), level: most, at: now }
    }

    /// Takes `amount`, or says how long to wait until it is there. Of more than fits it waits for a
    /// full bucket, and leaves a debt.
    pub fn take(&mut self, amount: u32, now: Duration) -> Result<(), Duration> {
        self.fill(now);
        let wanted = f64::from(amount).min(self.most);
        if self.level >= wanted {
            self.level -= f64::from(amount);
            return Ok(());
        }
        Err(self.until(wanted))
    }

    /// Whether anything is left, without taking it; or how long until there is.
    pub fn peek(&mut self, now: Duration) -> Result<(), Duration> {
        self.fill(now);
        if self.level >= 1.0 { Ok(()) } else { Err(self.until(1.0)) }
    }

    /// Takes what was used already, however much there is: what follows waits for it.
    pub fn spend(&mut self, amount: u32, now: Duration) {
        self.fill(now);
        self.level -= f64::from(amount);
    }

    /// What could be taken now, in whole numbers.
    pub fn left(&mut self, now: Duration) -> u32 {
        self.fill(now);
        self.level.max(0.0) as u32
    }

    fn is_full(&mut self, now: Duration) -> bool {
        self.fill(now);
        self.level >= self.most
    }

    fn until(&self, wanted: f64) -> Duration {
        Duration::from_secs_f64((wanted - self.level) / self.per_second)
    }

    /// A clock that went back gives nothing and takes nothing.
    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.level = (self.level + passed * self.per_second).min(self.most);
        self.at = self.at.max(now);
    }
}

/// One bucket for each of many names, at most so many at a time. Forgotten are those that are full,
/// which are as good as new; if none is, then the fullest, and of several the one that is oldest.
#[derive(Debug)]
pub struct Buckets<K> {
    named: BTreeMap<K, (u64, Bucket)>,
    /// Names that were ever new.
    count: u64,
    most: u32,
    span: Duration,
    names: usize,
}

impl<K: Ord + Clone> Buckets<K> {
    /// `most` in a span for each of at most so many `names`.
    pub fn new(most: u32, span: Duration, names: usize) -> Self {
        Self { named: BTreeMap::new(), count: 0, most, span, names }
    }

    pub fn take(&mut self, name: K, amount: u32, now: Duration) -> Result<(), Duration> {
        if !self.named.contains_key(&name) {
            self.count += 1;
            if self.named.len() >= self.names {
                self.forget(now);
            }
        }
        let fresh = (self.count, Bucket::new(self.most, self.span, now));
        self.named.entry(name).or_insert(fresh).1.take(amount, now)
    }

    fn forget(&mut self, now: Duration) {
        self.named.retain(|_, (_, bucket)| !bucket.is_full(now));
        if self.named.len() < self.names {
            return;
        }
        let fullest = self.named.iter().max_by(|(_, (a_age, a)), (_, (b_age, b))| {
            a.level.total_cmp(&b.level).then(b_age.cmp(a_age))
        });
        if let Some(name) = fullest.map(|(name, _)| name.clone()) {
            self.named.remove(&name);
        }
    }
}
