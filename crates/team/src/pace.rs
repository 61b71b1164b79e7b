//! Work that goes on for as long as it may, and then asks again.
//!
//! A low priority does not do this. The less a thread is worth to the scheduler, the longer it waits
//! for its slice, but the slice it then gets is as long as anybody's, and all who share a loop wait
//! for the one who lost the processor to it.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// Waits until work may go on, and returns for how long.
type Ask = Box<dyn Fn() -> Duration>;

thread_local! {
    static UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
    static ASK: Cell<Option<Ask>> = const { Cell::new(None) };
}

/// Does `work` on this thread; wherever it, or a loop in it, says [`breathe`], and its time is over,
/// it asks for more.
pub fn beside<R>(ask: impl Fn() -> Duration + 'static, work: impl FnOnce() -> R) -> R {
    /// Ends with the work, also when that panics.
    struct Ended;
    impl Drop for Ended {
        fn drop(&mut self) {
            UNTIL.set(None);
            ASK.set(None);
        }
    }
    let _ended = Ended;
    ASK.set(Some(Box::new(ask)));
    UNTIL.set(Some(Instant::now()));
    work()
}

/// A place at which work may pause. Nothing happens but within [`beside`].
pub fn breathe() {
    if UNTIL.get().is_some_and(|until| until <= Instant::now()) {
        let ask = ASK.take();
        let time = ask.as_ref().map(|ask| ask());
        ASK.set(ask);
        UNTIL.set(time.map(|time| Instant::now() + time));
    }
}
