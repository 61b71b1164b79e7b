//! Runs a blocking transfer on a thread of its own and watches it from here.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// How often the transfer is looked at: often enough for a smooth bar.
const TICK: Duration = Duration::from_millis(150);

/// How long a transfer may stand still before it is given up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Until the first byte.
    pub first: Duration,
    /// Between bytes later on.
    pub later: Duration,
}

/// Why a watched transfer has no result.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Nothing arrived for that long.
    Stalled(Duration),
    /// The thread ended without a result.
    Died,
}

/// Runs `transfer` to its end, calling `report` whenever `gauge` has moved on.
///
/// With `patience`, a transfer that stands still is abandoned: its thread stays behind until the
/// operating system fails its connection or the process ends. A blocking client without timeouts
/// leaves no better choice.
pub(super) fn watch<T: Send + 'static>(
    transfer: impl FnOnce() -> T + Send + 'static,
    gauge: impl Fn() -> u64,
    patience: Option<Patience>,
    report: &mut dyn FnMut(u64),
) -> Result<T, Lost> {
    let (sender, receiver) = mpsc::sync_channel(1);
    // The receiver is gone only if the transfer was given up, and then nobody wants the result.
    thread::spawn(move || sender.send(transfer()).ok());

    let (mut done, mut since) = (0, Instant::now());
    loop {
        match receiver.recv_timeout(TICK) {
            Ok(result) => return Ok(result),
            Err(RecvTimeoutError::Disconnected) => return Err(Lost::Died),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = gauge();
        if now != done {
            (done, since) = (now, Instant::now());
            report(done);
        }
        let limit = patience.map(|p| if done == 0 { p.first } else { p.later });
        if let Some(limit) = limit.filter(|limit| since.elapsed() > *limit) {
            return Err(Lost::Stalled(limit));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use super::*;

    const SHORT: Duration = Duration::from_millis(300);

    #[test]
    fn a_transfer_that_never_begins_or_stops_midway_is_given_up() {
        let patience = Some(Patience { first: SHORT, later: 2 * SHORT });
        for (moved, limit) in [(0, SHORT), (7, 2 * SHORT)] {
            let (_keep, never) = mpsc::channel::<()>();
            let transfer = move || never.recv().ok();
            let mut reports = Vec::new();
            let lost = watch(transfer, || moved, patience, &mut |done| reports.push(done));
            assert_eq!(lost.unwrap_err(), Lost::Stalled(limit));
            assert_eq!(reports, if moved == 0 { vec![] } else { vec![moved] });
        }
    }

    #[test]
    fn a_slow_transfer_that_keeps_moving_is_not_given_up() {
        let patience = Some(Patience { first: SHORT, later: SHORT });
        let bytes = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&bytes);
        let transfer = move || {
            for _ in 0..8 {
                thread::sleep(SHORT / 3);
                counter.fetch_add(1, Ordering::Relaxed);
            }
            "finished"
        };
        let mut last = 0;
        let gauge = move || bytes.load(Ordering::Relaxed);
        let result = watch(transfer, gauge, patience, &mut |done| {
            assert!(done > last, "reports only go forward");
            last = done;
        });
        assert_eq!(result, Ok("finished"));
        assert!(last > 0);
    }

    #[test]
    fn a_transfer_that_panics_is_a_lost_one() {
        let transfer = || -> u64 { panic!("a third party's assertion") };
        assert_eq!(watch(transfer, || 0, None, &mut |_| {}), Err(Lost::Died));
    }
}
