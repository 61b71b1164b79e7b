use std::{collections::VecDeque, ops::ControlFlow, sync::Arc};

use understudy_ident::{Clock as _, ManualClock, Timestamp};
use understudy_inference::{Backend as _, GenerateRequest, InferenceError};

use super::{ask, run};
use crate::{Accounts, Ledger, Limits, Metered, MicroUsd, Price, ScriptedTeacher, TeacherError};

fn usd(dollars: u64) -> MicroUsd {
    MicroUsd::from_usd(dollars)
}

/// Ten dollars a day for everybody, four for each tenant, six for acme and nothing for none-at-all.
fn limits() -> Limits {
    let named = [("acme".to_owned(), usd(6)), ("none-at-all".to_owned(), MicroUsd::ZERO)];
    Limits { per_day: usd(10), per_tenant: Some(usd(4)), tenants: named.into() }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_000).unwrap()
}

#[test]
fn a_tenant_spends_its_own_and_nobody_else_s() {
    let mut accounts = Accounts::new(limits());
    let held = accounts.reserve(Some("acme"), usd(6), now()).unwrap();
    let refused = accounts.reserve(Some("acme"), MicroUsd::new(1), now()).unwrap_err();
    assert!(refused.to_string().contains("the budget of acme"), "{refused}");
    assert!(matches!(refused, TeacherError::TenantExhausted { .. }));
    // It cost less than was set aside, and the rest is there again, on both accounts.
    accounts.settle(held, usd(1), now());
    assert_eq!(accounts.of_tenant("acme").unwrap().left(now()), usd(5));
    assert_eq!(accounts.whole().left(now()), usd(9));
    let other = accounts.reserve(Some("globex"), usd(4), now()).unwrap();
    assert_eq!(accounts.of_tenant("acme").unwrap().left(now()), usd(5), "another's");
    accounts.settle(other, usd(4), now());
    assert!(accounts.reserve(Some("none-at-all"), MicroUsd::new(1), now()).is_err());
    // Whoever runs the server is no tenant, and has what is left of the whole.
    let own = accounts.reserve(None, usd(5), now()).unwrap();
    accounts.settle(own, usd(5), now());
    assert_eq!(accounts.whole().left(now()), MicroUsd::ZERO);
}

#[test]
fn what_the_whole_refuses_is_set_aside_nowhere() {
    let mut accounts = Accounts::new(limits());
    let _held = accounts.reserve(None, usd(8), now()).unwrap();
    let refused = accounts.reserve(Some("acme"), usd(3), now()).unwrap_err();
    assert!(matches!(refused, TeacherError::BudgetExhausted { .. }), "{refused}");
    let acme = accounts.of_tenant("acme").unwrap();
    assert_eq!((acme.reserved(), acme.left(now())), (MicroUsd::ZERO, usd(6)));
}

#[test]
fn neither_a_tenant_nor_everybody_is_ever_overspent() {
    // A pseudo-random walk of reservations and settlements by three tenants and the operator.
    let limits = Limits { per_day: MicroUsd::new(20_000), ..limits() };
    let per_tenant = MicroUsd::new(6_000);
    let limits = Limits { per_tenant: Some(per_tenant), tenants: [].into(), ..limits };
    let mut accounts = Accounts::new(limits);
    let (mut open, mut state, mut refused) = (VecDeque::new(), 7_u64, [0; 2]);
    let names = [Some("one"), Some("two"), Some("three"), None];
    for step in 0..20_000_i64 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let roll = state >> 33;
        let now = Timestamp::from_second(step * 30).unwrap();
        if roll % 3 != 0 {
            match accounts.reserve(names[(roll % 4) as usize], MicroUsd::new(roll % 900), now) {
                Ok(held) => open.push_back(held),
                Err(TeacherError::TenantExhausted { .. }) => refused[0] += 1,
                Err(_) => refused[1] += 1,
            }
        } else if let Some(held) = open.pop_front() {
            let spent = MicroUsd::new(roll % (held.amount().get() + 1));
            accounts.settle(held, spent, now);
        }
        for name in names.into_iter().flatten() {
            let budget = accounts.of_tenant(name).unwrap();
            let total = budget.spent_today(now).get() + budget.reserved().get();
            assert!(total <= per_tenant.get(), "step {step}, {name}: {total}");
        }
        let whole = accounts.whole();
        assert!(whole.spent_today(now).get() + whole.reserved().get() <= 20_000, "step {step}");
    }
    assert!(refused.iter().all(|count| *count > 100), "both limits must be reached: {refused:?}");
}

const PRICE: Price = Price { input_per_million: usd_million(), output_per_million: usd_million() };

const fn usd_million() -> MicroUsd {
    MicroUsd::from_usd(1_000_000)
}

fn by(tenant: &str) -> GenerateRequest {
    let mut request = ask("x");
    request.admission.payer = Some(tenant.to_owned());
    request
}

#[test]
fn a_restart_is_no_fresh_day_for_a_tenant_either() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spend.json");
    let clock = ManualClock::default();
    let metered = |limits: Limits| {
        let teacher = ScriptedTeacher::new("expert", |_| Ok("four".to_owned())).unwrap();
        let (ledger, accounts) = Ledger::open(&path, limits, clock.now()).unwrap();
        Metered::new(Arc::new(teacher), PRICE, accounts, Arc::new(clock.clone())).kept_in(ledger)
    };
    // A request reserves 1 + 16 + 64 dollars and costs two.
    let limits = Limits { per_day: usd(1_000), per_tenant: Some(usd(82)), tenants: [].into() };
    let first = metered(limits.clone());
    run(&first, by("acme")).completion();
    assert_eq!(first.spend_of("acme").unwrap().spent_today, usd(2));
    let refused = first.submit(by("acme"), Box::new(|_| ControlFlow::Continue(()))).unwrap_err();
    assert!(matches!(refused, InferenceError::OverBudget(_)), "{refused}");
    run(&first, by("globex")).completion();
    let gauges = first.gauges();
    let of_acme = gauges
        .iter()
        .find(|gauge| gauge.name == "budget_tenant_left_micro_usd" && gauge.labels[0].1 == "acme");
    assert!((of_acme.unwrap().value - 80e6).abs() < 1.0, "{gauges:?}");
    drop(first);
    let second = metered(limits);
    assert_eq!(second.spend_of("acme").unwrap().spent_today, usd(2));
    assert!(second.submit(by("acme"), Box::new(|_| ControlFlow::Continue(()))).is_err());
    assert_eq!(second.spend().spent_today, usd(4));
    drop(second);
    clock.advance_ms(86_400_000);
    let fresh = Limits { per_day: usd(1_000), per_tenant: None, tenants: [].into() };
    assert!(metered(fresh).spend_of("acme").is_none(), "without a limit there is no budget");
}
