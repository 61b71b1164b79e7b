//! Once, durable, or refused with a reason.

use std::sync::mpsc;

use understudy_ident::{Clock, ManualClock};
use understudy_trajectory::{Outcome, Signal};

use super::{Home, about_response, append, everything, hold, record, step};
use crate::{Ack, Config, Entry, Journal, JournalError, RawBody, Told, queue::BATCH_TOLD};

/// A body of this many bytes that does not compress.
fn noisy(n: i64, bytes: usize) -> Entry {
    let mut state = n as u64;
    let noise = std::iter::repeat_with(|| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(33 + (state >> 58) as u8)
    });
    let mut step = step("noise", n);
    step.reply = understudy_message::Message::assistant(noise.take(bytes).collect::<String>());
    step.into()
}

/// A body of telemetry with as much in it.
fn noisy_body(n: i64, bytes: usize) -> RawBody {
    let Entry::Step(step) = noisy(n, bytes) else { unreachable!("it is a step") };
    RawBody {
        task: "triage".parse().unwrap(),
        payload: "otlp-traces".to_owned(),
        content_type: "application/json".to_owned(),
        body: step.reply.text().into_bytes(),
    }
}

/// Queues bodies until there is no room for another one.
fn fill_with_bodies(journal: &Journal) -> (Vec<Ack>, JournalError) {
    let mut acks = Vec::new();
    loop {
        match journal.append_body(&noisy_body(acks.len() as i64, 3_000)) {
            Ok(ack) => acks.push(ack),
            Err(refused) => return (acks, refused),
        }
    }
}

#[test]
fn sending_again_stores_once_and_reusing_an_id_is_refused() {
    let home = Home::new();
    let first = home.open();
    // In one batch, in the next one, and after a restart; the time may be filled in differently.
    let at = |ms| Outcome { at: clock_at(ms), ..about_response("a", 1) };
    let held = hold(&first);
    let (one, two) = (append(&first, at(1).into()).unwrap(), append(&first, at(2).into()).unwrap());
    drop(held);
    let (one, two) = (one.wait().unwrap(), two.wait().unwrap());
    assert!(!one.duplicate && two.duplicate && one.seq == two.seq);
    drop(first);
    let again = home.open();
    assert!(append(&again, at(3).into()).unwrap().wait().unwrap().duplicate);
    record(&again, [step("a", 1).into()]);
    assert!(append(&again, step("a", 1).into()).unwrap().wait().unwrap().duplicate);

    let changed: [Entry; 4] = [
        Outcome { signal: Signal::Abandon, ..at(1) }.into(),
        Outcome { note: Some("on second thoughts".to_owned()), ..at(1) }.into(),
        understudy_trajectory::Step { error: Some("no".to_owned()), ..step("a", 1) }.into(),
        understudy_trajectory::Step { session: None, ..step("a", 1) }.into(),
    ];
    for entry in changed {
        let refused = append(&again, entry).unwrap().wait().unwrap_err();
        assert!(refused.is_conflict(), "{refused}");
    }
    assert_eq!(again.counts().unwrap().records, 3);
}

fn clock_at(ms: i64) -> understudy_ident::Timestamp {
    understudy_ident::Timestamp::from_millisecond(ms).unwrap()
}

