//! Steps that are safe before they are committed, through every way a process and a disk can end.

use std::{fs, path::PathBuf, sync::mpsc, thread, time::Duration};

use rusqlite::Connection;

use super::{Home, about_response, append, everything, hold, record, step};
use understudy_trajectory::Step;

use crate::{Config, Journal, JournalError, spool::Spool};

const SOON: Duration = Duration::from_millis(50);

impl Home {
    fn spools(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.to_string_lossy().contains("-spool-")).collect()
    }

    fn spooled_bytes(&self) -> u64 {
        self.spools().iter().map(|path| fs::metadata(path).unwrap().len()).sum()
    }

    /// As the disk looks to whoever comes after this process was killed: nobody holds a lock on it.
    fn killed(&self) -> Self {
        let after = Self::new();
        for entry in fs::read_dir(self.directory.path()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), after.directory.path().join(entry.file_name())).unwrap();
        }
        after
    }
}

/// Keeps everybody from committing until it is dropped.
struct Stuck(Connection);

impl Stuck {
    fn at(home: &Home) -> Self {
        let connection = home.raw();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(connection)
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

fn serve(journal: &Journal, n: i64) -> bool {
    journal.append_served(step("a", n)).unwrap().is_spooled()
}

fn ids(home: &Home) -> Vec<String> {
    let arrivals = home.open().follow(0, usize::MAX).unwrap();
    let mut ids: Vec<String> = arrivals.iter().map(|one| one.entry.id().to_owned()).collect();
    ids.sort();
    ids
}

fn ids_of(steps: impl IntoIterator<Item = i64>) -> Vec<String> {
    let mut ids: Vec<String> = steps.into_iter().map(|n| step("a", n).id.to_string()).collect();
    ids.sort();
    ids
}

#[test]
fn what_is_spooled_survives_the_end_of_the_process_before_it_is_committed() {
    let home = Home::new();
    let journal = home.open();
    let stuck = Stuck::at(&home);
    assert!((0..20).all(|n| serve(&journal, n)));
    assert_eq!(home.raw().query_row("SELECT count(*) FROM records", [], |r| r.get(0)), Ok(0));
    let after = home.killed();
    drop(stuck);
    assert_eq!(ids(&after), ids_of(0..20));
    assert!(after.spools().is_empty(), "what was entered is gone from the spool");
    assert_eq!(ids(&after), ids_of(0..20), "once");
    journal.close();
    assert_eq!(ids(&home), ids_of(0..20));
    assert!(home.spools().is_empty(), "a journal that is closed leaves none");
}

#[test]
fn what_was_committed_and_still_spooled_is_entered_once() {
    let home = Home::new();
    let (journal, disk) = super::flush::open(&home);
    disk.hold(true);
    let ack = journal.append_served(step("a", 1)).unwrap();
    assert!(ack.is_spooled());
    super::written(ack).unwrap();
    assert!(home.spooled_bytes() > 0, "it is not durable yet");
    assert_eq!(ids(&home.killed()), ids_of([1]));
    disk.hold(false);
    record(&journal, [step("a", 2).into()]);
    assert_eq!(home.spooled_bytes(), 0);
}

#[test]
fn a_step_that_is_torn_was_answered_for_by_nobody_and_hides_no_other() {
    let home = Home::new();
    let journal = home.open();
    let stuck = Stuck::at(&home);
    assert!((0..3).all(|n| serve(&journal, n)));
    let whole = fs::read(&home.spools()[0]).unwrap();
    for cut in (0..whole.len()).step_by(29) {
        let after = home.killed();
        fs::write(&after.spools()[0], &whole[..cut]).unwrap();
        let left = ids(&after);
        assert_eq!(left, ids_of(0..left.len() as i64), "cut at {cut} of {}", whole.len());
        assert!(left.len() < 3);
    }
    let mut flipped = whole.clone();
    let middle = whole.len() / 2;
    flipped[middle] ^= 1;
    let after = home.killed();
    fs::write(&after.spools()[0], flipped).unwrap();
    assert_eq!(ids(&after), ids_of([0]), "the checksum tells");
    drop(stuck);
}

#[test]
fn whoever_reads_finds_what_was_answered_for() {
    let home = Home::new();
    let journal = home.open();
    let stuck = Stuck::at(&home);
    assert!(serve(&journal, 1));
    let (told, tell) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            told.send(journal.step_by_response("chatcmpl-a-1").unwrap().is_some()).unwrap();
        });
        assert!(tell.recv_timeout(SOON).is_err(), "it was read before it was there");
        drop(stuck);
        assert!(tell.recv().unwrap());
    });
}

#[test]
fn the_spool_of_somebody_who_lives_is_left_alone() {
    let home = Home::new();
    let journal = home.open();
    let stuck = Stuck::at(&home);
    assert!(serve(&journal, 1));
    let bytes = home.spooled_bytes();
    drop(stuck);
    // Before the first has committed, or after: neither takes what is the other's.
    let other = home.open();
    assert!(serve(&other, 2));
    assert!(bytes > 0);
    assert_eq!(everything(&other).iter().map(|one| one.steps.len()).sum::<usize>(), 2);
    journal.close();
    other.close();
    assert_eq!(ids(&home), ids_of([1, 2]));
}

