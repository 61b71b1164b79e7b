//! Work beside others: a little at a time, with pauses between.
//!
//! A low priority does not do this. The less a thread is worth to the scheduler, the longer it waits
//! for its slice, but the slice it then gets is as long as anybody's, and all who share a loop wait
//! for the one who lost the processor to it.

use std::{
    cell::Cell,
    thread,
    time::{Duration, Instant},
};

/// How long work goes on before it pauses, while others are busy.
const WORK: Duration = Duration::from_micros(300);

/// How long it pauses: with `WORK`, it takes a fifth of one processor.
const REST: Duration = Duration::from_micros(1_200);

type IsBusy = Box<dyn Fn() -> bool>;

thread_local! {
    static SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
    static IS_BUSY: Cell<Option<IsBusy>> = const { Cell::new(None) };
}

/// Does `work` on this thread, pausing wherever it, or a loop in it, says [`breathe`], as long as
/// others are busy.
pub fn beside<R>(is_busy: impl Fn() -> bool + 'static, work: impl FnOnce() -> R) -> R {
    /// Ends with the work, also when that panics.
    struct Ended;
    impl Drop for Ended {
        fn drop(&mut self) {
            SINCE.set(None);
            IS_BUSY.set(None);
        }
    }
    let _ended = Ended;
    IS_BUSY.set(Some(Box::new(is_busy)));
    SINCE.set(Some(Instant::now()));
    work()
}

/// A place at which work may pause. Nothing happens but within [`beside`].
pub fn breathe() {
    if SINCE.get().is_some_and(|since| since.elapsed() >= WORK) {
        let is_busy = IS_BUSY.take();
        if is_busy.as_ref().is_some_and(|is_busy| is_busy()) {
            thread::sleep(REST);
        }
        IS_BUSY.set(is_busy);
        SINCE.set(Some(Instant::now()));
    }
}
