//! The durable, append-only log of what arrived: exchanges as steps, and what users did about them
//! as outcomes; beside them the raw bodies of telemetry, and what these amount to.
//!
//! Guarantees: a durable record survives `kill -9` and power loss, a written or spooled one `kill -9`
//! ([`Ack::on_durable`], [`Ack::on_written`], [`Ack::is_spooled`]); whoever remembers how far they
//! read has read nothing that power loss takes away; a record is stored once, however often and by
//! however many it is sent; an outcome finds its step whichever of them arrives first; reading shows everything
//! acknowledged before it began, in an order that does not depend on arrival, and can be repeated
//! as of any earlier record; memory is bounded, and a queue that is full says when to come back.
//!
//! What telemetry tells is only as good as what has arrived of it, so a later account of the same id
//! takes the place of an earlier one; asked as of an earlier record, the earlier one still holds.
//!
//! What is about a person is sealed with a key of its own; [`Journal::erase`] destroys the key.
//!
//! Never: links an outcome to a step of another tenant, rewrites or drops a record, or lets telemetry
//! replace what we saw ourselves. Which step an
//! outcome is about is worked out when it is read.

mod ack;
mod body;
mod derive;
mod erase;
mod error;
mod fake;
mod flush;
mod link;
mod listing;
mod media;
mod pool;
mod queue;
mod read;
mod reading;
mod record;
mod scan;
mod schema;
mod seal;
mod spool;
mod writer;

use std::{
    collections::BTreeSet,
    fmt, io, mem,
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
};

use understudy_ident::{Clock, Digest, OutcomeId, SystemClock, TaskName, Timestamp, TrajectoryId};
use understudy_trajectory::{JudgedStep, Outcome, Step, Target, Trajectory};

pub use ack::{Ack, Appended};
pub use body::{RawBody, StoredBody};
pub use erase::{Erasure, Holdings};
pub use error::JournalError;
pub use fake::FakeDisk;
pub use listing::{Listed, Listing};
pub use read::{Arrival, Counts, Query};
pub use reading::{Notes, Reading, Unread};
pub use record::{Entry, Told};
pub use scan::Scan;

use crate::{
    ack::Promise,
    flush::{Flusher, Log},
    media::Media,
    pool::Pool,
    queue::{Append, Chore, GATHERING, Queue, Spooled, What},
    read::Reader,
    record::{Names, Record, Withdrawal},
    spool::Spool,
    writer::Writer,
};

/// A handle to an open journal; clones share the threads that write and flush. Several processes may have the same
/// journal open.
#[derive(Clone)]
pub struct Journal {
    queue: Arc<Queue>,
    spool: Arc<Spool>,
    reader: Reader,
    threads: Arc<Threads>,
}

/// How much a journal may take.
#[derive(Debug, Clone)]
pub struct Config {
    /// Appends beyond this many waiting bytes are refused with [`JournalError::Busy`].
    pub queue_bytes: usize,
    /// How large the database may grow; appends beyond are refused with [`JournalError::Full`].
    pub max_bytes: Option<u64>,
    /// Stamps each record with the time it was received.
    pub clock: Arc<dyn Clock>,
}

impl Default for Config {
    fn default() -> Self {
        let clock = Arc::new(SystemClock);
        Self { queue_bytes: 64 * 1024 * 1024, max_bytes: None, clock }
    }
}

impl Journal {
    /// Opens the journal, creating it if there is none, and finishes what a crash interrupted.
    pub fn open(path: &Path, config: Config) -> Result<Self, JournalError> {
        Self::open_on(path, &config, Log::of)
    }

    /// The same on a disk that a test holds in its hands.
    pub fn open_on_fake(
        path: &Path,
        config: Config,
        disk: &Arc<FakeDisk>,
    ) -> Result<Self, JournalError> {
        let disk = Arc::clone(disk);
        Self::open_on(path, &config, |_| Ok(Log::new(Box::new(move || disk.flush()))))
    }

    fn open_on(
        path: &Path,
        config: &Config,
        log: impl FnOnce(&Path) -> io::Result<Log>,
    ) -> Result<Self, JournalError> {
        let mut writer = Writer::open(path, config)?;
        let log = Arc::new(log(path).map_err(|error| JournalError::Flush(Arc::new(error)))?);
        spool::recover(path, |steps| writer.commit(&steps).and_then(|_| log.flush()));
        let spool = Arc::new(Spool::new(path));
        let queue = Arc::new(Queue::new(config.queue_bytes, GATHERING));
        let (committed, to_flush) = mpsc::channel();
        let flusher = Flusher {
            database: path.to_owned(),
            log: Arc::clone(&log),
            queue: Arc::clone(&queue),
            spool: Arc::clone(&spool),
        };
        let flusher = flusher.start(to_flush)?;
        let from = (Arc::clone(&queue), Arc::clone(&spool));
        let writer = writer.start(from, Arc::clone(&log), committed)?;
        let handles = Mutex::new(vec![writer, flusher]);
        let threads = Threads { queue: Arc::clone(&queue), handles };
        let reader = Reader { pool: Arc::new(Pool::new(path, Arc::clone(&queue))), log };
        Ok(Self { queue, spool, reader, threads: Arc::new(threads) })
    }

