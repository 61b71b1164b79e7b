use std::collections::VecDeque;

use understudy_ident::Timestamp;
use understudy_inference::Usage;

use crate::{Budget, MicroUsd, Price, TeacherError};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

const DAY: i64 = 86_400;

#[test]
fn cost_is_exact_and_rounds_up() {
    // $2.50 in, $10 out: golden values by hand.
    let price = Price {
        input_per_million: MicroUsd::new(2_500_000),
        output_per_million: MicroUsd::from_usd(10),
    };
    let cost = |prompt_tokens, completion_tokens| {
        price.cost(Usage { prompt_tokens, completion_tokens, cached_tokens: 0 }).get()
    };
    assert_eq!(cost(0, 0), 0);
    assert_eq!(cost(1, 0), 3);
    assert_eq!(cost(1_000, 200), 4_500);
    assert_eq!(cost(u32::MAX, u32::MAX), 53_687_091_188);
    let dearest = Price { input_per_million: MicroUsd::new(u64::MAX), ..price };
    assert_eq!(
        dearest
            .cost(Usage { prompt_tokens: u32::MAX, completion_tokens: 1, cached_tokens: 0 })
            .get(),
        u64::MAX
    );
    assert_eq!(MicroUsd::new(1_234_567).to_string(), "$1.234567");
}

#[test]
fn spent_and_reserved_never_exceed_the_limit() {
    // A pseudo-random walk of reservations and settlements; the invariant is checked at each step.
    let limit = MicroUsd::new(10_000);
    let mut budget = Budget::new(limit);
    let mut open = VecDeque::new();
    let (mut state, mut refused) = (7_u64, 0);
    for step in 0..20_000_i64 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (roll, now) = (state >> 33, at(step * 60));
        if roll % 3 != 0 {
            match budget.reserve(MicroUsd::new(roll % 900), now) {
                Ok(reservation) => open.push_back(reservation),
                Err(_) => refused += 1,
            }
        } else if let Some(reservation) = open.pop_front() {
            let spent = MicroUsd::new(roll % (reservation.amount().get() + 1));
            budget.settle(reservation, spent, now);
        }
        let total = budget.spent_today(now).get() + budget.reserved().get();
        assert!(total <= limit.get(), "step {step}: {total}");
        assert_eq!(total + budget.left(now).get(), limit.get());
    }
    assert!(refused > 100, "the walk must reach the limit");
}

#[test]
fn a_day_is_utc_and_begins_full() {
    let mut budget = Budget::new(MicroUsd::new(100));
    let spent = budget.reserve(MicroUsd::new(100), at(DAY - 1)).unwrap();
    budget.settle(spent, MicroUsd::new(100), at(DAY - 1));
    let error = budget.reserve(MicroUsd::new(1), at(DAY - 1)).unwrap_err();
    assert!(matches!(error, TeacherError::BudgetExhausted { .. }));
    assert!(error.to_string().contains("$0.000000 of $0.000100 a day is left"), "{error}");
    assert_eq!(budget.left(at(DAY)).get(), 100);
    // Setting the clock back does not refill it.
    let _spent = budget.reserve(MicroUsd::new(60), at(DAY)).unwrap();
    assert_eq!(budget.left(at(0)).get(), 40);
}

#[test]
fn a_request_across_midnight_is_charged_to_the_day_it_began() {
    let mut budget = Budget::new(MicroUsd::new(100));
    let late = budget.reserve(MicroUsd::new(80), at(DAY - 1)).unwrap();
    let early = budget.reserve(MicroUsd::new(30), at(DAY + 1)).unwrap();
    budget.settle(late, MicroUsd::new(80), at(DAY + 2));
    assert_eq!(budget.left(at(DAY + 2)).get(), 70);
    budget.settle(early, MicroUsd::new(10), at(DAY + 3));
    assert_eq!(budget.left(at(DAY + 3)).get(), 90);
}

#[test]
fn a_restart_is_not_a_fresh_day() {
    let mut budget = Budget::resume(MicroUsd::new(100), MicroUsd::new(95), at(DAY));
    assert!(budget.reserve(MicroUsd::new(6), at(DAY + 1)).is_err());
    assert_eq!(budget.left(at(2 * DAY)).get(), 100);
}
