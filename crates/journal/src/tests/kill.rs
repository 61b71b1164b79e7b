//! `kill -9` and torn files: the process under test is this test, started again.
#![cfg(unix)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use understudy_trajectory::Step;

use super::{Home, about_response, append, everything, hold, record, step, written};
use crate::{Config, Entry, Journal, Told, queue::BATCH_TOLD};

const CHILD: &str = "UNDERSTUDY_JOURNAL_TEST_CHILD";
const ROUNDS: u64 = 20;
const THREADS: i64 = 4;

/// Not a test of its own: what the killed child runs.
#[test]
fn child_appends_until_killed() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let journal = Journal::open(Path::new(&path), Config::default()).unwrap();
    let begin = journal.watermark().unwrap() as i64;
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let journal = &journal;
            scope.spawn(move || append_for_ever(journal, begin * THREADS + thread));
        }
    });
}

/// Outcomes go before their steps, so that a kill between the two leaves one pending. What is only
/// written, or only spooled, must survive as well as what is durable.
fn append_for_ever(journal: &Journal, begin: i64) {
    for n in (begin..).step_by(THREADS as usize) {
        for entry in [about_response("child", n).into(), step("child", n).into()] {
            let seq = match entry {
                Entry::Step(step) if n % 2 == 0 => served(journal, *step),
                step @ Entry::Step(_) => written(append(journal, step).unwrap()).unwrap(),
                outcome @ Entry::Outcome(_) => {
                    append(journal, outcome).unwrap().wait().unwrap().seq
                }
            };
            // One write per line: a line that is read was written whole.
            let line = format!("acknowledged {seq} {n}\n");
            std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
            std::io::stdout().flush().unwrap();
        }
    }
}

/// The number of a step that has one; 0 for one that is spooled, and has none yet.
fn served(journal: &Journal, step: Step) -> u64 {
    let ack = journal.append_served(step).unwrap();
    if ack.is_spooled() { 0 } else { written(ack).unwrap() }
}

