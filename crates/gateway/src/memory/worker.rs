//! The thread behind the memory: writes notes, reads outcomes, takes notice of changes.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use understudy_journal::{Entry, Journal};
use understudy_memory::{MemoryError, MemoryId};
use understudy_trajectory::{RewardPolicy, Step};

use super::{Note, Shared};

/// How soon an outcome counts, and a release or rollback is served.
const PERIOD: Duration = Duration::from_millis(200);
/// How often lessons are looked through for what time alone has done to them.
const SWEEP: Duration = Duration::from_hours(24);
/// Records of the journal at once.
const PAGE: usize = 256;
/// From this reward on, a request has succeeded.
const SUCCESS: f64 = 0.5;

/// Ends when nobody can send notes any more.
pub(super) fn start(
    shared: Arc<Shared>,
    notes: mpsc::Receiver<Note>,
    journal: Journal,
) -> Result<(), MemoryError> {
    let failed = |source| MemoryError::Io {
        attempt: "start the thread that follows",
        path: shared.store.path().to_owned(),
        source,
    };
    if shared.store.followed()?.is_none() {
        // Nothing was shown before the first start, so nothing before it counts; noted before the
        // first chat, whose outcome may come at once.
        shared.store.follow_to(journal.watermark().map_err(|why| unreadable(&shared, &why))?)?;
    }
    let work = Arc::clone(&shared);
    let spawned = thread::Builder::new().name("memory".to_owned()).spawn(move || {
        let mut looked = Instant::now();
        let mut swept: Option<Instant> = None;
        loop {
            match notes.recv_timeout(PERIOD) {
                Ok(note) => {
                    let more = std::iter::from_fn(|| notes.try_recv().ok());
                    std::iter::once(note).chain(more).for_each(|note| write(&work, &note));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            if looked.elapsed() >= PERIOD {
                // A reply is noted before it is sent, so its note precedes any outcome of it.
                let done =
                    [follow(&work, &journal), work.refresh(), work.warm_trial(), work.warm_own()];
                for why in done.into_iter().filter_map(Result::err) {
                    tracing::warn!("memory stands still: {why}");
                }
                looked = Instant::now();
            }
            if swept.is_none_or(|at| at.elapsed() >= SWEEP) {
                sweep(&work);
                swept = Some(Instant::now());
            }
        }
    });
    spawned.map(|_| ()).map_err(failed)
}

fn write(shared: &Shared, note: &Note) {
    let written = shared.store.considered(&note.response, &note.shown, &note.withheld, note.at);
    if let Err(why) = written {
        tracing::warn!("a reply that was shown lessons will not be counted: {why}");
    }
}

/// Takes out what expired, what nobody needed for long, and what its tools have left behind.
fn sweep(shared: &Shared) {
    match shared.store.sweep(&shared.catalogue, shared.clock.now()) {
        Ok(done) => {
            for taken_out in done {
                tracing::warn!(lesson = %taken_out.item, status = %taken_out.status, "{}", taken_out.reason);
            }
        }
        Err(why) => tracing::warn!("old lessons were not looked through: {why}"),
    }
}

/// Counts outcomes that have arrived since the last time.
fn follow(shared: &Shared, journal: &Journal) -> Result<(), MemoryError> {
    let mut after = shared.store.followed()?.unwrap_or(0);
    let unreadable = |why| unreadable(shared, &why);
    loop {
        let arrivals = journal.follow(after, PAGE).map_err(unreadable)?;
        let Some(last) = arrivals.last() else { return Ok(()) };
        after = last.seq;
        for arrival in &arrivals {
            if let Entry::Step(step) = &arrival.entry {
                cite(shared, step)?;
            }
            let Some(judged) = journal.judged_at(arrival).map_err(unreadable)? else { continue };
            let reward =
                RewardPolicy::DefaultV1.reward(&judged.step.reply.text(), &judged.outcomes);
            let Some(reward) = reward else { continue };
            // Choices of one reply were shown the same lessons.
            let response = judged.step.response_id.split('.').next().unwrap_or_default();
            let now = shared.clock.now();
            for taken_out in shared.store.outcome(response, reward.value >= SUCCESS, now)? {
                tracing::warn!(lesson = %taken_out.item, status = %taken_out.status, "{}", taken_out.reason);
            }
        }
        shared.store.follow_to(after)?;
    }
}

/// Notes which of the lessons it was shown a reply names, as `(m1)`. It is for people to look at,
/// and decides nothing: a model's word for what helped it is no evidence.
fn cite(shared: &Shared, step: &Step) -> Result<(), MemoryError> {
    let met = step.assignment.as_ref().and_then(|assignment| assignment.course.memory.as_ref());
    let shown = met.map(|met| met.shown.as_slice()).unwrap_or_default();
    let text = step.reply.text();
    let cites = |at: usize| text.contains(&format!("(m{})", at + 1));
    let cited = shown.iter().enumerate().filter(|(at, _)| cites(*at));
    let ids = cited.filter_map(|(_, shown)| shown.split('@').next()?.parse().ok());
    // A user's own leave no trace here.
    let ids: Vec<MemoryId> = ids.filter(|id| shared.serving().standings.knows(id)).collect();
    if ids.is_empty() {
        return Ok(());
    }
    shared.store.cited(&step.response_id, &ids, shared.clock.now())
}

fn unreadable(shared: &Shared, why: &understudy_journal::JournalError) -> MemoryError {
    MemoryError::Corrupt {
        what: "journal",
        path: shared.store.path().to_owned(),
        why: why.to_string(),
    }
}
