//! What else the machine was doing while something was measured, as Linux accounts it.

use std::{fs, time::Instant};

use serde::{Deserialize, Serialize};

/// Above this 1-minute load average before it began, a measurement is flagged.
pub(super) const BUSY: f64 = 1.5;

/// A measurement in progress.
pub(super) struct Watch {
    begun: Instant,
    load: Option<f64>,
    before: Option<(f64, f64)>,
}

/// How quiet it was.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Load {
    /// The 1-minute load average just before. The measurement before this one counts towards it.
    pub(super) before: Option<f64>,
    /// Share of all processor time that other programs took meanwhile.
    pub(super) others: Option<f64>,
}

impl Load {
    pub(super) fn is_busy(self) -> bool {
        self.before.is_some_and(|load| load > BUSY)
    }
}

impl Watch {
    pub(super) fn begin() -> Self {
        Self { begun: Instant::now(), load: load_average(), before: processors() }
    }

    pub(super) fn end(self) -> Load {
        self.end_with(0.0)
    }

    /// The same where a program that is measured took so many seconds, and is no other.
    pub(super) fn end_with(self, measured: f64) -> Load {
        let wall = self.begun.elapsed().as_secs_f64();
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let others = self.before.zip(processors()).map(|((all, own), (all_after, own_after))| {
            let others = (all_after - all) - (own_after - own) - measured;
            (others / (wall.max(1e-9) * threads as f64)).clamp(0.0, 1.0)
        });
        Load { before: self.load, others }
    }
}

fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// Processor seconds of the whole machine and, of those, of this process and its ended children.
fn processors() -> Option<(f64, f64)> {
    let all = fs::read_to_string("/proc/stat").ok()?;
    let own = fs::read_to_string("/proc/self/stat").ok()?;
    Some((busy_ticks(&all)? / TICKS, own_ticks(&own)? / TICKS))
}

/// Linux counts hundredths of a second here, whatever its own clock does.
const TICKS: f64 = 100.0;

/// Everything but `idle` and `iowait`; guests are part of `user` already.
fn busy_ticks(stat: &str) -> Option<f64> {
    let fields: Vec<f64> = stat
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .map_while(|field| field.parse().ok())
        .collect();
    let counted = fields.iter().take(8).enumerate().filter(|(at, _)| !matches!(at, 3 | 4));
    (fields.len() >= 8).then(|| counted.map(|(_, ticks)| ticks).sum())
}

/// User and system time, own and of ended children: fields 14 to 17.
fn own_ticks(stat: &str) -> Option<f64> {
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    fields.get(11..15)?.iter().map(|field| field.parse::<f64>().ok()).sum()
}

/// Processor seconds of all threads of this process; 0 where the system does not say.
pub(super) fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = fields.iter().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_not_busy_and_guests_count_once() {
        let stat = "cpu  100 10 50 9000 900 1 2 7 30 0\ncpu0 1 1 1 1\n";
        assert_eq!(busy_ticks(stat), Some(170.0));
        assert_eq!(busy_ticks("cpu 1 2 3"), None);
    }

    #[test]
    fn a_name_with_a_bracket_does_not_shift_the_fields() {
        let stat = "7 (a) b) R 1 1 1 0 -1 4194304 99 0 0 0 11 22 33 44 20 0 1 0";
        assert_eq!(own_ticks(stat), Some(110.0));
    }
}