    /// Queues a step; the [`Ack`] resolves once it is durable.
    pub fn append_step(&self, step: Step) -> Result<Ack, JournalError> {
        self.append(&Record::Own(Entry::Step(Box::new(step))))
    }

    /// Queues a step that we served, and spools it where that can be done: then it survives the end
    /// of this process when this returns, and its reply need not wait ([`Ack::is_spooled`]).
    pub fn append_served(&self, step: Step) -> Result<Ack, JournalError> {
        // What nobody could flush must not be answered for.
        self.reader.log.check()?;
        let record = Record::Own(Entry::Step(Box::new(step)));
        let body = record.encode()?;
        let spooled = if self.spool.keep(&body) { Spooled::Yes } else { Spooled::No };
        let ack = self.enqueue(What::Record(Names::of(&record)), body, spooled);
        if ack.is_err() && spooled == Spooled::Yes {
            self.spool.release(1);
        }
        ack
    }

    /// Queues an outcome; the [`Ack`] resolves once it is durable.
    pub fn append_outcome(&self, outcome: Outcome) -> Result<Ack, JournalError> {
        self.append(&Record::Own(Entry::Outcome(outcome)))
    }

    /// Queues what telemetry amounts to. An equal account changes nothing, another one of the same id
    /// takes its place; an id of our own doing is refused with [`JournalError::Conflict`].
    pub fn append_told(&self, told: Told) -> Result<Ack, JournalError> {
        self.append(&Record::Told(told))
    }

    /// Queues the end of an account that its telemetry no longer supports; ids that nothing has are
    /// withdrawn already.
    pub fn withdraw(&self, id: &str) -> Result<Ack, JournalError> {
        self.append(&Record::Withdrawal(Withdrawal { id: id.to_owned() }))
    }

    /// The ids of the steps and outcomes that hold at present because of another origin than this.
    pub fn told_otherwise(&self, origin: &str) -> Result<Vec<String>, JournalError> {
        self.reader.told_otherwise(origin)
    }

    /// Queues that an outcome is taken back by whoever told it, for good: should it come again, or
    /// only later, it is recorded and does not count.
    pub fn retract(&self, id: &OutcomeId) -> Result<Ack, JournalError> {
        self.append(&Record::Retraction(Withdrawal { id: id.to_string() }))
    }

    /// What was said in these very words of a target, oldest first.
    pub fn said_of(&self, target: &Target) -> Result<Vec<Outcome>, JournalError> {
        self.reader.said_of(target)
    }

    /// At most `limit` outcomes whose target has not arrived, in the order of their arrival.
    pub fn pending(&self, limit: usize) -> Result<Vec<Outcome>, JournalError> {
        self.reader.pending(limit)
    }

    /// How many outcomes of a tenant wait for their target, or of whoever runs the server, and at
    /// most `limit` of them in the order of their arrival.
    pub fn pending_of(
        &self,
        tenant: Option<&str>,
        limit: usize,
    ) -> Result<(u64, Vec<Outcome>), JournalError> {
        self.reader.pending_of(tenant, limit)
    }

    /// Random bytes that were drawn when the journal was made, and are told to nobody.
    pub fn secret(&self) -> Result<[u8; 32], JournalError> {
        self.reader.secret()
    }

    /// Those of these ids that hold at present because of telemetry, in order.
    pub fn told_among(&self, ids: &BTreeSet<String>) -> Result<Vec<String>, JournalError> {
        self.reader.told_among(ids)
    }

    /// The step that we recorded ourselves for a response.
    pub fn served(&self, response_id: &str) -> Result<Option<Step>, JournalError> {
        self.reader.served(response_id)
    }

    /// Queues the body of one request of telemetry; the [`Ack`] resolves once it is durable, to its
    /// number among the bodies. The same body of the same task is stored once.
    pub fn append_body(&self, raw: &RawBody) -> Result<Ack, JournalError> {
        let (label, body) = raw.pack()?;
        self.enqueue(What::Body(label), body, Spooled::No)
    }

    /// At most `limit` bodies after number `after`, in the order they were committed.
    pub fn bodies(&self, after: u64, limit: usize) -> Result<Vec<StoredBody>, JournalError> {
        body::read(&*self.reader.pool.lease()?, after, limit)
    }

