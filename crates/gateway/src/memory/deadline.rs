//! Searches that somebody waits for until a deadline, and not a moment longer.
//!
//! They are made by threads of their own: a search cannot be cut short from outside, but whoever waits
//! for it can go on without. What has not begun by its deadline is never begun, so that a model that
//! hangs holds up its threads and no queue behind them.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

/// Searches that may wait for a thread; with more, a chat goes without at once.
const WAITING: usize = 256;

type Search = Box<dyn FnOnce() + Send>;

/// The threads. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Searchers {
    searches: mpsc::SyncSender<Search>,
}

impl Searchers {
    pub(super) fn start() -> io::Result<Self> {
        let (searches, waiting) = mpsc::sync_channel::<Search>(WAITING);
        let waiting = Arc::new(Mutex::new(waiting));
        let threads = thread::available_parallelism().map_or(2, usize::from);
        for nth in 0..threads {
            let waiting = Arc::clone(&waiting);
            let next = move || waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let work = move || {
                while let Ok(search) = next() {
                    // One search that breaks is one chat without lessons, and no thread less.
                    catch_unwind(AssertUnwindSafe(search)).ok();
                }
            };
            thread::Builder::new().name(format!("memory-{nth}")).spawn(work)?;
        }
        Ok(Self { searches })
    }

    /// What a search finds, if it does within so long.
    pub(super) fn within<T: Send + 'static>(
        &self,
        limit: Duration,
        search: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let until = Instant::now() + limit;
        let (found, receiver) = mpsc::sync_channel(1);
        let search = move || {
            if Instant::now() < until {
                // Nobody may be waiting any more.
                found.send(search()).ok();
            }
        };
        self.searches.try_send(Box::new(search)).ok()?;
        receiver.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn whoever_waits_goes_on_at_the_deadline_and_nothing_piles_up() {
        let searchers = Searchers::start().unwrap();
        let limit = Duration::from_millis(50);
        assert_eq!(searchers.within(Duration::from_mins(1), || 7), Some(7));
        let threads = thread::available_parallelism().map_or(2, usize::from);
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let began = Instant::now();
        for _ in 0..threads {
            let held = Arc::clone(&held);
            // Until the other end is dropped.
            let hang = move || held.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
            assert_eq!(searchers.within(limit, hang), None);
        }
        // All threads hang; whatever is asked now is late, and is never begun.
        let begun = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 {
            let begun = Arc::clone(&begun);
            let search = move || begun.fetch_add(1, Ordering::SeqCst);
            assert_eq!(searchers.within(limit, search), None);
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        drop(release);
        assert_eq!(searchers.within(Duration::from_mins(1), || 8), Some(8));
        assert_eq!(begun.load(Ordering::SeqCst), 0);
        // One that breaks is not found, and the thread goes on.
        for _ in 0..=threads {
            let broken = searchers.within(Duration::from_mins(1), move || assert!(limit.is_zero()));
            assert_eq!(broken, None);
        }
        assert_eq!(searchers.within(Duration::from_mins(1), || 9), Some(9));
    }
}
