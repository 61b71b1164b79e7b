//! The one thread that writes: it commits whatever waits in one transaction, then answers.
//!
//! While a commit waits for the disk the next batch collects, so the disk's time is shared by
//! everyone who arrived meanwhile, and nobody waits for a timer.

use std::{path::Path, sync::Arc, thread::JoinHandle, time::Instant};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use understudy_ident::Clock;
use understudy_storage::sqlite;

use crate::{
    Appended, Config, JournalError, derive,
    queue::{Append, Queue, Work},
    record::Entry,
    schema::MIGRATIONS,
};

type Answer = Result<Appended, JournalError>;

pub(crate) struct Writer {
    connection: Connection,
    clock: Arc<dyn Clock>,
}

impl Writer {
    pub(crate) fn open(path: &Path, config: &Config) -> Result<Self, JournalError> {
        let connection = sqlite::open(path, MIGRATIONS).map_err(JournalError::open)?;
        let mut writer = Self { connection, clock: Arc::clone(&config.clock) };
        writer.configure(config.max_bytes).map_err(JournalError::write)?;
        let tx = writer.begin().map_err(JournalError::write)?;
        derive::catch_up(&tx).and_then(|()| tx.commit()).map_err(JournalError::write)?;
        Ok(writer)
    }

    /// Moves the writer to a thread of its own, which ends when the queue is closed and empty.
    pub(crate) fn start(self, queue: Arc<Queue>) -> Result<JoinHandle<()>, JournalError> {
        std::thread::Builder::new()
            .name("journal-writer".to_owned())
            .spawn(move || self.run(&queue))
            .map_err(|error| JournalError::Start(Arc::new(error)))
    }

    fn run(mut self, queue: &Queue) {
        let _closing = AbandonOnExit(queue);
        while let Some(mut work) = queue.take() {
            let started = Instant::now();
            let committed = self.commit(&work.appends);
            queue.finished(&work, started.elapsed());
            answer(&mut work, committed);
            for done in work.rebuilds {
                let rebuilt = self.rebuild().map_err(JournalError::write);
                // Whoever asked may have gone away.
                done.send(rebuilt).ok();
            }
        }
    }

    /// One durable transaction for the batch: all of it or, on an error, nothing.
    pub(crate) fn commit(&mut self, appends: &[Append]) -> Result<Vec<Answer>, JournalError> {
        if appends.is_empty() {
            return Ok(Vec::new());
        }
        let received_at_ms = self.clock.now().as_millisecond();
        let mut work = || {
            let tx = self.begin()?;
            // Asked each time, not remembered: another process may have appended.
            let mut last =
                tx.query_row("SELECT coalesce(max(seq), 0) FROM records", [], |row| row.get(0))?;
            let mut answers = Vec::with_capacity(appends.len());
            for append in appends {
                answers.push(enter(&tx, append, &mut last, received_at_ms)?);
            }
            derive::reached(&tx, last)?;
            tx.commit()?;
            Ok(answers)
        };
        work().map_err(JournalError::write)
    }

    pub(crate) fn rebuild(&mut self) -> rusqlite::Result<()> {
        let tx = self.begin()?;
        derive::rebuild(&tx)?;
        tx.commit()
    }

    fn configure(&self, max_bytes: Option<u64>) -> rusqlite::Result<()> {
        // In KiB: enough for the inner pages of the indexes of some ten million records.
        self.connection.pragma_update(None, "cache_size", -64 * 1024)?;
        // In pages, four times the default: the pages every commit touches are written back less often.
        self.connection.pragma_update(None, "wal_autocheckpoint", 4000)?;
        if let Some(max_bytes) = max_bytes {
            let page: u64 = self.connection.pragma_query_value(None, "page_size", |r| r.get(0))?;
            let pages = (max_bytes / page).max(1) as i64;
            self.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
        }
        Ok(())
    }

    fn begin(&mut self) -> rusqlite::Result<Transaction<'_>> {
        self.connection.transaction_with_behavior(TransactionBehavior::Immediate)
    }
}

/// However the thread ends, nobody may wait for it for ever.
struct AbandonOnExit<'a>(&'a Queue);

impl Drop for AbandonOnExit<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

fn answer(work: &mut Work, committed: Result<Vec<Answer>, JournalError>) {
    let appends = std::mem::take(&mut work.appends).into_iter();
    match committed {
        Ok(answers) => {
            appends.zip(answers).for_each(|(append, answer)| append.promise.keep(answer));
        }
        Err(error) => appends.for_each(|append| append.promise.keep(Err(error.clone()))),
    }
}

fn enter(
    tx: &Transaction<'_>,
    append: &Append,
    last: &mut u64,
    received_at_ms: i64,
) -> rusqlite::Result<Answer> {
    if let Some(before) = recorded(tx, append)? {
        return Ok(again(append, before));
    }
    let seq = *last + 1;
    tx.prepare_cached("INSERT INTO records VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        seq,
        append.names.kind(),
        received_at_ms,
        append.body
    ])?;
    derive::enter(tx, seq, &append.names)?;
    *last = seq;
    Ok(Ok(Appended { seq, duplicate: false }))
}

/// The record that has this id already.
fn recorded(tx: &Transaction<'_>, append: &Append) -> rusqlite::Result<Option<(u64, Vec<u8>)>> {
    let sql = match append.names.kind() {
        "step" => "SELECT seq, body FROM steps JOIN records USING (seq) WHERE id = ?1",
        _ => "SELECT seq, body FROM outcomes JOIN records USING (seq) WHERE id = ?1",
    };
    tx.prepare_cached(sql)?
        .query_row([append.names.id()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

fn again(append: &Append, (seq, body): (u64, Vec<u8>)) -> Answer {
    let kind = append.names.kind();
    let before = Entry::decode(seq, kind, &body)?;
    // Read back like the other, so that both have gone through the same roundings.
    if before.says_the_same(&Entry::decode(seq, kind, &append.body)?) {
        return Ok(Appended { seq, duplicate: true });
    }
    Err(JournalError::Conflict { id: append.names.id().to_owned() })
}