#[test]
fn nothing_acknowledged_is_lost_to_kill_nine_and_nothing_is_doubled() {
    let home = Home::new();
    let mut random = StdRng::seed_from_u64(std::process::id().into());
    let mut acknowledged: BTreeSet<(u64, i64)> = BTreeSet::new();
    for _ in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::kill::child_appends_until_killed", "--nocapture"])
            .env(CHILD, home.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        // Counted, and not timed: however slow the disk, each child gets somewhere.
        let heard = random.random_range(1..50);
        acknowledged.extend(lines.by_ref().filter_map(|line| parse(&line)).take(heard));
        std::thread::sleep(Duration::from_micros(random.random_range(0..20_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had said before it died counts as acknowledged, too.
        acknowledged.extend(lines.filter_map(|line| parse(&line)));
    }
    assert!(acknowledged.len() > 10 * ROUNDS as usize, "only {} appends", acknowledged.len());
    assert!(acknowledged.first().is_some_and(|(seq, _)| *seq == 0), "nothing was spooled");
    check_survivors(&home, &acknowledged);
}

/// `acknowledged SEQ N`, wherever the test harness put its own words on the line.
fn parse(line: &str) -> Option<(u64, i64)> {
    let (_, said) = line.split_once("acknowledged ")?;
    let (seq, n) = said.split_once(' ')?;
    Some((seq.parse().ok()?, n.parse().ok()?))
}

fn check_survivors(home: &Home, acknowledged: &BTreeSet<(u64, i64)>) {
    let journal = home.open();
    let arrivals = journal.follow(0, usize::MAX).unwrap();
    let mut ids: BTreeMap<String, u64> = BTreeMap::new();
    for arrival in &arrivals {
        let before = ids.insert(arrival.entry.id().to_owned(), arrival.seq);
        assert_eq!(before, None, "{} is there twice", arrival.entry.id());
    }
    for (seq, n) in acknowledged {
        let (step, outcome) = (step("child", *n).id, about_response("child", *n).id);
        let found = [step.as_str(), outcome.as_str()].map(|id| ids.get(id));
        let is_there = if *seq == 0 { found[0].is_some() } else { found.contains(&Some(seq)) };
        assert!(is_there, "record {seq} of {n} was acknowledged");
    }
    let counts = journal.counts().unwrap();
    assert_eq!((counts.records, counts.unreadable), (arrivals.len() as u64, 0));
    let linked: usize = everything(&journal)
        .iter()
        .flat_map(|t| &t.steps)
        .map(|judged| judged.outcomes.len())
        .sum();
    assert_eq!(linked as u64, counts.steps);
    assert_eq!(counts.pending_outcomes, counts.outcomes - counts.steps);
    let before = everything(&journal);
    journal.rebuild().unwrap();
    assert_eq!(everything(&journal), before);
}

const BACKLOG: &str = "UNDERSTUDY_JOURNAL_TEST_BACKLOG";
const TOLD: i64 = 1000;
/// After this one has been acknowledged the child is gone.
const DIES_AFTER: i64 = 200;

fn told(n: i64) -> Told {
    Told { origin: "mapper@1".to_owned(), entry: step("told", n).into() }
}

/// Not a test of its own: hands over a backlog at once and dies when some of it is durable.
#[test]
fn child_tells_a_backlog_and_dies_in_the_middle() {
    let Some(path) = std::env::var_os(BACKLOG) else { return };
    let journal = Journal::open(Path::new(&path), Config::default()).unwrap();
    // All of it waits before any of it is written.
    let go_on = hold(&journal);
    for n in 0..TOLD {
        let ack = journal.append_told(told(n)).unwrap();
        if n == DIES_AFTER {
            // On the very thread that writes: nothing follows the commit this is in.
            ack.on_written(|_| std::process::abort());
        }
    }
    drop(go_on);
    journal.close();
}

#[test]
fn a_backlog_is_several_commits_and_a_kill_between_them_loses_and_doubles_nothing() {
    let home = Home::new();
    let died = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::kill::child_tells_a_backlog_and_dies_in_the_middle"])
        .env(BACKLOG, home.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(!died.success());
    let journal = home.open();
    let durable = journal.counts().unwrap().steps as i64 - 1;
    assert!(durable > DIES_AFTER, "what was acknowledged is there: {durable}");
    assert!(durable <= DIES_AFTER + BATCH_TOLD as i64, "it was one commit: {durable}");
    let steps = |journal: &Journal| {
        let found = everything(journal);
        let steps = found.into_iter().flat_map(|one| one.steps).map(|judged| judged.step);
        steps.filter(|step| step.session.as_deref() == Some("told")).collect::<Vec<_>>()
    };
    let of = |count: i64| (0..count).map(|n| step("told", n)).collect::<Vec<_>>();
    assert_eq!(steps(&journal), of(durable), "as they were handed over");
    // Whoever reads begins anew, and tells all of it again.
    let acks: Vec<_> = (0..TOLD).map(|n| journal.append_told(told(n)).unwrap()).collect();
    let known = acks.into_iter().map(|ack| ack.wait().unwrap()).filter(|it| it.duplicate).count();
    assert_eq!(known as i64, durable);
    assert_eq!(steps(&journal), of(TOLD));
    assert_eq!(journal.counts().unwrap().superseded, 0);
}

/// What a power cut leaves: a log whose tail was only partly on the disk.
#[test]
fn a_torn_tail_costs_at_most_what_it_held() {
    let mut random = StdRng::seed_from_u64(5);
    let home = Home::new();
    let journal = home.open();
    for n in 0..40 {
        record(&journal, [step("a", n).into()]);
    }
    let (database, log) = (fs::read(home.path()).unwrap(), fs::read(log(&home.path())).unwrap());
    let tear = |log: Vec<u8>| {
        let torn = Home::new();
        fs::write(torn.path(), &database).unwrap();
        fs::write(self::log(&torn.path()), log).unwrap();
        let journal = torn.open();
        let kept = journal.watermark().unwrap();
        let read: Vec<u64> = journal.follow(0, 100).unwrap().iter().map(|a| a.seq).collect();
        assert_eq!(read, (1..=kept).collect::<Vec<_>>(), "records are a prefix");
        assert_eq!(everything(&journal).iter().map(|t| t.steps.len()).sum::<usize>(), read.len());
        record(&journal, [step("b", 1).into()]);
        assert_eq!(journal.watermark().unwrap(), kept + 1);
        kept
    };
    // A commit that had begun to reach the disk takes nothing with it.
    let garbage = (0..5000).map(|_| random.random()).collect::<Vec<u8>>();
    assert_eq!(tear([log.as_slice(), &garbage].concat()), 40);
    assert_eq!(tear([log.as_slice(), &log[32..6000]].concat()), 40);
    let mut lost = 0;
    for _ in 0..20 {
        let cut = random.random_range(log.len() / 2..log.len());
        lost += 40 - tear(log[..cut].to_vec());
        let mut flipped = log.clone();
        flipped[cut] ^= 1;
        lost += 40 - tear(flipped);
    }
    assert!(lost > 0, "the cuts went through records");
}

fn log(database: &Path) -> std::path::PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}
