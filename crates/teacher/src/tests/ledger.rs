use std::{fs, ops::ControlFlow, path::Path, sync::Arc};

use understudy_ident::{Clock, ManualClock};
use understudy_inference::{Backend, InferenceError};

use super::{ask, run};
use crate::{Ledger, Limits, Metered, MicroUsd, Price, ScriptedTeacher, TeacherError};

fn metered(path: &Path, clock: &ManualClock) -> Result<Metered, TeacherError> {
    let teacher = ScriptedTeacher::new("scripted", |_| Ok("four by four bytes".to_owned()))?;
    let dollar = MicroUsd::from_usd(1);
    let price = Price { input_per_million: dollar, output_per_million: dollar };
    let (ledger, budget) = Ledger::open(path, Limits::of(MicroUsd::new(200)), clock.now())?;
    Ok(Metered::new(Arc::new(teacher), price, budget, Arc::new(clock.clone())).kept_in(ledger))
}

#[test]
fn a_restart_is_not_a_fresh_day_and_a_day_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spend.json");
    let clock = ManualClock::default();
    let first = metered(&path, &clock).unwrap();
    run(&first, ask("hello")).completion();
    let spent = first.spend().spent_today;
    assert!(spent > MicroUsd::ZERO);
    drop(first);
    let second = metered(&path, &clock).unwrap();
    assert_eq!(second.spend().spent_today, spent);
    let refused =
        (0..50).map(|_| second.submit(ask("hello"), Box::new(|_| ControlFlow::Continue(()))));
    assert!(refused.into_iter().any(|asked| matches!(asked, Err(InferenceError::OverBudget(_)))));
    let gauges = second.gauges();
    assert!(gauges.iter().any(|gauge| gauge.name == "budget_refused_total" && gauge.value >= 1.0));
    drop(second);
    clock.advance_ms(86_400_000);
    assert_eq!(metered(&path, &clock).unwrap().spend().spent_today, MicroUsd::ZERO);
}

#[test]
fn a_ledger_that_cannot_be_read_is_no_fresh_day() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spend.json");
    fs::write(&path, "{\"day\": 1").unwrap();
    let clock = ManualClock::default();
    assert!(matches!(metered(&path, &clock), Err(TeacherError::Ledger { .. })));
}