#[test]
fn whoever_opens_the_journal_finds_what_another_process_has_not_committed_yet() {
    let home = Home::new();
    let journal = home.open();
    let go_on = hold(&journal);
    assert!(serve(&journal, 1));
    let other = home.open();
    assert!(other.step_by_response("chatcmpl-a-1").unwrap().is_some());
    assert!(home.spooled_bytes() > 0, "it is still whose it was");
    go_on.send(()).unwrap();
    journal.close();
    assert!(home.spools().is_empty());
    assert_eq!(other.counts().unwrap().steps, 2, "once, and the one that held the first journal");
}

#[test]
fn a_disk_without_room_is_told_to_all_but_the_first_and_gets_those_when_it_has_some() {
    let home = Home::new();
    let small = Config { max_bytes: Some(512 * 1024), ..Config::default() };
    let journal = home.open_with(small);
    let long = |n: i64| {
        // Random enough not to be compressed away.
        let text: String =
            (0..4000).map(|i: i64| char::from(33 + (i * i * n % 89) as u8)).collect();
        Step { reply: understudy_message::Message::assistant(text), ..step("a", n) }
    };
    let mut spooled = Vec::new();
    let refused = (1..10_000).find_map(|n| {
        let ack = journal.append_served(long(n)).unwrap();
        if ack.is_spooled() {
            spooled.push(n);
            return None;
        }
        super::written(ack).err()
    });
    assert!(matches!(refused, Some(JournalError::Full)), "{refused:?}");
    assert!(!spooled.is_empty());
    // Reading goes on, and does not wait for room.
    journal.step_by_response("chatcmpl-a-1").unwrap().unwrap();
    let after = home.killed();
    assert_eq!(ids(&after), ids_of(spooled.clone()), "with room they are all there");
    journal.close();
    assert_eq!(ids(&home), ids_of(spooled));
}

#[test]
fn steps_that_could_not_be_committed_are_when_they_can_be() {
    let home = Home::new();
    let journal = home.open();
    serve(&journal, 0);
    record(&journal, [about_response("a", 0).into()]);
    // A table that is not there is an error of the disk like any other, and can be undone.
    home.raw().execute_batch("ALTER TABLE steps RENAME TO elsewhere").unwrap();
    let _sent: Vec<bool> = (1..5).map(|n| serve(&journal, n)).collect();
    assert!(append(&journal, step("b", 1).into()).unwrap().wait().is_err());
    home.raw().execute_batch("ALTER TABLE elsewhere RENAME TO steps").unwrap();
    let is_empty = |_| {
        thread::sleep(SOON);
        home.spooled_bytes() == 0
    };
    assert!((0..200).any(is_empty), "it is not tried again");
    assert!(ids(&home).contains(&ids_of([1])[0]));
    assert!(serve(&journal, 9), "the spool is of use again");
}

#[test]
fn a_spool_that_cannot_be_written_leaves_steps_to_wait_for_their_commit() {
    let home = Home::new();
    let nowhere = Spool::new(&home.directory.path().join("missing").join("journal.db"));
    assert!(!nowhere.keep(b"step"));
    fs::create_dir(home.directory.path().join("missing")).unwrap();
    assert!(!nowhere.keep(b"step"), "it is not tried for every step");
    let again = |_| {
        thread::sleep(SOON);
        nowhere.keep(b"step")
    };
    assert!((0..200).any(again), "it is tried again later");
    nowhere.release(1);
    nowhere.clear(SOON).unwrap();
}

#[test]
fn what_is_forgotten_is_not_in_the_spool_either() {
    let home = Home::new();
    let journal = home.open();
    let about = |n: i64| Step { subject: Some("ada".to_owned()), ..step("a", n) };
    thread::scope(|scope| {
        let serving = scope.spawn(|| {
            (0..500).filter(|n| journal.append_served(about(*n)).unwrap().is_spooled()).count()
        });
        thread::sleep(Duration::from_millis(5));
        journal.erase("ada", &[]).unwrap();
        assert!(serving.join().unwrap() > 0);
    });
    journal.erase("ada", &[]).unwrap();
    assert_eq!(home.spooled_bytes(), 0);
}

#[test]
fn what_is_forgotten_is_not_in_the_spool_of_a_process_that_was_killed_either() {
    let (home, elsewhere) = (Home::new(), Home::new());
    let journal = home.open();
    let about = |n: i64| Step { subject: Some("ada".to_owned()), ..step("a", n) };
    let victim = elsewhere.open();
    let stuck = Stuck::at(&elsewhere);
    assert!((0..3).all(|n| victim.append_served(about(n)).unwrap().is_spooled()));
    let left = home.directory.path().join("journal.db-spool-1-0");
    fs::copy(&elsewhere.spools()[0], &left).unwrap();
    drop(stuck);
    assert_eq!(journal.erase("ada", &[]).unwrap().steps.len(), 3);
    assert!(!left.exists());
    assert_eq!(ids(&home), Vec::<String>::new());
}
