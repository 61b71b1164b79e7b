//! The one thread that writes: it commits whatever is waiting in one transaction, then answers.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use understudy_ident::{Clock, Digest, SystemClock};
use understudy_storage::sqlite;

use crate::{
    Config, JournalError,
    record::{Entry, target_key},
    schema::MIGRATIONS,
};

/// More would make the first of a batch wait for the last.
const BATCH: usize = 1024;

/// Where a record ended up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub seq: u64,
    /// It was there already: the same id with the same content.
    pub duplicate: bool,
}

type Answer = Box<dyn FnOnce(Result<Appended, JournalError>) + Send>;

/// A promise of durability. Dropping it does not undo the append.
pub struct Ack {
    state: Arc<Mutex<AckState>>,
}

enum AckState {
    Waiting(Option<Answer>),
    Done(Result<Appended, JournalError>),
}

impl Ack {
    /// Calls `then` once the record is durable or refused, on the writer's thread: it must be
    /// quick and must not call the journal.
    pub fn on_commit(self, then: impl FnOnce(Result<Appended, JournalError>) + Send + 'static) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *state {
            AckState::Waiting(slot) => *slot = Some(Box::new(then)),
            AckState::Done(result) => {
                let result = result.clone();
                drop(state);
                then(result);
            }
        }
    }

    /// Blocks until the record is durable or refused.
    pub fn wait(self) -> Result<Appended, JournalError> {
        let (sender, receiver) = mpsc::channel();
        self.on_commit(move |result| {
            // The receiver below lives until it has an answer.
            sender.send(result).ok();
        });
        receiver.recv().unwrap_or(Err(JournalError::Closed))
    }
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ack")
    }
}

/// The writing end of an [`Ack`]; dropped unanswered, it says the journal is closed.
struct Promise {
    state: Arc<Mutex<AckState>>,
}

impl Promise {
    fn new() -> (Self, Ack) {
        let state = Arc::new(Mutex::new(AckState::Waiting(None)));
        (Self { state: Arc::clone(&state) }, Ack { state })
    }

    fn resolve(&self, result: Result<Appended, JournalError>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = match &mut *state {
            AckState::Waiting(then) => then.take(),
            AckState::Done(_) => return,
        };
        *state = AckState::Done(result.clone());
        drop(state);
        if let Some(then) = waiting {
            then(result);
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.resolve(Err(JournalError::Closed));
    }
}

enum Work {
    Append { entry: Prepared, promise: Promise },
    Settle(mpsc::Sender<Result<(), JournalError>>),
}

/// An entry with everything costly done on the caller's thread.
struct Prepared {
    kind: i64,
    id: String,
    identity: Digest,
    body: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Writer {
    /// Taken at drop, which is what ends the thread.
    queue: Option<mpsc::Sender<Work>>,
    waiting_bytes: Arc<AtomicUsize>,
    limit: usize,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(path: &Path, config: Config) -> Result<Self, JournalError> {
        let mut connection = sqlite::open(path, MIGRATIONS).map_err(JournalError::write)?;
        // What was acknowledged just before a crash may not have been derived.
        derive_all(&mut connection).map_err(JournalError::write)?;
        let (queue, work) = mpsc::channel();
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&waiting_bytes);
        let thread = std::thread::Builder::new()
            .name("journal-writer".to_owned())
            .spawn(move || write_until_closed(&mut connection, &work, &counter))
            .map_err(JournalError::write)?;
        let limit = config.queue_bytes;
        Ok(Self { queue: Some(queue), waiting_bytes, limit, thread: Some(thread) })
    }

    pub(crate) fn append(&self, entry: &Entry) -> Result<Ack, JournalError> {
        let body = entry.to_bytes()?;
        let waiting = self.waiting_bytes.fetch_add(body.len(), Ordering::Relaxed);
        if waiting + body.len() > self.limit {
            self.waiting_bytes.fetch_sub(body.len(), Ordering::Relaxed);
            return Err(JournalError::Busy { waiting_bytes: waiting });
        }
        let (promise, ack) = Promise::new();
        let (id, identity) = (entry.id().to_owned(), entry.identity());
        let entry = Prepared { kind: entry.kind(), id, identity, body };
        self.send(Work::Append { entry, promise })?;
        Ok(ack)
    }

    /// Waits until everything queued before is durable and derived.
    pub(crate) fn settle(&self) -> Result<(), JournalError> {
        let (sender, receiver) = mpsc::channel();
        self.send(Work::Settle(sender))?;
        receiver.recv().unwrap_or(Err(JournalError::Closed))
    }