#[test]
fn of_many_who_send_the_same_at_once_exactly_one_is_first() {
    let home = Home::new();
    let journal = home.open();
    for round in 0..10 {
        let firsts: usize = std::thread::scope(|scope| {
            let send = || {
                let appended = append(&journal, step("a", round).into()).unwrap().wait().unwrap();
                usize::from(!appended.duplicate)
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(send)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(firsts, 1);
    }
    assert_eq!(journal.counts().unwrap().records, 10);
}

#[test]
fn records_can_be_neither_changed_nor_deleted_nor_replaced() {
    let home = Home::new();
    record(&home.open(), [step("a", 1).into()]);
    for sql in [
        "UPDATE records SET received_at_ms = 2",
        "DELETE FROM records",
        "INSERT OR REPLACE INTO records VALUES (1, 'step', 0, x'00', NULL)",
        "INSERT INTO records VALUES (7, 'step', 0, x'00', NULL)",
    ] {
        let refused = home.raw().execute(sql, []).unwrap_err().to_string();
        assert!(refused.contains("journal records are"), "{sql}: {refused}");
    }
}

#[test]
fn a_full_queue_says_when_to_come_back_and_loses_nothing_it_took() {
    let home = Home::new();
    let journal = home.open_with(Config { queue_bytes: 40_000, ..Config::default() });
    let held = hold(&journal);
    let mut acks = Vec::new();
    let refused = loop {
        match append(&journal, noisy(acks.len() as i64, 3_000)) {
            Ok(ack) => acks.push(ack),
            Err(refused) => break refused,
        }
    };
    let JournalError::Busy { waiting_bytes, retry_after_ms } = refused else { panic!("{refused}") };
    assert!((35_000..=40_000).contains(&waiting_bytes), "{waiting_bytes}");
    assert!((1..=10_000).contains(&retry_after_ms), "{retry_after_ms}");
    assert!(acks.len() > 5);
    drop(held);
    for ack in acks {
        ack.wait().unwrap();
    }
    record(&journal, [noisy(1000, 3_000)]);
    let too_large = append(&journal, noisy(1001, 60_000)).unwrap_err();
    assert!(matches!(too_large, JournalError::TooLarge { limit: 40_000, .. }), "{too_large}");
}

#[test]
fn telemetry_that_fills_the_queue_leaves_room_for_replies_which_go_first() {
    let home = Home::new();
    let journal = home.open_with(Config { queue_bytes: 40_000, ..Config::default() });
    let held = hold(&journal);
    let (bodies, refused) = fill_with_bodies(&journal);
    assert!(matches!(refused, JournalError::Busy { .. }), "{refused}");
    assert!(bodies.len() > 5);
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = |ack: Ack, what: &'static str| {
        let order = std::sync::Arc::clone(&order);
        ack.on_durable(move |answer| order.lock().unwrap().push((what, answer.is_ok())));
    };
    let count = bodies.len();
    for ack in bodies {
        note(ack, "body");
    }
    note(append(&journal, noisy(1, 3_000)).unwrap(), "reply");
    note(append(&journal, noisy(2, 3_000)).unwrap(), "reply");
    drop(held);
    journal.close();
    let order = order.lock().unwrap();
    assert_eq!(order[..2], [("reply", true); 2]);
    assert_eq!(order[2..], vec![("body", true); count]);
}

/// Hundreds of accounts that wait hold up neither a reply nor a body.
#[test]
fn what_telemetry_amounts_to_lets_others_by() {
    let home = Home::new();
    let journal = home.open();
    let held = hold(&journal);
    let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = |ack: Ack, what: &'static str| {
        let order = std::sync::Arc::clone(&order);
        ack.on_durable(move |_| order.lock().unwrap().push(what));
    };
    let count = 3 * BATCH_TOLD;
    for n in 0..count as i64 {
        let (origin, entry) = ("mapper@1".to_owned(), step("told", n).into());
        note(journal.append_told(Told { origin, entry }).unwrap(), "told");
    }
    note(journal.append_body(&noisy_body(1, 100)).unwrap(), "body");
    note(append(&journal, noisy(1, 100)).unwrap(), "reply");
    drop(held);
    journal.close();
    let order = order.lock().unwrap();
    let place = |what: &str| order.iter().position(|one| *one == what).unwrap();
    assert_eq!((place("reply"), place("body")), (0, 1 + BATCH_TOLD), "both in the first commit");
    assert_eq!(order.len(), count + 2);
}

#[test]
fn a_disk_too_full_for_telemetry_takes_the_replies_beside_it() {
    let home = Home::new();
    let journal = home.open_with(Config { max_bytes: Some(1024 * 1024), ..Config::default() });
    record(&journal, [step("first", 1).into()]);
    let held = hold(&journal);
    let body = journal.append_body(&noisy_body(1, 2_000_000)).unwrap();
    let reply = append(&journal, step("a", 1).into()).unwrap();
    drop(held);
    assert!(matches!(body.wait(), Err(JournalError::Full)));
    reply.wait().unwrap();
}

#[test]
fn what_could_not_be_read_back_is_refused_at_the_door() {
    let home = Home::new();
    let journal = home.open();
    let broken = Outcome { signal: Signal::Rating { value: f64::NAN }, ..about_response("a", 1) };
    let refused = append(&journal, broken.into()).unwrap_err();
    assert!(matches!(refused, JournalError::Unstorable { .. }), "{refused}");
    assert_eq!(journal.counts().unwrap().records, 0);
}

#[test]
fn closing_writes_what_is_queued_and_takes_nothing_more() {
    let home = Home::new();
    let journal = home.open();
    let clone = journal.clone();
    let held = hold(&journal);
    let acks: Vec<_> = (0..2_000).map(|n| append(&journal, step("a", n).into()).unwrap()).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| journal.close());
        drop(held);
    });
    for ack in acks {
        ack.wait().unwrap();
    }
    assert!(matches!(append(&clone, step("b", 1).into()), Err(JournalError::Closed)));
    assert!(matches!(clone.rebuild(), Err(JournalError::Closed)));
    assert_eq!(clone.counts().unwrap().records, 2_001, "reading goes on");
}