    /// How far the bodies have been read; `None` before the first [`note`](Self::note).
    pub fn reading(&self) -> Result<Option<Reading>, JournalError> {
        reading::at(&*self.reader.pool.lease()?).map_err(JournalError::read)
    }

    /// Whether the content of any body was forgotten.
    pub fn has_forgotten_bodies(&self) -> Result<bool, JournalError> {
        body::is_any_forgotten(&*self.reader.pool.lease()?)
    }

    /// How many bodies are still to be read, and since when the oldest of them waits.
    pub fn unread(&self) -> Result<Unread, JournalError> {
        reading::unread(&*self.reader.pool.lease()?)
    }

    /// Notes what reading the bodies has shown, durably; how far that was, once all the rest is
    /// durable.
    pub fn note(&self, notes: Notes) -> Result<(), JournalError> {
        for part in notes.parts() {
            let (done, noted) = mpsc::channel();
            self.queue.push_chore(Chore::Note(part, done))?;
            noted.recv().unwrap_or(Err(JournalError::Closed))?;
        }
        Ok(())
    }

    /// Keeps the bytes of media, durably, each once for whom it is of: told before the steps that
    /// refer to them by digest, so that no reference leads nowhere.
    pub fn keep_media(
        &self,
        subject: Option<&str>,
        parts: Vec<(Digest, Vec<u8>)>,
    ) -> Result<(), JournalError> {
        let (done, kept) = mpsc::channel();
        let subject = subject.map(str::to_owned);
        self.queue.push_chore(Chore::Keep(Media { subject, parts }, done))?;
        kept.recv().unwrap_or(Err(JournalError::Closed))
    }

    /// The bytes of a medium, unless nobody told them or whom they are of was forgotten.
    pub fn media(&self, digest: &Digest) -> Result<Option<Vec<u8>>, JournalError> {
        media::read(&*self.reader.pool.lease()?, digest)
    }

    /// The bodies that hold parts of a unit, as far as is noted.
    pub fn bodies_of(&self, unit: &str) -> Result<Vec<u64>, JournalError> {
        reading::bodies_of(&*self.reader.pool.lease()?, unit)
    }

    /// The units that have this tie, as far as is noted.
    pub fn units_tied_by(&self, tie: &str) -> Result<Vec<String>, JournalError> {
        reading::units_tied_by(&*self.reader.pool.lease()?, tie)
    }

    /// The units that share a tie with this one, itself included, as far as is noted.
    pub fn tied_to(&self, unit: &str) -> Result<Vec<String>, JournalError> {
        reading::tied_to(&*self.reader.pool.lease()?, unit)
    }

    /// Forgets the content of bodies received before this, and answers of how many. Their rows and
    /// digests stay, so a redelivery is still known, and what was made of them stays as well.
    pub fn expire_bodies(&self, before: Timestamp) -> Result<usize, JournalError> {
        self.expire(before, false)
    }

    /// The same of those that have been read, so that nothing is forgotten that nobody knows.
    pub fn expire_read_bodies(&self, before: Timestamp) -> Result<usize, JournalError> {
        self.expire(before, true)
    }

    /// What there is of a subject.
    pub fn holdings(&self, subject: &str) -> Result<Holdings, JournalError> {
        erase::holdings(&*self.reader.pool.lease()?, subject)
    }

    /// Forgets a subject: its steps, and what was said about them, can be read by nobody from here
    /// on, and are not taken in again. The content of these raw bodies goes with them. Erasing again
    /// finds what has come since, and finishes what a crash interrupted.
    pub fn erase(&self, subject: &str, bodies: &[u64]) -> Result<Erasure, JournalError> {
        let (done, erased) = mpsc::channel();
        // What is not in the journal yet could not be forgotten, and would come later.
        self.spool.recover(|steps| self.enter(steps));
        // Idle readers keep nothing open, but their caches are of no use any more.
        self.reader.pool.clear();
        let (subject, bodies) = (subject.to_owned(), bodies.to_vec());
        self.queue.push_chore(Chore::Erase { subject, bodies, done })?;
        let erased = erased.recv().unwrap_or(Err(JournalError::Closed))?;
        self.spool.clear(writer::FLUSH_TIMEOUT)?;
        Ok(erased)
    }

    /// Every trajectory asked for, at once: for small journals and tests. See [`scan`](Self::scan).
    pub fn trajectories(&self, query: &Query) -> Result<Vec<Trajectory>, JournalError> {
        self.scan(query)?.collect()
    }

    /// Trajectories in the order of their ids, steps in the order of their time, outcomes linked.
    pub fn scan(&self, query: &Query) -> Result<Scan, JournalError> {
        let scan = Scan::new(self.reader.pool.lease()?, query)?;
        self.reader.log.settle(scan.until_seq())?;
        Ok(scan)
    }

