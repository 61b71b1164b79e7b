//! What durability costs: the time until an append is acknowledged and how many are per second.
//!
//! `cargo bench -p understudy-journal --bench append -- [RECORDS ALREADY THERE] [DIRECTORY]`
//!
//! Steps are 4 KB of JSON, with the token ids of a short reply; ids are those the gateway mints. The
//! yardstick is the same bodies in the same batches with nothing derived from them.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints and may fail"
)]

use std::{
    path::Path,
    sync::mpsc,
    time::{Duration, Instant},
};

use rusqlite::params;
use understudy_ident::{StepId, Timestamp, TrajectoryId};
use understudy_inference::{FinishReason, Sampling, Served, Timing, TokenRecord, Usage};
use understudy_journal::{Config, Journal, JournalError, Query};
use understudy_message::Message;
use understudy_storage::sqlite::{self, Migration};
use understudy_trajectory::Step;

const APPENDERS: usize = 64;
const MEASURED: Duration = Duration::from_secs(5);
const BARE: &[Migration] = &[Migration {
    version: 1,
    sql: "CREATE TABLE records (seq INTEGER PRIMARY KEY, kind TEXT, at INTEGER, body BLOB) STRICT",
}];

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let there: usize = arguments.next().map_or(20_000, |text| text.parse().unwrap());
    let root = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    let home = tempfile::tempdir_in(root).unwrap();
    let path = home.path().join("journal.db");
    let journal = Journal::open(&path, Config::default()).unwrap();
    saturate(&journal, Until::Records(there), "filling");
    for appenders in [1, APPENDERS] {
        closed_loop(&journal, appenders);
    }
    saturate(&journal, Until::Elapsed(MEASURED), "queue kept full");
    bare(&home.path().join("bare.db"));
    read(&journal);
}

/// Each appender sends its next step when the last one is durable.
fn closed_loop(journal: &Journal, appenders: usize) {
    let begin = Instant::now();
    let mut waits: Vec<Duration> = std::thread::scope(|scope| {
        let append = || {
            let mut waits = Vec::new();
            while begin.elapsed() < MEASURED {
                let step = step();
                let sent = Instant::now();
                journal.append_step(step).unwrap().wait().unwrap();
                waits.push(sent.elapsed());
            }
            waits
        };
        let threads: Vec<_> = (0..appenders).map(|_| scope.spawn(append)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let rate = waits.len() as f64 / begin.elapsed().as_secs_f64();
    waits.sort();
    let ms = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{appenders:>3} appenders: {rate:>7.0} steps/s, acknowledged after p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        ms(0.5),
        ms(0.99),
        ms(1.0),
    );
}

enum Until {
    Records(usize),
    Elapsed(Duration),
}

fn saturate(journal: &Journal, until: Until, what: &str) {
    let begin = Instant::now();
    let (done, acknowledged) = mpsc::channel();
    let mut sent = 0;
    loop {
        match until {
            Until::Records(records) if sent >= records => break,
            Until::Elapsed(limit) if begin.elapsed() >= limit => break,
            Until::Records(_) | Until::Elapsed(_) => {}
        }
        match journal.append_step(step()) {
            Ok(ack) => {
                let done = done.clone();
                ack.on_durable(move |answer| done.send(answer.is_ok()).unwrap());
                sent += 1;
            }
            Err(JournalError::Busy { .. }) => std::thread::sleep(Duration::from_millis(1)),
            Err(other) => panic!("{other}"),
        }
    }
    drop(done);
    assert_eq!(acknowledged.iter().filter(|ok| *ok).count(), sent);
    println!("{what}: {:.0} steps/s", sent as f64 / begin.elapsed().as_secs_f64());
}

/// Bodies alone, as fast as SQLite takes them, in batches of what 64 appenders make of it.
fn bare(path: &Path) {
    let mut connection = sqlite::open(path, BARE).unwrap();
    let body = zstd::bulk::compress(&serde_json::to_vec(&step()).unwrap(), 1).unwrap();
    for batch in [APPENDERS, 1024] {
        let (begin, mut written) = (Instant::now(), 0);
        while begin.elapsed() < MEASURED / 2 {
            let transaction = connection.transaction().unwrap();
            for _ in 0..batch {
                transaction
                    .prepare_cached("INSERT INTO records VALUES (NULL, 'step', 0, ?1)")
                    .unwrap()
                    .execute(params![body])
                    .unwrap();
            }
            transaction.commit().unwrap();
            written += batch;
        }
        let rate = f64::from(written as u32) / begin.elapsed().as_secs_f64();
        println!("bodies of {} bytes alone, {batch} a commit: {rate:.0}/s", body.len());
    }
}

fn read(journal: &Journal) {
    let begin = Instant::now();
    let scan = journal.scan(&Query::default()).unwrap();
    let steps: usize = scan.map(|trajectory| trajectory.unwrap().steps.len()).sum();
    println!("scanning: {:.0} steps/s", steps as f64 / begin.elapsed().as_secs_f64());
}

fn step() -> Step {
    let id = StepId::generate();
    let noise = id.as_str().repeat(12);
    let tokens = TokenRecord {
        prompt_ids: (0..150).map(|n| n * 7919 % 49_152).collect(),
        completion_ids: (0..40).map(|n| n * 6151 % 49_152).collect(),
        sampling_logprobs: (0..40).map(|n| -1.0 / (n as f32 + 0.7)).collect(),
        forced: Vec::new(),
        sampling: Sampling::greedy(64),
        logprobs_exact: false,
        base_digest: "b".repeat(64),
        tokenizer_digest: "c".repeat(64),
        template_digest: "d".repeat(64),
    };
    Step {
        trajectory: TrajectoryId::generate(),
        task: "triage".parse().unwrap(),
        session: Some(TrajectoryId::derived(id.as_str()).to_string()),
        subject: None,
        metadata: std::collections::BTreeMap::new(),
        response_id: format!("chatcmpl-stable-{}", &id.as_str()[5..]),
        at: Timestamp::now(),
        prompt: vec![Message::system("Answer in JSON. ".repeat(20)), Message::user(noise)],
        reply: Message::assistant(r#"{"intent": "refund", "priority": "high"}"#),
        tools: Vec::new(),
        finish_reason: FinishReason::Stop,
        assignment: None,
        served: Served { base: "tiny".to_owned(), adapter: None },
        usage: Usage { prompt_tokens: 150, completion_tokens: 40, cached_tokens: 0 },
        timing: Timing { queued_ms: 0.3, first_token_ms: 21.5, total_ms: 380.25 },
        tokens: Some(tokens),
        error: None,
        id,
    }
}
