//! A small world to record, and what every test asks of a journal.

mod append;
mod erase;
mod flush;
mod kill;
mod link;
mod queue;
mod read;
mod spool;
mod telemetry;

use std::{path::PathBuf, sync::mpsc};

use tempfile::TempDir;
use understudy_ident::{OutcomeId, StepId, Timestamp, TrajectoryId};
use understudy_inference::{FinishReason, Served, Timing, Usage};
use understudy_message::Message;
use understudy_trajectory::{Outcome, Signal, Source, Step, Target, Trajectory};

use crate::{Ack, Config, Entry, Journal, JournalError, Query, Told};

/// The `n`th step of a session, `n` seconds after 1970.
fn step(session: &str, n: i64) -> Step {
    Step {
        id: StepId::derived(&format!("{session} {n}")),
        trajectory: TrajectoryId::derived(session),
        task: "triage".parse().unwrap(),
        session: Some(session.to_owned()),
        subject: None,
        metadata: std::collections::BTreeMap::new(),
        response_id: format!("chatcmpl-{session}-{n}"),
        at: Timestamp::from_millisecond(1000 * n).unwrap(),
        prompt: vec![Message::user("help")],
        reply: Message::assistant(format!("answer {n}")),
        tools: Vec::new(),
        finish_reason: FinishReason::Stop,
        assignment: None,
        served: Served { base: "tiny".to_owned(), adapter: None },
        usage: Usage::default(),
        // Awkward on purpose: not every decimal reads back as the binary fraction it came from.
        timing: Timing { queued_ms: 0.1 + 0.2, first_token_ms: 1e-7, total_ms: 1.0 / 3.0 },
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
        details: None,
    }
}

fn about_response(session: &str, n: i64) -> Outcome {
    let target = Target::Response(format!("chatcmpl-{session}-{n}"));
    outcome(&format!("about {session} {n}"), target, 1)
}

/// A directory that is gone after the test, and the journal's place in it.
struct Home {
    directory: TempDir,
}

impl Home {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("journal.db")
    }

    fn open(&self) -> Journal {
        self.open_with(Config::default())
    }

    fn open_with(&self, config: Config) -> Journal {
        Journal::open(&self.path(), config).unwrap()
    }

    /// The file itself, past the journal.
    fn raw(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path()).unwrap()
    }
}

fn append(journal: &Journal, entry: Entry) -> Result<Ack, JournalError> {
    match entry {
        Entry::Step(step) => journal.append_step(*step),
        Entry::Outcome(outcome) => journal.append_outcome(outcome),
    }
}

/// Keeps the writer busy until the sender is used or dropped.
fn hold(journal: &Journal) -> mpsc::Sender<()> {
    loop {
        let (go_on, wait) = mpsc::channel();
        let (holding, held) = mpsc::channel();
        append(journal, step("held", 1).into()).unwrap().on_written(move |_| {
            // What is written before anybody listens is told on the thread that asks.
            let is_writer = std::thread::current().name() == Some("journal-writer");
            holding.send(is_writer).unwrap();
            if is_writer {
                wait.recv().ok();
            }
        });
        // Sent again it is a duplicate, and written all the same.
        if held.recv().unwrap() {
            return go_on;
        }
    }
}

/// Waits until it would survive the end of this process.
fn written(ack: Ack) -> Result<u64, JournalError> {
    let (told, tell) = mpsc::channel();
    ack.on_written(move |answer| told.send(answer).unwrap());
    tell.recv().unwrap().map(|appended| appended.seq)
}

fn record(journal: &Journal, entries: impl IntoIterator<Item = Entry>) {
    let acks: Vec<Ack> = entries.into_iter().map(|entry| append(journal, entry).unwrap()).collect();
    for ack in acks {
        ack.wait().unwrap();
    }
}

fn everything(journal: &Journal) -> Vec<Trajectory> {
    journal.trajectories(&Query::default()).unwrap()
}

impl From<Step> for Entry {
    fn from(step: Step) -> Self {
        Self::Step(Box::new(step))
    }
}

impl From<Outcome> for Entry {
    fn from(outcome: Outcome) -> Self {
        Self::Outcome(outcome)
    }
}