    fn send(&self, work: Work) -> Result<(), JournalError> {
        let queue = self.queue.as_ref().ok_or(JournalError::Closed)?;
        queue.send(work).map_err(|_| JournalError::Closed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A writer that panicked has already failed every promise it held.
            thread.join().ok();
        }
    }
}

fn write_until_closed(
    connection: &mut Connection,
    work: &mpsc::Receiver<Work>,
    waiting_bytes: &AtomicUsize,
) {
    while let Ok(first) = work.recv() {
        let mut appends = Vec::new();
        let mut settles = Vec::new();
        let mut sort = |work: Work| match work {
            Work::Append { entry, promise } => appends.push((entry, promise)),
            Work::Settle(sender) => settles.push(sender),
        };
        sort(first);
        // What queued up while the previous commit ran becomes one commit.
        work.try_iter().take(BATCH).for_each(&mut sort);
        let bytes: usize = appends.iter().map(|(entry, _)| entry.body.len()).sum();
        if !appends.is_empty() {
            answer(commit(connection, &appends), appends);
        }
        waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let derived = derive_all(connection).map_err(JournalError::write);
        for settle in settles {
            // Whoever asked may have given up waiting.
            settle.send(derived.clone()).ok();
        }
    }
}

fn answer(
    committed: rusqlite::Result<Vec<Result<Appended, JournalError>>>,
    appends: Vec<(Prepared, Promise)>,
) {
    match committed {
        Ok(results) => {
            for ((_, promise), result) in appends.into_iter().zip(results) {
                promise.resolve(result);
            }
        }
        Err(error) => {
            for (_, promise) in appends {
                promise.resolve(Err(JournalError::write(&error)));
            }
        }
    }
}

/// One durable transaction for the batch: the storage crate opens connections with
/// `synchronous = FULL`. Ids are looked up in the derived tables, which are brought up to date
/// first because another process may have appended meanwhile.
fn commit(
    connection: &mut Connection,
    appends: &[(Prepared, Promise)],
) -> rusqlite::Result<Vec<Result<Appended, JournalError>>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    derive(&transaction)?;
    let received_ms = SystemClock.now().as_millisecond();
    let mut results = Vec::with_capacity(appends.len());
    for (entry, _) in appends {
        results.push(insert(&transaction, entry, received_ms)?);
        // Derived at once, so that a second copy in the same batch is seen as one.
        derive(&transaction)?;
    }
    transaction.commit()?;
    Ok(results)
}

fn insert(
    transaction: &Transaction<'_>,
    entry: &Prepared,
    received_ms: i64,
) -> rusqlite::Result<Result<Appended, JournalError>> {
    let lookup = match entry.kind {
        Entry::STEP => "SELECT seq, identity FROM steps WHERE id = ?1",
        _ => "SELECT seq, identity FROM outcomes WHERE id = ?1",
    };
    let before: Option<(u64, String)> = transaction
        .prepare_cached(lookup)?
        .query_row([&entry.id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some((seq, identity)) = before {
        let same = identity == entry.identity.to_hex();
        let conflict = || JournalError::Conflict { id: entry.id.clone() };
        return Ok(same.then_some(Appended { seq, duplicate: true }).ok_or_else(conflict));
    }
    transaction
        .prepare_cached("INSERT INTO records (kind, received_ms, body) VALUES (?1, ?2, ?3)")?
        .execute(params![entry.kind, received_ms, entry.body])?;
    let seq = transaction.last_insert_rowid() as u64;
    Ok(Ok(Appended { seq, duplicate: false }))
}

fn derive_all(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    derive(&transaction)?;
    transaction.commit()
}

/// Brings the derived tables up to the last record.
fn derive(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut query = transaction.prepare_cached(
        "SELECT seq, kind, body FROM records
         WHERE seq > (SELECT seq FROM progress) ORDER BY seq",
    )?;
    let mut rows = query.query([])?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        let seq: u64 = row.get(0)?;
        let body: Vec<u8> = row.get(2)?;
        // A record nobody can read must not stop the others; reading it says what is wrong.
        if let Ok(entry) = Entry::from_bytes(seq, row.get(1)?, &body) {
            derive_one(transaction, seq, &entry)?;
        }
        last = Some(seq);
    }
    if let Some(seq) = last {
        transaction.prepare_cached("UPDATE progress SET seq = ?1")?.execute([seq])?;
    }
    Ok(())
}

fn derive_one(transaction: &Transaction<'_>, seq: u64, entry: &Entry) -> rusqlite::Result<()> {
    let identity = entry.identity().to_hex();
    match entry {
        Entry::Step(step) => transaction
            .prepare_cached("INSERT OR IGNORE INTO steps VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
            .execute(params![
                seq,
                step.id.as_str(),
                identity,
                step.response_id,
                step.trajectory.as_str(),
                step.session,
                step.task.as_str(),
                step.at.as_millisecond(),
            ])?,
        Entry::Outcome(outcome) => {
            let (kind, target) = target_key(&outcome.target);
            transaction
                .prepare_cached("INSERT OR IGNORE INTO outcomes VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
                .execute(params![
                    seq,
                    outcome.id.as_str(),
                    identity,
                    kind,
                    target,
                    outcome.at.as_millisecond(),
                ])?
        }
    };
    Ok(())
}
