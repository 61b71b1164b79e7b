//! Between two steps: time for the loops of whoever reads an adapter.
//!
//! Both need processors, and a step needs all of them: while one of its threads is put aside, the
//! others wait at the end of their loop. So a load never runs beside a step. It leaves its loops at a
//! desk, and the engine runs them before the next step begins, for a share of what the last one took.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use understudy_team::Desk;

/// What a load gets of the time that steps take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// Nobody waits for the adapter: those who decode should not feel it.
    Unnoticed,
    /// A request does: its first token is worth more than everybody's next one being on time.
    WaitedFor,
}

/// What the step after the gap does. Some wait longest for the steps that read prompts as well; before
/// the others there is time until they take as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Reads,
    Decodes,
}

impl Share {
    /// Where the model takes rows one by one, nearly every step reads a few and few are much longer
    /// than others; where it takes whole blocks, those with one more are the ones waited for longest.
    fn of(self, step: Duration, next: Next, at_once: usize) -> Duration {
        let parts = match (self, next) {
            (Self::Unnoticed, Next::Reads) if at_once > 1 => 24,
            (Self::Unnoticed, Next::Decodes) if at_once > 1 => 6,
            (Self::Unnoticed, Next::Reads) => 12,
            (Self::Unnoticed, Next::Decodes) | (Self::WaitedFor, _) => 4,
        };
        (step / parts).clamp(LEAST, MOST)
    }
}

/// What a load gets after the shortest of steps: less would be spent on changing over.
const LEAST: Duration = Duration::from_micros(200);

/// And after the longest.
const MOST: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
pub(crate) struct Gap {
    desk: Arc<Desk>,
    is_waited_for: AtomicBool,
}

impl Gap {
    /// Does `work` on this thread, its loops between steps; from here while no steps are made.
    pub(crate) fn beside<R>(
        &self,
        share: Share,
        is_stepping: impl Fn() -> bool + 'static,
        work: impl FnOnce() -> R,
    ) -> R {
        self.desk.beside(is_stepping, || {
            self.is_waited_for.store(share == Share::WaitedFor, Relaxed);
            work()
        })
    }

    /// Runs loops, if there are any, for a share of what the last step took, of a model that takes so
    /// many rows at once.
    pub(crate) fn give(&self, step: Duration, next: Next, at_once: usize) {
        let waited = self.is_waited_for.load(Relaxed);
        let share = if waited { Share::WaitedFor } else { Share::Unnoticed };
        self.desk.attend(share.of(step, next, at_once));
    }

    /// There will be no more steps.
    pub(crate) fn end(&self) {
        self.desk.close();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicUsize, thread, time::Instant};

    use understudy_team as team;

    use super::{Next::*, Share::*, *};

    #[test]
    fn a_load_gets_its_share_of_a_step_and_more_where_a_request_waits() {
        let ms = Duration::from_millis;
        let shares =
            |share: Share, at_once| [Decodes, Reads].map(|next| share.of(ms(24), next, at_once));
        assert_eq!(shares(Unnoticed, 16), [ms(4), ms(1)]);
        assert_eq!(shares(Unnoticed, 1), [ms(6), ms(2)]);
        assert_eq!([1, 16].map(|at_once| shares(WaitedFor, at_once)), [[ms(6); 2]; 2]);
        assert_eq!(Unnoticed.of(Duration::ZERO, Reads, 1), LEAST);
        assert_eq!(WaitedFor.of(ms(9_000), Decodes, 1), MOST);
        Gap::default().give(Duration::from_mins(1), Decodes, 1);
    }

    #[test]
    fn a_load_goes_on_between_steps_and_no_longer_than_it_may() {
        let (gap, done) = (Gap::default(), AtomicUsize::new(0));
        let piece = |_| {
            done.fetch_add(1, Relaxed);
            thread::sleep(Duration::from_millis(1));
        };
        thread::scope(|scope| {
            let loading = scope.spawn(|| {
                gap.beside(Unnoticed, || true, || team::each(1000, piece));
            });
            let mut gaps = 0;
            while !loading.is_finished() {
                let before = done.load(Relaxed);
                thread::sleep(Duration::from_micros(50));
                assert_eq!(done.load(Relaxed), before, "it is a step's time");
                let begun = Instant::now();
                gap.give(Duration::from_millis(120), Decodes, 16);
                // Whoever is late starts no other piece.
                let pieces = done.load(Relaxed) - before;
                assert!(pieces <= team::threads() * (begun.elapsed().as_millis() as usize + 1));
                gaps += usize::from(pieces > 0);
            }
            assert!(gaps > 1, "all in one gap");
        });
        gap.end();
        gap.beside(Unnoticed, || true, || team::each(3, |_| ()));
    }
}
