use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use understudy_ident::{OutcomeId, StepId, Timestamp, TrajectoryId};
use understudy_inference::{FinishReason, Served, Timing, Usage};
use understudy_message::Message;
use understudy_trajectory::{Outcome, Signal, Source, Step, Target};

use crate::{Config, Journal, JournalError, Query};

fn step(session: &str, n: i64) -> Step {
    Step {
        id: StepId::derived(&format!("{session} {n}")),
        trajectory: TrajectoryId::derived(session),
        task: "triage".parse().unwrap(),
        session: Some(session.to_owned()),
        subject: None,
        response_id: format!("chatcmpl-{session}-{n}"),
        at: Timestamp::from_millisecond(1000 * n).unwrap(),
        prompt: vec![Message::user("help")],
        reply: Message::assistant(format!("answer {n}")),
        finish_reason: FinishReason::Stop,
        assignment: None,
        served: Served { base: "tiny".to_owned(), adapter: None },
        usage: Usage::default(),
        timing: Timing::default(),
        tokens: None,
        error: None,
    }
}

fn outcome(name: &str, target: Target, at_ms: i64) -> Outcome {
    Outcome {
        id: OutcomeId::derived(name),
        target,
        signal: Signal::Accept,
        source: Source::Explicit,
        at: Timestamp::from_millisecond(at_ms).unwrap(),
        note: None,
    }
}

fn open(path: &Path) -> Journal {
    Journal::open(path, Config::default()).unwrap()
}

/// What is linked to what, as text: `step: outcome outcome`.
fn linked(journal: &Journal) -> Vec<String> {
    let trajectories = journal.trajectories(&Query::default()).unwrap();
    trajectories
        .iter()
        .flat_map(|trajectory| &trajectory.steps)
        .map(|judged| {
            let outcomes: Vec<&str> = judged.outcomes.iter().map(|o| o.id.as_str()).collect();
            format!("{}: {}", judged.step.response_id, outcomes.join(" "))
        })
        .collect()
}

#[test]
fn every_order_of_arrival_links_the_same() {
    enum Item {
        Step(Box<Step>),
        Outcome(Outcome),
    }
    let items = || {
        vec![
            Item::Step(Box::new(step("a", 1))),
            Item::Step(Box::new(step("a", 2))),
            Item::Step(Box::new(step("b", 3))),
            Item::Outcome(outcome("by response", Target::Response("chatcmpl-a-1".into()), 9000)),
            Item::Outcome(outcome("by step", Target::Step(step("b", 3).id.to_string()), 9000)),
            Item::Outcome(outcome("by session, early", Target::Session("a".into()), 1500)),
            Item::Outcome(outcome("by session, before all", Target::Session("a".into()), 1)),
            Item::Outcome(outcome(
                "by trajectory, late",
                Target::Trajectory(step("a", 1).trajectory.to_string()),
                9000,
            )),
        ]
    };
    let mut expected: Option<Vec<String>> = None;
    for turn in 0..items().len() {
        let directory = tempfile::tempdir().unwrap();
        let journal = open(&directory.path().join("journal.db"));
        let mut rotated = items();
        rotated.rotate_left(turn);
        if turn % 2 == 1 {
            rotated.reverse();
        }
        for item in rotated {
            let ack = match item {
                Item::Step(step) => journal.append_step(*step),
                Item::Outcome(outcome) => journal.append_outcome(outcome),
            };
            ack.unwrap().wait().unwrap();
        }
        let links = linked(&journal);
        assert_eq!(links.iter().map(|l| l.matches("out_").count()).sum::<usize>(), 5, "{links:?}");
        assert_eq!(*expected.get_or_insert(links.clone()), links);
        assert_eq!(journal.counts().unwrap().pending_outcomes, 0);
    }
}

#[test]
fn an_outcome_waits_for_its_step_across_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    let early = outcome("early", Target::Response("chatcmpl-a-1".into()), 5);
    open(&path).append_outcome(early.clone()).unwrap().wait().unwrap();
    let journal = open(&path);
    assert_eq!(journal.counts().unwrap().pending_outcomes, 1);
    assert!(journal.judged(&early).unwrap().is_none());
    journal.append_step(step("a", 1)).unwrap().wait().unwrap();
    assert_eq!(journal.judged(&early).unwrap().unwrap().step, step("a", 1));
    assert_eq!(journal.counts().unwrap().pending_outcomes, 0);
}

