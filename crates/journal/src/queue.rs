//! What waits for the writer: bounded in bytes, because a record may be ten or ten million of them.
//!
//! Our own records go before what telemetry amounts to, and that before bodies; bodies may take only a
//! part of the room: what others report must not make a reply of ours wait, or fail. Of what telemetry
//! amounts to one commit takes little: whoever assembles it hands over hundreds of accounts at once,
//! and an acknowledgement waits for the commit it is in.
//!
//! Nobody waits for steps that are spooled: they gather for a while, until somebody reads or something
//! comes that is waited for, because a commit for each would take its processor time from the next
//! reply.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    time::Duration,
};

use understudy_ident::Timestamp;

use crate::{Erasure, JournalError, Notes, ack::Promise, body::Label, media::Media, record::Names};

/// More in one commit would make the first of a batch wait long for the last.
const BATCH_RECORDS: usize = 1024;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Accounts of telemetry in one commit. Entering one takes about a tenth of a millisecond, with its
/// indexes and links, so these are some thirteen beside a flush of four: whoever waits for a body sees
/// at most two such commits, half of the 50 ms that an acknowledgement may take.
pub(crate) const BATCH_TOLD: usize = 128;
/// How long spooled steps gather. Longer, and a power failure takes more of them.
pub(crate) const GATHERING: Duration = Duration::from_millis(20);
/// How much of the room is never given to bodies: one part in this many.
const RECORDS_SHARE: usize = 4;
/// What an append takes in memory beside its body and names.
const OVERHEAD_BYTES: usize = 256;
/// The advice of a full queue that has not yet seen a commit, and its bounds afterwards.
const FIRST_RETRY_MS: u64 = 100;
const RETRY_MS: (u64, u64) = (5, 10_000);

/// A record with everything costly already done on the caller's thread.
pub(crate) struct Append {
    pub(crate) what: What,
    pub(crate) body: Vec<u8>,
    pub(crate) promise: Promise,
    pub(crate) spooled: Spooled,
}

/// Whether the spool has it until it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spooled {
    No,
    Yes,
    /// It has, and the writer has tried in vain.
    Tried,
}

/// Which table an append goes to, and what it is found by there.
pub(crate) enum What {
    Record(Names),
    Body(Label),
}

impl What {
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Record(names) => names.id(),
            Self::Body(label) => &label.digest,
        }
    }
}

impl What {
    /// Whether nobody waits for it but whoever reads telemetry.
    fn is_told(&self) -> bool {
        match self {
            Self::Record(Names::Step { origin, .. } | Names::Outcome { origin, .. }) => {
                origin.is_some()
            }
            Self::Record(Names::Withdrawal { .. }) => true,
            Self::Record(Names::Retraction { .. }) | Self::Body(_) => false,
        }
    }
}

impl Append {
    pub(crate) fn is_body(&self) -> bool {
        matches!(self.what, What::Body(_))
    }

    fn bytes(&self) -> usize {
        self.body.len() + OVERHEAD_BYTES
    }
}

/// What the writer does next.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) appends: Vec<Append>,
    pub(crate) chores: Vec<Chore>,
    bytes: usize,
    body_bytes: usize,
}

/// Something else for the thread that writes.
pub(crate) enum Chore {
    Rebuild(mpsc::Sender<Result<(), JournalError>>),
    Note(Notes, mpsc::Sender<Result<(), JournalError>>),
    Keep(Media, mpsc::Sender<Result<(), JournalError>>),
    /// Forget the content of bodies received before this; answers how many.
    Expire {
        before: Timestamp,
        only_read: bool,
        done: mpsc::Sender<Result<usize, JournalError>>,
    },
    /// Forget a subject, and the content of the bodies that hold parts of it.
    Erase {
        subject: String,
        bodies: Vec<u64>,
        done: mpsc::Sender<Result<Erasure, JournalError>>,
    },
}

pub(crate) struct Queue {
    limit: usize,
    /// How long spooled steps gather that nobody waits for.
    gathering: Duration,
    state: Mutex<State>,
    arrived: Condvar,
    /// Spooled steps have been written, or could not be.
    passed: Condvar,
}

#[derive(Default)]
struct State {
    records: VecDeque<Append>,
    told: VecDeque<Append>,
    bodies: VecDeque<Append>,
    chores: Vec<Chore>,
    /// Queued or being written: both are in memory.
    bytes: usize,
    /// Those of bodies among them.
    body_bytes: usize,
    closed: bool,
    /// Nothing more will be written.
    ended: bool,
    /// Spooled steps that were queued, and those of them that the writer has had, in this order.
    spooled: u64,
    passed: u64,
    /// How many of them somebody waits for.
    awaited: u64,
    last_commit: Option<(usize, Duration)>,
}

impl Queue {
    pub(crate) fn new(limit: usize, gathering: Duration) -> Self {
        let (arrived, passed) = (Condvar::new(), Condvar::new());
        Self { limit, gathering, state: Mutex::default(), arrived, passed }
    }

    pub(crate) fn push(&self, append: Append) -> Result<(), JournalError> {
        let (bytes, is_body) = (append.bytes(), append.is_body());
        let limit = if is_body { self.body_limit() } else { self.limit };
        if bytes > limit {
            let id = append.what.id().to_owned();
            return Err(JournalError::TooLarge { id, bytes, limit });
        }
        let mut state = self.lock();
        if state.closed {
            return Err(JournalError::Closed);
        }
        let is_over = is_body && state.body_bytes + bytes > limit;
        if is_over || state.bytes + bytes > self.limit {
            let (waiting_bytes, retry_after_ms) = (state.bytes, state.retry_after_ms());
            return Err(JournalError::Busy { waiting_bytes, retry_after_ms });
        }
        state.bytes += bytes;
        let is_spooled = append.spooled == Spooled::Yes;
        state.spooled += u64::from(is_spooled);
        // Where steps gather already, another one is no news.
        let is_news = !is_spooled || state.is_idle() || state.records.len() + 1 == BATCH_RECORDS;
        if is_body {
            state.body_bytes += bytes;
            state.bodies.push_back(append);
        } else if append.what.is_told() {
            state.told.push_back(append);
        } else {
            state.records.push_back(append);
        }
        if is_news {
            self.arrived.notify_one();
        }
        Ok(())
    }

