//! From written to durable: a thread that flushes the log while the writer goes on.
//!
//! What the writer has committed survives the end of this process, however it comes, because it is
//! in the system's memory; it survives a power failure once it has been flushed. One flush serves
//! everything that was committed before it began.

use std::{
    fmt,
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use understudy_storage::sqlite::{self, Connection};

use crate::{
    Appended, JournalError,
    ack::Promise,
    queue::{Queue, Work},
    schema::MIGRATIONS,
    spool::Spool,
};

/// How often the log is copied into the database at most, beside the writer, who otherwise does it
/// when the log has become long, while everybody waits.
const BETWEEN_CHECKPOINTS: Duration = Duration::from_secs(1);

type Flush = Box<dyn Fn() -> io::Result<()> + Send + Sync>;

/// The write-ahead log's file, and how much of the journal is known to be beyond a power failure.
pub(crate) struct Log {
    flush: Flush,
    durable: AtomicU64,
    broken: OnceLock<JournalError>,
}

impl Log {
    /// Of an open database.
    pub(crate) fn of(database: &Path) -> io::Result<Self> {
        let mut path = database.as_os_str().to_owned();
        path.push("-wal");
        let file = OpenOptions::new().read(true).write(true).open(PathBuf::from(path))?;
        Ok(Self::new(Box::new(move || file.sync_data())))
    }

    pub(crate) fn new(flush: Flush) -> Self {
        Self { flush, durable: AtomicU64::new(0), broken: OnceLock::new() }
    }

    /// Why nothing more can be promised. A system that failed to flush forgets what it could not
    /// write, so that trying again would succeed and mean nothing.
    pub(crate) fn check(&self) -> Result<(), JournalError> {
        self.broken.get().map_or(Ok(()), |why| Err(why.clone()))
    }

    /// Makes durable what was committed before.
    pub(crate) fn flush(&self) -> Result<(), JournalError> {
        self.check()?;
        (self.flush)().map_err(|error| {
            let why = JournalError::Flush(Arc::new(error));
            self.broken.get_or_init(|| why).clone()
        })
    }

    /// Makes records that have been read durable up to this one: whoever remembers how far they
    /// came must not have come further than the journal after a power failure.
    pub(crate) fn settle(&self, seq: u64) -> Result<(), JournalError> {
        if self.durable.load(Acquire) < seq {
            self.flush()?;
            self.reached(seq);
        }
        Ok(())
    }

    fn reached(&self, seq: u64) {
        self.durable.fetch_max(seq, AcqRel);
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("durable", &self.durable).finish_non_exhaustive()
    }
}

/// Told whether a chore's commit is durable, for whoever asked for it.
pub(crate) type Told = Box<dyn FnOnce(Result<(), JournalError>) + Send>;

/// What one commit was for.
pub(crate) struct Committed {
    /// Its appends have been taken out; what they took in memory counts until they are durable.
    pub(crate) work: Work,
    pub(crate) begun: Instant,
    pub(crate) kept: Vec<(Promise, Appended)>,
    /// The number of the last record among them.
    pub(crate) last: u64,
    /// How many of them the spool still has.
    pub(crate) spooled: usize,
    pub(crate) chores: Vec<Told>,
}

impl Committed {
    fn settle(self, queue: &Queue, flushed: &Result<(), JournalError>) {
        queue.finished(&self.work, self.begun.elapsed());
        for (promise, appended) in self.kept {
            promise.keep(flushed.clone().map(|()| appended));
        }
        for told in self.chores {
            told(flushed.clone());
        }
    }
}

/// The thread that flushes, until nobody can commit any more.
pub(crate) struct Flusher {
    pub(crate) database: PathBuf,
    pub(crate) log: Arc<Log>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) spool: Arc<Spool>,
}

impl Flusher {
    pub(crate) fn start(
        self,
        committed: mpsc::Receiver<Committed>,
    ) -> Result<JoinHandle<()>, JournalError> {
        let connection = sqlite::open(&self.database, MIGRATIONS).map_err(JournalError::open)?;
        std::thread::Builder::new()
            .name("journal-flusher".to_owned())
            .spawn(move || self.run(&connection, &committed))
            .map_err(|error| JournalError::Start(Arc::new(error)))
    }

    fn run(&self, connection: &Connection, committed: &mpsc::Receiver<Committed>) {
        let mut checkpoint = Instant::now();
        while let Ok(first) = committed.recv() {
            let together: Vec<Committed> =
                [first].into_iter().chain(committed.try_iter()).collect();
            let last = together.iter().map(|one| one.last).max().unwrap_or_default();
            let flushed = self.log.flush().map(|()| self.log.reached(last));
            if flushed.is_ok() {
                self.spool.release(together.iter().map(|one| one.spooled).sum());
            }
            for one in together {
                one.settle(&self.queue, &flushed);
            }
            if checkpoint.elapsed() >= BETWEEN_CHECKPOINTS {
                // One that fails leaves the log as it was, and the writer will hear of it.
                connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).ok();
                checkpoint = Instant::now();
            }
        }
    }
}
