//! Written, durable, and neither: the disk is one that these tests hold in their hands.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use super::{Home, append, step, written};
use crate::{Ack, Config, FakeDisk, Journal, JournalError, Notes, Query};

pub(super) fn open(home: &Home) -> (Journal, Arc<FakeDisk>) {
    open_with(home, Config::default())
}

fn open_with(home: &Home, config: Config) -> (Journal, Arc<FakeDisk>) {
    let disk = Arc::<FakeDisk>::default();
    (Journal::open_on_fake(&home.path(), config, &disk).unwrap(), disk)
}

/// Whether the record is durable, once that is known.
fn durable(ack: Ack) -> mpsc::Receiver<bool> {
    let (told, tell) = mpsc::channel();
    ack.on_durable(move |answer| told.send(answer.is_ok()).unwrap());
    tell
}

const SOON: Duration = Duration::from_millis(50);

#[test]
fn what_is_written_does_not_wait_for_the_disk_and_what_is_durable_does() {
    let home = Home::new();
    let (journal, disk) = open(&home);
    disk.hold(true);
    let first = durable(append(&journal, step("a", 1).into()).unwrap());
    for n in 2..10 {
        assert_eq!(written(append(&journal, step("a", n).into()).unwrap()).unwrap(), n as u64);
    }
    assert_eq!(home.raw().query_row("SELECT max(seq) FROM records", [], |r| r.get(0)), Ok(9));
    assert!(first.recv_timeout(SOON).is_err(), "it is durable before the disk has it");
    disk.hold(false);
    assert!(first.recv().unwrap());
    append(&journal, step("a", 10).into()).unwrap().wait().unwrap();
    assert!(disk.flushes() <= 4, "those who wait share a flush");
}

#[test]
fn asking_late_is_answered_at_once() {
    let home = Home::new();
    let (journal, disk) = open(&home);
    let ack = append(&journal, step("a", 1).into()).unwrap();
    append(&journal, step("a", 2).into()).unwrap().wait().unwrap();
    assert_eq!(written(ack).unwrap(), 1);
    disk.hold(true);
    let ack = append(&journal, step("a", 3).into()).unwrap();
    written(append(&journal, step("a", 4).into()).unwrap()).unwrap();
    assert_eq!(written(ack).unwrap(), 3, "by then it is written, and not yet durable");
    disk.hold(false);
}

#[test]
fn whoever_notes_how_far_they_read_has_read_nothing_that_could_still_be_lost() {
    let readings: [fn(&Journal) -> u64; 3] = [
        |journal| journal.follow(0, 10).unwrap().last().unwrap().seq,
        |journal| journal.watermark().unwrap(),
        |journal| journal.scan(&Query::default()).unwrap().until_seq(),
    ];
    for read in readings {
        let home = Home::new();
        let (journal, disk) = open(&home);
        disk.hold(true);
        written(append(&journal, step("a", 1).into()).unwrap()).unwrap();
        let (told, tell) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| told.send(read(&journal)).unwrap());
            let early = tell.recv_timeout(SOON);
            disk.hold(false);
            assert!(early.is_err(), "it was read before it was flushed");
            assert_eq!(tell.recv().unwrap(), 1);
        });
        // The flush that the first was waiting for may still be under way.
        append(&journal, step("a", 2).into()).unwrap().wait().unwrap();
        let flushes = disk.flushes();
        assert_eq!(read(&journal), 2);
        assert_eq!(disk.flushes(), flushes, "what is durable is not flushed again");
    }
}

#[test]
fn what_is_not_yet_durable_still_takes_its_place_in_the_queue() {
    let home = Home::new();
    let (journal, disk) = open_with(&home, Config { queue_bytes: 4_000, ..Config::default() });
    disk.hold(true);
    let refused = (1..1_000).find_map(|n| match append(&journal, step("a", n).into()) {
        Ok(ack) => {
            written(ack).unwrap();
            None
        }
        Err(refused) => Some(refused),
    });
    assert!(matches!(refused, Some(JournalError::Busy { .. })), "{refused:?}");
    disk.hold(false);
    journal.note(Notes::default()).unwrap();
    append(&journal, step("b", 1).into()).unwrap().wait().unwrap();
}

#[test]
fn after_a_flush_that_failed_nothing_more_is_promised_until_the_journal_is_opened_again() {
    let home = Home::new();
    let (journal, disk) = open(&home);
    disk.fail(true);
    // Before any record: what fails first may be something else.
    let failed = journal.note(Notes::default()).unwrap_err();
    assert!(failed.to_string().contains("the cable is out"), "{failed}");
    assert!(matches!(journal.watermark(), Err(JournalError::Flush(_))));
    let failed = append(&journal, step("a", 1).into()).unwrap().wait().unwrap_err();
    assert!(failed.to_string().contains("the cable is out"), "{failed}");
    // The system has forgotten what it could not write, so that a later flush would succeed.
    disk.fail(false);
    for refused in [
        written(append(&journal, step("a", 2).into()).unwrap()).unwrap_err(),
        journal.watermark().unwrap_err(),
        journal.note(Notes::default()).unwrap_err(),
    ] {
        assert!(matches!(refused, JournalError::Flush(_)), "{refused}");
    }
    drop(journal);
    let again = home.open();
    append(&again, step("a", 2).into()).unwrap().wait().unwrap();
    append(&again, step("a", 1).into()).unwrap().wait().unwrap();
    assert_eq!(again.counts().unwrap().records, 2);
}
