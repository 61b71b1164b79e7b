//! Buckets, allowances and lockouts, at times that the tests choose.

use std::{collections::BTreeMap, net::IpAddr, sync::LazyLock, time::Duration};

use proptest::prelude::*;

use super::{Desk, new_key};
use crate::{Allowances, Bucket, Buckets, Exceeded, Key, Limits, Lockout, NewKey, Principal, What};

fn who(limits: Limits) -> Principal {
    let desk = Desk::new();
    let ring = desk.open();
    let (key, _) = ring.create(NewKey { limits, ..new_key() }).unwrap();
    ring.check(&key.expose()).unwrap()
}

/// Made once: a key is a commit.
static FIVE_AT_ONCE: LazyLock<Principal> =
    LazyLock::new(|| who(Limits { concurrent: Some(5), ..Limits::default() }));

fn what<T>(refused: Result<T, Exceeded>) -> Result<(), What> {
    refused.map(drop).map_err(|why| why.what)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_bucket_lets_through_what_it_says() {
    let mut bucket = Bucket::new(60, secs(60), secs(0));
    assert!((0..60).all(|_| bucket.take(1, secs(0)).is_ok()));
    assert_eq!(bucket.take(1, secs(0)), Err(secs(1)));
    assert_eq!(bucket.take(1, secs(1)), Ok(()));
    assert_eq!(bucket.take(2, secs(1)), Err(secs(2)));
    // Debts are paid first.
    bucket.spend(60, secs(1));
    assert_eq!(bucket.peek(secs(1)), Err(secs(61)));
    assert_eq!(bucket.peek(secs(62)), Ok(()));
    // More than ever fits is let through once, and paid for.
    let mut bucket = Bucket::new(60, secs(60), secs(0));
    assert_eq!(bucket.take(600, secs(0)), Ok(()));
    assert_eq!(bucket.take(1, secs(500)), Err(secs(41)));
}

#[test]
fn each_limit_is_named_when_it_is_reached() {
    let limits = Limits {
        requests_per_minute: Some(2),
        tokens_per_minute: Some(100),
        max_tokens: None,
        concurrent: Some(1),
        feedback_per_minute: Some(3),
    };
    let (who, meters) = (who(limits), Allowances::default());
    let first = meters.begin(&who, secs(0)).unwrap();
    assert_eq!(what(meters.begin(&who, secs(0))), Err(What::Concurrent));
    drop(first);
    drop(meters.begin(&who, secs(0)).unwrap());
    assert_eq!(what(meters.begin(&who, secs(0))), Err(What::Requests));
    meters.spend_tokens(&who.key, 150, secs(0));
    assert_eq!(what(meters.begin(&who, secs(30))), Err(What::Tokens));
    let waited = meters.begin(&who, secs(30)).unwrap_err().retry_after;
    drop(meters.begin(&who, secs(30) + waited).unwrap());
    meters.tell(&who, 3, secs(0)).unwrap();
    assert_eq!(what(meters.tell(&who, 1, secs(0))), Err(What::Feedback));
    assert_eq!(meters.left(&who.key, secs(3600)), (Some(2), Some(100)));
}

#[test]
fn without_a_number_only_outcomes_are_limited() {
    let (who, meters) = (who(Limits::default()), Allowances::default());
    let held: Vec<_> = (0..1000).map(|_| meters.begin(&who, secs(0)).unwrap()).collect();
    assert_eq!((held.len(), meters.left(&who.key, secs(0))), (1000, (None, None)));
    meters.tell(&who, Limits::FEEDBACK_PER_MINUTE, secs(0)).unwrap();
    assert!(meters.tell(&who, 1, secs(0)).is_err());
}

#[test]
fn strangers_take_no_more_memory_than_they_may() {
    let mut buckets = Buckets::new(1, secs(60), 8);
    for name in 0..1000 {
        assert!(buckets.take(name, 1, secs(0)).is_ok());
    }
    // The last eight are remembered.
    assert!((993..1000).all(|name| buckets.take(name, 1, secs(0)).is_err()));
}

#[test]
fn a_guesser_waits_longer_each_time_and_nobody_else_does() {
    let [key, other] = [(); 2].map(|()| Key::generate().unwrap());
    let guess = format!("us_{}_{}", key.id(), "0".repeat(64));
    let [here, there]: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
    let mut lockout = Lockout::default();
    for _ in 0..9 {
        assert_eq!(lockout.wrong(here, &guess, secs(0)), None);
    }
    assert_eq!(lockout.wrong(here, &guess, secs(0)), Some(secs(10)));
    // Even the right key is not looked at meanwhile: the answer would tell.
    assert_eq!(lockout.wait(here, &key.expose(), secs(4)), Some(secs(6)));
    assert_eq!(lockout.wait(there, &key.expose(), secs(4)), None);
    assert_eq!(lockout.wait(here, &other.expose(), secs(4)), None);
    assert_eq!(lockout.wait(here, &key.expose(), secs(10)), None);
    assert_eq!(lockout.wrong(here, &guess, secs(10)), Some(secs(20)));
    lockout.right(here, &key.expose());
    assert_eq!(lockout.wrong(here, &guess, secs(30)), None);
}

#[test]
fn ever_new_ids_and_addresses_of_one_network_are_one_guesser() {
    let mut lockout = Lockout::default();
    let address = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, n]);
    let waits = (0..20).filter_map(|n| lockout.wrong(address(n), &format!("guess {n}"), secs(0)));
    assert_eq!(waits.count(), 11);
    // Ten minutes of rest are enough, but only once the waiting is over.
    assert_eq!(lockout.wrong(address(0), "guess", secs(2000)), None);
}

proptest! {
    /// In any time a bucket lets through no more than a minute's worth and what flowed in, however
    /// it is asked.
    #[test]
    fn a_bucket_never_leaks(
        per_minute in 1u32..600,
        asks in prop::collection::vec((0u64..5000, 1u32..20), 1..200),
    ) {
        let (mut now, mut passed) = (Duration::ZERO, 0.0);
        let mut bucket = Bucket::new(per_minute, secs(60), now);
        for (ms, amount) in asks {
            now += Duration::from_millis(ms);
            let amount = amount.min(per_minute);
            if let Err(wait) = bucket.take(amount, now) {
                // Who waits as long as was said gets it.
                let mut later = bucket;
                prop_assert!(later.take(amount, now + wait + Duration::from_micros(1)).is_ok());
            } else {
                passed += f64::from(amount);
            }
            let most = f64::from(per_minute) * (1.0 + now.as_secs_f64() / 60.0);
            prop_assert!(passed <= most + 1e-6, "{passed} of {most}");
        }
    }

    /// As many run at once as are let in and have not ended.
    #[test]
    fn permits_are_given_back(asks in prop::collection::vec(any::<bool>(), 1..100)) {
        let who = &*FIVE_AT_ONCE;
        let (meters, mut held) = (Allowances::default(), BTreeMap::new());
        for (nth, begins) in asks.into_iter().enumerate() {
            if begins {
                let begun = meters.begin(who, secs(0));
                prop_assert_eq!(begun.is_ok(), held.len() < 5);
                held.extend(begun.ok().map(|permit| (nth, permit)));
            } else {
                held.pop_first();
            }
        }
    }
}
