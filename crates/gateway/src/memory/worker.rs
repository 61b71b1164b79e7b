//! The thread behind the memory: writes notes, reads outcomes, takes notice of changes.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use understudy_journal::Journal;
use understudy_memory::MemoryError;
use understudy_trajectory::RewardPolicy;

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

fn unreadable(shared: &Shared, why: &understudy_journal::JournalError) -> MemoryError {
    MemoryError::Corrupt {
        what: "journal",
        path: shared.store.path().to_owned(),
        why: why.to_string(),
    }
}
