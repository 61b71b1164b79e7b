//! When the writer is handed what waits. No test here would end if it waited for time to pass.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use super::{about_response, step};
use crate::{
    Entry,
    ack::Promise,
    queue::{Append, Chore, Queue, Spooled, What},
    record::{Names, Record},
};

const FOR_EVER: Duration = Duration::from_hours(1);

fn queue() -> Arc<Queue> {
    Arc::new(Queue::new(1 << 20, FOR_EVER))
}

fn push(queue: &Queue, entry: Entry, spooled: Spooled) {
    let record = Record::Own(entry);
    let (promise, _) = Promise::new();
    let body = record.encode().unwrap();
    queue.push(Append { what: What::Record(Names::of(&record)), body, promise, spooled }).unwrap();
}

fn spool(queue: &Queue, steps: std::ops::Range<i64>) {
    steps.for_each(|n| push(queue, step("a", n).into(), Spooled::Yes));
}

/// How many appends each commit has, as the writer is handed them.
fn commits(queue: &Arc<Queue>) -> mpsc::Receiver<usize> {
    let (tell, told) = mpsc::channel();
    let queue = Arc::clone(queue);
    thread::spawn(move || {
        while let Some(work) = queue.take() {
            queue.had(work.appends.iter().filter(|one| one.spooled == Spooled::Yes).count());
            queue.finished(&work, Duration::ZERO);
            tell.send(work.appends.len()).unwrap();
        }
    });
    told
}

#[test]
fn spooled_steps_gather_until_somebody_reads() {
    let queue = queue();
    let commits = commits(&queue);
    spool(&queue, 0..5);
    assert!(commits.try_recv().is_err(), "nobody waits for them");
    queue.catch_up();
    assert_eq!(commits.recv().unwrap(), 5);
    // Whoever reads again finds them there, and hurries nobody.
    queue.catch_up();
    spool(&queue, 5..7);
    assert!(commits.try_recv().is_err());
    queue.catch_up();
    assert_eq!(commits.recv().unwrap(), 2);
}

#[test]
fn what_is_waited_for_takes_them_along() {
    let queue = queue();
    spool(&queue, 0..3);
    let commits = commits(&queue);
    push(&queue, step("a", 3).into(), Spooled::No);
    assert_eq!(commits.recv().unwrap(), 4);

    spool(&queue, 4..6);
    push(&queue, about_response("a", 4).into(), Spooled::No);
    assert_eq!(commits.recv().unwrap(), 3);

    spool(&queue, 6..8);
    queue.push_chore(Chore::Rebuild(mpsc::channel().0)).unwrap();
    assert_eq!(commits.recv().unwrap(), 2);
}

#[test]
fn a_commit_that_is_full_is_not_waited_with() {
    let queue = queue();
    let commits = commits(&queue);
    spool(&queue, 0..1024);
    assert_eq!(commits.recv().unwrap(), 1024);
}

#[test]
fn closing_hands_out_what_has_gathered() {
    let queue = queue();
    let commits = commits(&queue);
    spool(&queue, 0..3);
    queue.close();
    assert_eq!(commits.iter().sum::<usize>(), 3);
}