#[test]
fn the_last_handle_may_go_on_the_journal_s_own_threads() {
    for on_written in [true, false] {
        let home = Home::new();
        let journal = home.open();
        let (told, tell) = mpsc::channel();
        let ack = append(&journal, step("a", 1).into()).unwrap();
        let gone = move |answer| {
            drop(journal);
            told.send(answer).unwrap();
        };
        if on_written {
            ack.on_written(gone);
        } else {
            ack.on_durable(gone);
        }
        assert_eq!(tell.recv().unwrap().unwrap().seq, 1);
    }
}

#[test]
fn a_listener_that_panics_ends_nobody_else_s_append() {
    let home = Home::new();
    let journal = home.open();
    let held = hold(&journal);
    let ack = append(&journal, step("a", 1).into()).unwrap();
    ack.on_durable(|_| panic!("expected in this test"));
    let next = append(&journal, step("a", 2).into()).unwrap();
    drop(held);
    next.wait().unwrap();
    record(&journal, [step("a", 3).into()]);
    assert_eq!(everything(&journal).iter().map(|t| t.steps.len()).sum::<usize>(), 4);
}

#[test]
fn records_say_when_they_were_received() {
    let home = Home::new();
    let clock = ManualClock::default();
    clock.advance_ms(1234);
    let config = Config { clock: std::sync::Arc::new(clock.clone()), ..Config::default() };
    record(&home.open_with(config), [step("a", 1).into()]);
    let at: i64 =
        home.raw().query_row("SELECT received_at_ms FROM records", [], |row| row.get(0)).unwrap();
    assert_eq!(at, clock.now().as_millisecond());
}

#[test]
fn a_full_disk_refuses_clearly_keeps_reading_and_goes_on_with_room() {
    let home = Home::new();
    let small = Config { max_bytes: Some(512 * 1024), ..Config::default() };
    let journal = home.open_with(small);
    let mut kept = 0;
    let refused = loop {
        match append(&journal, noisy(kept, 20_000)).unwrap().wait() {
            Ok(_) => kept += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, JournalError::Full), "{refused}");
    assert!(kept > 10, "{kept}");
    let counts = journal.counts().unwrap();
    assert_eq!((counts.records, counts.steps), (kept as u64, kept as u64));
    assert_eq!(everything(&journal)[0].steps.len(), kept as usize);
    let again = append(&journal, noisy(0, 20_000)).unwrap().wait().unwrap();
    assert!(again.duplicate, "what is there needs no room");
    drop(journal);
    let journal = home.open();
    record(&journal, [noisy(kept, 20_000)]);
    assert_eq!(journal.counts().unwrap().records, kept as u64 + 1);
}
