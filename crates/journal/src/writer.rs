//! The one thread that writes: it commits whatever waits in one transaction and hands it on to be
//! flushed, which another thread does.

use std::{
    borrow::Cow,
    path::Path,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use understudy_ident::Clock;
use understudy_storage::sqlite;

use crate::{
    Appended, Config, Erasure, JournalError, Notes,
    ack::Promise,
    body, derive, erase,
    flush::{Committed, Log, Told},
    media::{self, Media},
    queue::{Append, Chore, Queue, Spooled, What, Work},
    reading,
    record::{Entry, Names},
    schema::MIGRATIONS,
    seal::{self, Key, Stored},
    spool::Spool,
};

/// How long an erasure waits for readers to let go of the log.
pub(crate) const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

/// From one commit to the next where they follow each other closely. Each writes the inner pages of
/// some indexes again, so that many small ones would write a multiple of what they record.
const APART: Duration = Duration::from_millis(1);

/// Before what was answered for is tried again on a disk that refused it.
const AGAIN: Duration = Duration::from_millis(100);

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
    pub(crate) fn start(
        self,
        (queue, spool): (Arc<Queue>, Arc<Spool>),
        log: Arc<Log>,
        flusher: mpsc::Sender<Committed>,
    ) -> Result<JoinHandle<()>, JournalError> {
        thread::Builder::new()
            .name("journal-writer".to_owned())
            .spawn(move || self.run((&queue, &spool), &log, &flusher))
            .map_err(|error| JournalError::Start(Arc::new(error)))
    }

    fn run(
        mut self,
        (queue, spool): (&Queue, &Spool),
        log: &Log,
        flusher: &mpsc::Sender<Committed>,
    ) {
        let _closing = AbandonOnExit(queue);
        let mut before: Option<Instant> = None;
        while let Some(mut work) = queue.take() {
            let begun = Instant::now();
            let answers = match log.check() {
                Ok(()) => self.commit_what_fits(&work),
                Err(why) => vec![Err(why); work.appends.len()],
            };
            let appends = std::mem::take(&mut work.appends);
            let last = last_record(&appends, &answers);
            let told = answer(appends, answers, spool);
            queue.had(told.spooled_first);
            let must_wait = !told.again.is_empty();
            queue.put_back(told.again);
            let chores = std::mem::take(&mut work.chores).into_iter();
            let chores = chores.map(|chore| self.run_chore(chore)).collect();
            let (kept, spooled) = (told.kept, told.spooled);
            // The flusher ends after this thread; without it, promises would say that all is over.
            flusher.send(Committed { work, begun, kept, last, spooled, chores }).ok();
            if must_wait {
                thread::sleep(AGAIN);
            } else if before.replace(begun).is_some_and(|before| begun - before < 2 * APART) {
                thread::sleep(APART.saturating_sub(begun.elapsed()));
            }
        }
    }

    /// What to tell once it is durable. Whoever asked may have gone away, which changes nothing.
    fn run_chore(&mut self, chore: Chore) -> Told {
        fn tell<T: Send + 'static>(
            done: mpsc::Sender<Result<T, JournalError>>,
            result: Result<T, JournalError>,
        ) -> Told {
            Box::new(move |flushed| {
                done.send(flushed.and(result)).ok();
            })
        }
        match chore {
            Chore::Rebuild(done) => tell(done, self.rebuild().map_err(JournalError::write)),
            Chore::Note(notes, done) => tell(done, self.note(&notes).map_err(JournalError::write)),
            Chore::Keep(media, done) => tell(done, self.keep(&media).map_err(JournalError::write)),
            Chore::Expire { before, only_read, done } => {
                let expired = body::expire(&self.connection, before, only_read);
                tell(done, expired.map_err(JournalError::write))
            }
            Chore::Erase { subject, bodies, done } => tell(done, self.erase(&subject, &bodies)),
        }
    }

    /// An answer for each append. Where the disk has no room for bodies, it may have some for the
    /// records that were to be committed with them.
    fn commit_what_fits(&mut self, work: &Work) -> Vec<Answer> {
        let (records, bodies) = work.records_and_bodies();
        let for_all = |committed: Result<Vec<Answer>, JournalError>, count: usize| {
            committed.unwrap_or_else(|why| vec![Err(why); count])
        };
        match self.commit(&work.appends) {
            Err(JournalError::Full) if !records.is_empty() && !bodies.is_empty() => {
                let mut answers = for_all(self.commit(records), records.len());
                answers.extend(vec![Err(JournalError::Full); bodies.len()]);
                answers
            }
            committed => for_all(committed, work.appends.len()),
        }
    }

    /// One transaction for the batch: all of it or, on an error, nothing.
    pub(crate) fn commit(&mut self, appends: &[Append]) -> Result<Vec<Answer>, JournalError> {
        if appends.is_empty() {
            return Ok(Vec::new());
        }
        let received_at_ms = self.clock.now().as_millisecond();
        let mut work = || {
            let tx = self.begin()?;
            // Asked each time, not remembered: another process may have appended.
            let mut last = tx
                .prepare_cached("SELECT coalesce(max(seq), 0) FROM records")?
                .query_row([], |row| row.get(0))?;
            let mut answers = Vec::with_capacity(appends.len());
            for append in appends {
                answers.push(match &append.what {
                    What::Record(names) => {
                        enter(&tx, names, &append.body, &mut last, received_at_ms)?
                    }
                    What::Body(label) => Ok(body::enter(&tx, label, &append.body, received_at_ms)?),
                });
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

    fn note(&mut self, notes: &Notes) -> rusqlite::Result<()> {
        let tx = self.begin()?;
        reading::note(&tx, notes)?;
        tx.commit()
    }

    fn keep(&mut self, media: &Media) -> rusqlite::Result<()> {
        let tx = self.begin()?;
        media::keep(&tx, media)?;
        tx.commit()
    }

    fn erase(&mut self, subject: &str, bodies: &[u64]) -> Result<Erasure, JournalError> {
        let at = self.clock.now();
        let tx = self.begin().map_err(JournalError::write)?;
        let erasure = erase::erase(&tx, subject, bodies, at)?;
        tx.commit().map_err(JournalError::write)?;
        self.flush_log()?;
        Ok(erasure)
    }

    /// Empties the log, which still has the pages as they were. A reader that began before holds it
    /// up for as long as it reads.
    fn flush_log(&self) -> Result<(), JournalError> {
        let wait = Instant::now();
        loop {
            let busy: u64 = self
                .connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
                .map_err(JournalError::write)?;
            if busy == 0 {
                return Ok(());
            }
            if wait.elapsed() > FLUSH_TIMEOUT {
                return Err(JournalError::StillRead);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn configure(&self, max_bytes: Option<u64>) -> rusqlite::Result<()> {
        // Commits are flushed by another thread. The log itself still is before it is copied into the
        // database, and after a power failure ends with the last commit that is whole.
        self.connection.pragma_update(None, "synchronous", "NORMAL")?;
        // What is deleted is overwritten, so that a forgotten key is nowhere in the file.
        self.connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
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

/// The number of the last record among these; bodies have numbers of their own.
fn last_record(appends: &[Append], answers: &[Answer]) -> u64 {
    let records = appends.iter().zip(answers).filter(|(append, _)| !append.is_body());
    let numbers = records.filter_map(|(_, answer)| Some(answer.as_ref().ok()?.seq));
    numbers.max().unwrap_or_default()
}

/// What came of a batch.
#[derive(Default)]
struct Batch {
    /// What was written has still to be durable.
    kept: Vec<(Promise, Appended)>,
    /// How many of these are spooled.
    spooled: usize,
    /// Spooled steps that the writer had for the first time.
    spooled_first: usize,
    /// Those that were not written, and may be later.
    again: Vec<Append>,
}

/// Tells everybody whether their append is written, or why not.
fn answer(appends: Vec<Append>, answers: Vec<Answer>, spool: &Spool) -> Batch {
    let mut batch = Batch::default();
    for (append, answer) in appends.into_iter().zip(answers) {
        let is_spooled = append.spooled != Spooled::No;
        batch.spooled_first += usize::from(append.spooled == Spooled::Yes);
        match answer {
            Ok(appended) => {
                append.promise.written(appended);
                batch.kept.push((append.promise, appended));
                batch.spooled += usize::from(is_spooled);
            }
            Err(why) if is_spooled => {
                spool.close();
                if append.spooled == Spooled::Yes {
                    tracing::error!(id = append.what.id(), %why, "a spooled step is not in the journal");
                }
                match why {
                    JournalError::Full | JournalError::Write(_) => batch.again.push(append),
                    // The journal takes nothing more until it is opened again, and then this.
                    JournalError::Flush(_) => append.promise.keep(Err(why)),
                    _ => {
                        spool.release(1);
                        append.promise.keep(Err(why));
                    }
                }
            }
            Err(why) => append.promise.keep(Err(why)),
        }
    }
    batch
}

/// However the thread ends, nobody may wait for it for ever.
struct AbandonOnExit<'a>(&'a Queue);

impl Drop for AbandonOnExit<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

fn enter(
    tx: &Transaction<'_>,
    names: &Names,
    body: &[u8],
    last: &mut u64,
    received_at_ms: i64,
) -> rusqlite::Result<Answer> {
    match (recorded(tx, names)?, names) {
        (None, Names::Withdrawal { .. }) => {
            return Ok(Ok(Appended { seq: *last, duplicate: true }));
        }
        (None, _) => {
            // Sent again after it was forgotten, it stays forgotten.
            if let Some(seq) = erase::was_forgotten(tx, names.id())? {
                return Ok(Ok(Appended { seq, duplicate: true }));
            }
        }
        (Some(before), _) => {
            if let Some(answer) = again(names, body, before) {
                return Ok(answer);
            }
        }
    }
    let seq = *last + 1;
    let key = seal::holder(tx, names)?.map(|holder| Key::obtain(tx, &holder)).transpose()?;
    let sealed = key.as_ref().map(|key| key.seal(seq, names.kind(), body));
    tx.prepare_cached("INSERT INTO records VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
        seq,
        names.kind(),
        received_at_ms,
        sealed.as_deref().unwrap_or(body),
        key.map(|key| key.id)
    ])?;
    derive::enter(tx, seq, names)?;
    *last = seq;
    Ok(Ok(Appended { seq, duplicate: false }))
}

/// What has this id at present.
struct Before {
    seq: u64,
    kind: String,
    /// As it was before it was sealed; an error where it cannot be read any more.
    body: Result<Vec<u8>, JournalError>,
}

fn recorded(tx: &Transaction<'_>, names: &Names) -> rusqlite::Result<Option<Before>> {
    const STEP: &str = "SELECT seq, kind, body, key, secret FROM steps JOIN readable USING (seq)
        WHERE id = ?1 AND gone IS NULL";
    // What was taken back for good is known all the same.
    const OUTCOME: &str =
        "SELECT seq, kind, body, key, secret FROM outcomes JOIN readable USING (seq)
        WHERE id = ?1 AND (gone IS NULL OR id IN (SELECT id FROM retractions))
        ORDER BY seq DESC LIMIT 1";
    const RETRACTION: &str =
        "SELECT seq, kind, body, key, secret FROM retractions JOIN readable USING (seq)
        WHERE id = ?1";
    let find = |sql: &str| {
        let read = |row: &rusqlite::Row<'_>| {
            let stored = Stored::of(row)?;
            let body = stored.body().map(Cow::into_owned);
            Ok(Before { seq: stored.seq, kind: stored.kind.to_owned(), body })
        };
        tx.prepare_cached(sql)?.query_row([names.id()], read).optional()
    };
    match names {
        Names::Step { .. } => find(STEP),
        Names::Outcome { .. } => find(OUTCOME),
        Names::Retraction { .. } => find(RETRACTION),
        Names::Withdrawal { .. } => {
            find(STEP)?.map_or_else(|| find(OUTCOME), |found| Ok(Some(found)))
        }
    }
}

/// The answer to an id that is known; `None` if the new account takes the place of the old one.
fn again(names: &Names, body: &[u8], before: Before) -> Option<Answer> {
    let (was_told, is_told) = (before.kind.starts_with("told-"), names.kind().starts_with("told-"));
    if matches!(names, Names::Retraction { .. }) {
        return Some(Ok(Appended { seq: before.seq, duplicate: true }));
    }
    let conflict = || Some(Err(JournalError::Conflict { id: names.id().to_owned() }));
    if matches!(names, Names::Withdrawal { .. }) {
        return if was_told { None } else { conflict() };
    }
    let known = match before.body {
        Ok(known) => known,
        Err(why) => return Some(Err(why)),
    };
    if was_told && is_told {
        // Compressed by the same settings, equal accounts are equal bytes.
        let duplicate = known == body;
        return duplicate.then_some(Ok(Appended { seq: before.seq, duplicate }));
    }
    let (old, new) = (
        Entry::decode(before.seq, &before.kind, &known),
        // Read back like the other, so that both have gone through the same roundings.
        Entry::decode(before.seq, names.kind(), body),
    );
    match (old, new) {
        (Ok(old), Ok(new)) if old.says_the_same(&new) => {
            Some(Ok(Appended { seq: before.seq, duplicate: true }))
        }
        (Err(why), _) | (_, Err(why)) => Some(Err(why)),
        (Ok(_), Ok(_)) => conflict(),
    }
}
