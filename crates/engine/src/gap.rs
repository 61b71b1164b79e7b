//! Between two steps: time for whoever reads an adapter.
//!
//! Both need a processor, and a step needs all of them: while one of its threads is put aside, the
//! others wait at the end of their loop. So a load never runs beside a step. It asks for time, gets a
//! share of what the last step took before the next one begins, and asks again.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// What a load gets of the time that steps take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// Nobody waits for the adapter: those who decode should not feel it.
    Unnoticed,
    /// A request does: its first token is worth more than everybody's next one being on time.
    WaitedFor,
}

impl Share {
    fn of(self, step: Duration) -> Duration {
        let parts = match self {
            Self::Unnoticed => 12,
            Self::WaitedFor => 4,
        };
        (step / parts).clamp(LEAST, MOST)
    }
}

/// What a load gets after the shortest of steps: less would be spent on changing places.
const LEAST: Duration = Duration::from_micros(200);

/// And after the longest.
const MOST: Duration = Duration::from_millis(20);

/// How long a load goes on without asking while there are no steps, and how long it waits before it
/// looks whether there still are.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
pub(crate) struct Gap {
    turn: Mutex<Turn>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Turn {
    /// Nobody wants any time.
    #[default]
    Nobodys,
    Asked(Share),
    Given(Duration),
    /// There will be no more steps.
    Over,
}

impl Gap {
    /// Waits for time and returns how much it is; without waiting while no steps are made.
    pub(crate) fn ask(&self, share: Share, is_stepping: impl Fn() -> bool) -> Duration {
        let mut turn = self.lock();
        if *turn != Turn::Over {
            self.change(&mut turn, Turn::Asked(share));
        }
        loop {
            match *turn {
                Turn::Given(time) => return time,
                Turn::Over => return LOOK,
                Turn::Asked(_) if is_stepping() => turn = self.wait(turn, LOOK),
                Turn::Asked(_) | Turn::Nobodys => {
                    *turn = Turn::Nobodys;
                    return LOOK;
                }
            }
        }
    }

    /// Whoever asked wants no more for now.
    pub(crate) fn leave(&self) {
        let mut turn = self.lock();
        if *turn != Turn::Over {
            self.change(&mut turn, Turn::Nobodys);
        }
    }

    /// Lets whoever asked have a share of what the last step took, and waits until it is used up, or
    /// as long again.
    pub(crate) fn give(&self, step: Duration) {
        let mut turn = self.lock();
        let Turn::Asked(share) = *turn else { return };
        let (begun, time) = (Instant::now(), share.of(step));
        self.change(&mut turn, Turn::Given(time));
        while matches!(*turn, Turn::Given(_)) {
            let left = (2 * time).saturating_sub(begun.elapsed());
            if left.is_zero() {
                return;
            }
            turn = self.wait(turn, left);
        }
    }

    /// Nobody who asks waits any more.
    pub(crate) fn end(&self) {
        self.change(&mut self.lock(), Turn::Over);
    }

    fn change(&self, turn: &mut Turn, to: Turn) {
        *turn = to;
        self.changed.notify_all();
    }

    fn wait<'a>(&self, turn: MutexGuard<'a, Turn>, most: Duration) -> MutexGuard<'a, Turn> {
        self.changed.wait_timeout(turn, most).unwrap_or_else(PoisonError::into_inner).0
    }

    /// A turn is replaced whole.
    fn lock(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering::SeqCst},
        thread,
    };

    use super::{Share::*, *};

    /// Of which a load gets as much as it ever does, so that a busy machine does not end its time.
    const STEP: Duration = Duration::from_millis(80);

    fn until(what: impl Fn() -> bool) {
        while !what() {
            thread::yield_now();
        }
    }

    #[test]
    fn a_step_begins_when_what_was_given_is_used_up() {
        let (gap, working) = (Gap::default(), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(gap.ask(WaitedFor, || true), STEP / 4);
                    working.store(true, SeqCst);
                    thread::sleep(Duration::from_micros(100));
                    working.store(false, SeqCst);
                }
                gap.leave();
            });
            for _ in 0..20 {
                until(|| matches!(*gap.lock(), Turn::Asked(_)));
                gap.give(STEP);
                assert!(!working.load(SeqCst));
            }
            until(|| *gap.lock() == Turn::Nobodys);
        });
        let begun = Instant::now();
        gap.give(Duration::from_mins(1));
        assert!(begun.elapsed() < MOST, "nobody asked");
    }

    #[test]
    fn who_does_not_come_back_keeps_steps_waiting_for_as_long_again_and_no_longer() {
        let gap = Gap::default();
        thread::scope(|scope| {
            scope.spawn(|| gap.ask(Unnoticed, || true));
            until(|| matches!(*gap.lock(), Turn::Asked(_)));
            let begun = Instant::now();
            gap.give(STEP);
            assert!(begun.elapsed() >= 2 * (STEP / 12));
        });
        assert!(matches!(*gap.lock(), Turn::Given(_)));
        gap.give(STEP);
        let freely = gap.ask(Unnoticed, || false);
        assert_eq!((freely, *gap.lock()), (LOOK, Turn::Nobodys));
    }

    #[test]
    fn nobody_waits_for_steps_that_are_not_made() {
        let (gap, stepping) = (Gap::default(), AtomicBool::new(true));
        thread::scope(|scope| {
            let asked = scope.spawn(|| gap.ask(Unnoticed, || stepping.load(SeqCst)));
            until(|| matches!(*gap.lock(), Turn::Asked(_)));
            stepping.store(false, SeqCst);
            assert_eq!(asked.join().unwrap(), LOOK, "they have been paused");
            let asked = scope.spawn(|| gap.ask(Unnoticed, || true));
            until(|| matches!(*gap.lock(), Turn::Asked(_)));
            gap.end();
            assert_eq!(asked.join().unwrap(), LOOK, "the engine has ended");
        });
        assert_eq!(gap.ask(Unnoticed, || true), LOOK);
    }
}