    pub(crate) fn push_chore(&self, chore: Chore) -> Result<(), JournalError> {
        let mut state = self.lock();
        if state.closed {
            return Err(JournalError::Closed);
        }
        state.chores.push(chore);
        self.arrived.notify_one();
        Ok(())
    }

    /// The writer has had so many more spooled steps, whatever came of it.
    pub(crate) fn had(&self, spooled: usize) {
        if spooled > 0 {
            self.lock().passed += spooled as u64;
            self.passed.notify_all();
        }
    }

    /// Waits until the writer has had every step that was spooled before: whoever was told of one
    /// finds it.
    pub(crate) fn catch_up(&self) {
        let mut state = self.lock();
        let until = state.spooled;
        state.awaited = until;
        if state.passed < until {
            self.arrived.notify_one();
        }
        let waiting = self.passed.wait_while(state, |state| state.passed < until && !state.ended);
        drop(waiting.unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes back spooled steps that could not be written, to be written next, whatever their
    /// number: they have been answered for. Once nothing more is taken they stay in the spool.
    pub(crate) fn put_back(&self, steps: Vec<Append>) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        for step in steps.into_iter().rev() {
            state.bytes += step.bytes();
            state.records.push_front(Append { spooled: Spooled::Tried, ..step });
        }
    }

    /// What waiting bodies may take together.
    fn body_limit(&self) -> usize {
        self.limit - self.limit / RECORDS_SHARE
    }

    /// Waits for work. What was queued before closing is still handed out; `None` after that.
    pub(crate) fn take(&self) -> Option<Work> {
        let state = self
            .arrived
            .wait_while(self.lock(), |state| state.is_idle() && !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        let (mut state, _) = self
            .arrived
            .wait_timeout_while(state, self.gathering, |state| state.may_gather())
            .unwrap_or_else(PoisonError::into_inner);
        let mut work = Work { chores: std::mem::take(&mut state.chores), ..Work::default() };
        work.fill_from(&mut state.records, BATCH_RECORDS);
        // However many records there are, the others get on.
        if let Some(told) = state.told.pop_front() {
            work.add(told);
        }
        work.fill_from(&mut state.told, BATCH_TOLD - 1);
        if let Some(body) = state.bodies.pop_front() {
            work.add(body);
        }
        work.fill_from(&mut state.bodies, BATCH_RECORDS);
        (!work.appends.is_empty() || !work.chores.is_empty()).then_some(work)
    }

    /// Makes room for as much as `work` took, which needed `elapsed` to write.
    pub(crate) fn finished(&self, work: &Work, elapsed: Duration) {
        let mut state = self.lock();
        state.bytes -= work.bytes;
        state.body_bytes -= work.body_bytes;
        if work.bytes > 0 {
            state.last_commit = Some((work.bytes, elapsed));
        }
    }

    /// Takes nothing more.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Drops what nobody will write any more, which tells those who wait.
    pub(crate) fn abandon(&self) {
        self.close();
        let mut state = self.lock();
        state.ended = true;
        self.passed.notify_all();
        let left = (
            std::mem::take(&mut state.records),
            std::mem::take(&mut state.told),
            std::mem::take(&mut state.bodies),
        );
        drop(state);
        // Their listeners run now, and may ask the queue for something.
        drop(left);
        self.lock().chores.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code in this file can panic between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    /// Bodies come last.
    pub(crate) fn records_and_bodies(&self) -> (&[Append], &[Append]) {
        self.appends.split_at(self.appends.partition_point(|append| !append.is_body()))
    }

    fn fill_from(&mut self, waiting: &mut VecDeque<Append>, most: usize) {
        for _ in 0..most {
            if self.appends.len() >= BATCH_RECORDS || self.bytes >= BATCH_BYTES {
                break;
            }
            let Some(append) = waiting.pop_front() else { break };
            self.add(append);
        }
    }

    fn add(&mut self, append: Append) {
        self.bytes += append.bytes();
        if append.is_body() {
            self.body_bytes += append.bytes();
        }
        self.appends.push(append);
    }
}

impl State {
    fn is_idle(&self) -> bool {
        let is_nothing_queued =
            self.records.is_empty() && self.told.is_empty() && self.bodies.is_empty();
        is_nothing_queued && self.chores.is_empty()
    }

    /// Whether there are only steps that nobody waits for, and room for more in their commit.
    fn may_gather(&self) -> bool {
        let is_awaited = self.closed || self.passed < self.awaited;
        let are_others =
            !(self.told.is_empty() && self.bodies.is_empty() && self.chores.is_empty());
        let is_spooled = |append: &Append| append.spooled == Spooled::Yes;
        let has_room = self.records.len() < BATCH_RECORDS;
        !is_awaited && !are_others && has_room && self.records.iter().all(is_spooled)
    }

    /// How long the waiting bytes will take if commits go on like the last one.
    fn retry_after_ms(&self) -> u64 {
        let Some((bytes, elapsed)) = self.last_commit else { return FIRST_RETRY_MS };
        let ms = elapsed.as_secs_f64() * 1e3 * self.bytes as f64 / bytes as f64;
        (ms.ceil() as u64).clamp(RETRY_MS.0, RETRY_MS.1)
    }
}