    /// One trajectory as it is now, outcomes linked.
    pub fn trajectory(&self, id: &TrajectoryId) -> Result<Option<Trajectory>, JournalError> {
        self.scan(&Query::default())?.read_trajectory(id.as_str())
    }

    /// Which trajectories there are, a page at a time.
    pub fn list(&self, listing: &Listing) -> Result<Vec<Listed>, JournalError> {
        listing::list(&*self.reader.pool.lease()?, listing)
    }

    /// The step an outcome is about and everything said about it; `None` while it is pending.
    pub fn judged(&self, outcome: &Outcome) -> Result<Option<JudgedStep>, JournalError> {
        self.reader.judged(outcome)
    }

    /// A step with everything said about it so far.
    pub fn judged_step(&self, step: &Step) -> Result<JudgedStep, JournalError> {
        self.reader.judged_step(step)
    }

    /// The step whose reply had this id, with everything said about it so far.
    pub fn step_by_response(&self, response_id: &str) -> Result<Option<JudgedStep>, JournalError> {
        self.reader.step_by_response(response_id)
    }

    /// The newest steps that this server itself served for a task since an instant, at most `limit`
    /// of them, the newest first.
    pub fn newest_served(
        &self,
        task: &TaskName,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<Step>, JournalError> {
        self.reader.newest_served(task, since, limit)
    }

    /// At most `limit` records after number `after`, in the order they were committed.
    pub fn follow(&self, after: u64, limit: usize) -> Result<Vec<Arrival>, JournalError> {
        self.reader.follow(after, limit)
    }

    /// The step that arrived, or that the outcome which arrived is about, with everything said about
    /// it up to that record; `None` for an outcome whose step was still to come, which is then found
    /// at the arrival of that step. Following again later tells the same story.
    pub fn judged_at(&self, arrival: &Arrival) -> Result<Option<JudgedStep>, JournalError> {
        self.reader.judged_at(arrival)
    }

    pub fn counts(&self) -> Result<Counts, JournalError> {
        self.reader.counts()
    }

    /// When a record was received; `None` where there is none of this number.
    pub fn received_at(&self, seq: u64) -> Result<Option<Timestamp>, JournalError> {
        self.reader.received_at(seq)
    }

    /// The number of the last committed record, 0 when there is none.
    pub fn watermark(&self) -> Result<u64, JournalError> {
        self.reader.watermark()
    }

    /// Makes everything that is derived from the records anew, in one transaction: appends wait
    /// meanwhile, readers do not. For a journal whose index is in doubt, or whose records a newer
    /// version can read at last.
    pub fn rebuild(&self) -> Result<(), JournalError> {
        let (done, rebuilt) = mpsc::channel();
        self.queue.push_chore(Chore::Rebuild(done))?;
        rebuilt.recv().unwrap_or(Err(JournalError::Closed))
    }

    /// Writes what is queued and takes nothing more, on this handle and its clones. Dropping the
    /// last handle does the same.
    pub fn close(self) {
        self.threads.finish();
    }

    fn expire(&self, before: Timestamp, only_read: bool) -> Result<usize, JournalError> {
        let (done, expired) = mpsc::channel();
        self.queue.push_chore(Chore::Expire { before, only_read, done })?;
        expired.recv().unwrap_or(Err(JournalError::Closed))
    }

    fn append(&self, record: &Record) -> Result<Ack, JournalError> {
        let body = record.encode()?;
        self.enqueue(What::Record(Names::of(record)), body, Spooled::No)
    }

    /// Waits until what another process has spooled is durable, as far as it can be.
    fn enter(&self, steps: Vec<Append>) -> Result<(), JournalError> {
        let enqueue = |step: Append| self.enqueue(step.what, step.body, Spooled::No);
        let acks = steps.into_iter().map(enqueue).collect::<Result<Vec<_>, _>>()?;
        acks.into_iter().try_for_each(|ack| match ack.wait() {
            // Its process hears of that, where it lives.
            Ok(_) | Err(JournalError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        })
    }

    fn enqueue(&self, what: What, body: Vec<u8>, spooled: Spooled) -> Result<Ack, JournalError> {
        let (promise, ack) = Promise::new();
        self.queue.push(Append { what, body, promise, spooled })?;
        Ok(ack.spooled(spooled == Spooled::Yes))
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Journal")
    }
}

/// Ends the threads when the last handle goes.
struct Threads {
    queue: Arc<Queue>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

impl Threads {
    fn finish(&self) {
        self.queue.close();
        let handles = mem::take(&mut *self.handles.lock().unwrap_or_else(PoisonError::into_inner));
        // The last handle may be dropped by a listener, on one of the threads to wait for.
        if handles.iter().any(|handle| handle.thread().id() == thread::current().id()) {
            return;
        }
        for handle in handles {
            // One that panicked has already failed every promise it held.
            handle.join().ok();
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests;
