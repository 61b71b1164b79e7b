//! Whoever guesses keys has to wait, longer each time.
//!
//! Guesses are counted by address and by the id that the guess names, so that a guesser shuts out
//! neither the holder of the key elsewhere, nor other keys behind the same address.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use crate::{Key, KeyId};

/// Wrong keys after which one has to wait.
const TRIES: u32 = 10;
/// Wrong keys are forgotten after this long without another.
const MEMORY: Duration = Duration::from_mins(10);
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_mins(15);
/// Guessers that are remembered.
const MOST: usize = 4096;

/// Who guessed, and which key; text that is no key at all counts as one.
type Who = (IpAddr, Option<KeyId>);

#[derive(Debug, Default)]
pub struct Lockout {
    guessers: BTreeMap<Who, Guesses>,
}

#[derive(Debug, Clone, Copy)]
struct Guesses {
    wrong: u32,
    last: Duration,
    until: Duration,
}

impl Lockout {
    /// How long somebody has to wait before this key is looked at, right or wrong.
    pub fn wait(&self, from: IpAddr, presented: &str, now: Duration) -> Option<Duration> {
        let guesses = self.guessers.get(&who(from, presented))?;
        Some(guesses.until.saturating_sub(now)).filter(|wait| !wait.is_zero())
    }

    /// Counts a wrong key. Answers of how long to wait from now on.
    pub fn wrong(&mut self, from: IpAddr, presented: &str, now: Duration) -> Option<Duration> {
        let who = who(from, presented);
        if !self.guessers.contains_key(&who) && self.guessers.len() >= MOST {
            self.forget(now);
        }
        let none = Guesses { wrong: 0, last: now, until: now };
        let guesses = self.guessers.entry(who).or_insert(none);
        if now.saturating_sub(guesses.last) > MEMORY.max(guesses.until.saturating_sub(guesses.last))
        {
            *guesses = none;
        }
        guesses.wrong += 1;
        guesses.last = now;
        let over = guesses.wrong.checked_sub(TRIES)?;
        let wait = FIRST.saturating_mul(1 << over.min(16)).min(LONGEST);
        guesses.until = now + wait;
        Some(wait)
    }

    /// A right key ends the count.
    pub fn right(&mut self, from: IpAddr, presented: &str) {
        // Nearly always there is nothing to do.
        if !self.guessers.is_empty() {
            self.guessers.remove(&who(from, presented));
        }
    }

    fn forget(&mut self, now: Duration) {
        self.guessers.retain(|_, guesses| now.saturating_sub(guesses.last) <= MEMORY);
        if self.guessers.len() >= MOST {
            let oldest = self.guessers.iter().min_by_key(|(_, guesses)| guesses.last);
            if let Some(who) = oldest.map(|(who, _)| who.clone()) {
                self.guessers.remove(&who);
            }
        }
    }
}

fn who(from: IpAddr, presented: &str) -> Who {
    (network(from), Key::parse(presented).map(|key| key.id().clone()))
}

/// One customer has at least a /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}