#[test]
fn sending_again_stores_once_and_reusing_an_id_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    let target = || Target::Response("chatcmpl-a-1".into());
    let first = open(&path);
    let (one, two) = (
        first.append_outcome(outcome("x", target(), 1)).unwrap(),
        first.append_outcome(outcome("x", target(), 2)).unwrap(),
    );
    let (one, two) = (one.wait().unwrap(), two.wait().unwrap());
    assert!(!one.duplicate && two.duplicate && one.seq == two.seq);
    drop(first);
    let again = open(&path);
    assert!(again.append_outcome(outcome("x", target(), 3)).unwrap().wait().unwrap().duplicate);
    let other = Outcome { signal: Signal::Abandon, ..outcome("x", target(), 3) };
    let refused = again.append_outcome(other).unwrap().wait().unwrap_err();
    assert!(matches!(refused, JournalError::Conflict { .. }), "{refused}");
    assert_eq!(again.counts().unwrap().records, 1);
}

#[test]
fn records_can_be_neither_changed_nor_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    open(&path).append_step(step("a", 1)).unwrap().wait().unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    for sql in ["UPDATE records SET kind = 2", "DELETE FROM records"] {
        assert!(raw.execute(sql, []).unwrap_err().to_string().contains("never"), "{sql}");
    }
}

#[test]
fn derived_tables_are_rebuilt_when_they_fall_behind() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    let journal = open(&path);
    journal.append_step(step("a", 1)).unwrap().wait().unwrap();
    let by_response = outcome("x", Target::Response("chatcmpl-a-1".into()), 1);
    journal.append_outcome(by_response).unwrap().wait().unwrap();
    let before = linked(&journal);
    drop(journal);
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch("DELETE FROM steps; DELETE FROM outcomes; UPDATE progress SET seq = 0;")
        .unwrap();
    drop(raw);
    assert_eq!(linked(&open(&path)), before);
}

#[test]
fn a_full_queue_refuses_and_recovers() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { queue_bytes: 16 };
    let journal = Journal::open(&directory.path().join("journal.db"), config).unwrap();
    let refused = journal.append_step(step("a", 1)).unwrap_err();
    assert!(matches!(refused, JournalError::Busy { .. }), "{refused}");
    assert_eq!(journal.counts().unwrap().records, 0);
}

#[test]
fn a_full_disk_refuses_clearly_and_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    let journal = open(&path);
    journal.append_step(step("a", 1)).unwrap().wait().unwrap();
    drop(journal);
    // A trigger that fails stands in for a disk that does: both end the transaction.
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch(
        "CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'disk is full'); END",
    )
    .unwrap();
    let journal = open(&path);
    let refused = journal.append_step(step("a", 2)).unwrap().wait().unwrap_err();
    assert!(refused.to_string().contains("nothing was acknowledged"), "{refused}");
    raw.execute_batch("DROP TRIGGER full").unwrap();
    journal.append_step(step("a", 2)).unwrap().wait().unwrap();
    assert_eq!(journal.counts().unwrap().steps, 2);
}

const CHILD: &str = "UNDERSTUDY_JOURNAL_TEST_CHILD";

/// Not a test of its own: what the killed child runs.
#[test]
fn child_appends_until_killed() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let journal = open(Path::new(&path));
    let begin = journal.watermark().unwrap() as i64;
    for n in begin.. {
        let id = step("child", n).id;
        let ack = journal.append_step(step("child", n)).unwrap().wait().unwrap();
        println!("acknowledged {id} {}", ack.seq);
    }
}

#[test]
fn nothing_acknowledged_is_lost_to_kill_nine() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal.db");
    let mut acknowledged = Vec::new();
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::child_appends_until_killed", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.by_ref().map_while(Result::ok).take(5 + round * 7) {
            acknowledged.extend(line.split_whitespace().nth(1).map(str::to_owned));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it had said before it died counts as acknowledged, too.
        for line in lines.map_while(Result::ok) {
            if let ["acknowledged", id, _] = *line.split_whitespace().collect::<Vec<_>>() {
                acknowledged.push(id.to_owned());
            }
        }
    }
    acknowledged.retain(|id| id.starts_with("step_"));
    assert!(acknowledged.len() > 50, "only {} appends", acknowledged.len());
    let journal = open(&path);
    let stored: Vec<String> = journal
        .trajectories(&Query::default())
        .unwrap()
        .into_iter()
        .flat_map(|trajectory| trajectory.steps)
        .map(|judged| judged.step.id.to_string())
        .collect();
    for id in &acknowledged {
        assert_eq!(stored.iter().filter(|stored| *stored == id).count(), 1, "{id}");
    }
}
