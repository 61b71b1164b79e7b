//! What the measurements come to: a table for people, one value for machines.

mod text;

use anyhow::Result;
use serde::Serialize;

use super::{
    floor::Floor,
    job::{Dtype, Job, Measured, Program, Step},
    load::Load,
    peer::Peers,
    profile::Profile,
};
use crate::commands::Exit;

/// The largest share of a peer's peak memory that we aim to need.
const AIM_MEMORY: f64 = 0.6;

impl Step {
    /// How many times faster than the better peer we aim to be.
    fn aim(self) -> f64 {
        match self {
            Self::Sft | Self::Dpo => 1.5,
            Self::Grpo => 8.0,
        }
    }
}

/// Everything one run of the benchmark found.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    bench: &'static str,
    base: &'a str,
    threads: usize,
    measured_steps: usize,
    peers: &'a Peers,
    measurements: Vec<Entry>,
    ratios: Vec<Ratio>,
    /// Of our SFT step, in every precision.
    floors: Vec<OwnFloor>,
    profiles: Vec<OwnProfile>,
}

/// One configuration: what was measured, or why nothing was.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Entry {
    step: Step,
    program: Program,
    dtype: Dtype,
    /// Median over the measured steps.
    step_seconds: Option<f64>,
    cpu_seconds: Option<f64>,
    /// Tokens the objective is about: rows of SFT, both sides of DPO, completions of GRPO.
    tokens: Option<u64>,
    tokens_per_second: Option<f64>,
    peak_rss_bytes: Option<u64>,
    /// Every measured step.
    seconds: Vec<f64>,
    load: Load,
    /// The load average was above [`super::load::BUSY`] before it began.
    busy: bool,
    note: Option<String>,
    failed: Option<String>,
    #[serde(skip)]
    floor: Option<Floor>,
    #[serde(skip)]
    profile: Option<Profile>,
}

/// Our better precision beside the better peer, each by its median step.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Ratio {
    step: Step,
    ours: Dtype,
    peer: Program,
    peer_dtype: Dtype,
    /// The peer's time over ours; more is better.
    time: f64,
    aim_time: f64,
    /// The peer's processor time over ours, which other programs disturb less.
    cpu_time: f64,
    /// Our peak memory over that of the same peer; less is better.
    memory: f64,
    /// Over that of the thriftiest peer, however slow.
    memory_least: f64,
    aim_memory: f64,
}

#[derive(Debug, Serialize)]
struct OwnFloor {
    dtype: Dtype,
    #[serde(flatten)]
    floor: Floor,
    /// The floor over the measured step: 1 is the floor itself.
    share: f64,
}

#[derive(Debug, Serialize)]
struct OwnProfile {
    dtype: Dtype,
    #[serde(flatten)]
    profile: Profile,
}

impl Entry {
    /// Our own failure ends the benchmark; a peer's is written into the table.
    pub(super) fn of(job: &Job, outcome: Result<Measured>, load: Load) -> Result<Self> {
        let mut entry = Self {
            step: job.step,
            program: job.program,
            dtype: job.dtype,
            step_seconds: None,
            cpu_seconds: None,
            tokens: None,
            tokens_per_second: None,
            peak_rss_bytes: None,
            seconds: Vec::new(),
            load,
            busy: load.is_busy(),
            note: None,
            failed: None,
            floor: None,
            profile: None,
        };
        match outcome {
            Ok(measured) => entry.fill(measured),
            Err(error) if job.program == Program::Understudy => {
                return Err(error.context(format!("failed to measure {job}")));
            }
            Err(error) => entry.failed = Some(format!("{error:#}")),
        }
        Ok(entry)
    }

    fn fill(&mut self, measured: Measured) {
        let seconds = median(&measured.seconds);
        self.step_seconds = Some(seconds);
        self.cpu_seconds = Some(median(&measured.cpu_seconds));
        self.tokens = Some(measured.tokens);
        self.tokens_per_second = Some(measured.tokens as f64 / seconds);
        self.peak_rss_bytes = Some(measured.peak_rss_bytes);
        self.seconds = measured.seconds;
        self.note = measured.note;
        self.floor = measured.floor;
        self.profile = measured.profile;
    }

    fn name(&self) -> String {
        format!("{} {}", self.program.as_str(), self.dtype.as_str())
    }

    /// One line as soon as it is known.
    pub(super) fn line(&self) -> String {
        let (step, name) = (self.step.as_str(), self.name());
        let quiet = self.quiet();
        match (self.step_seconds, &self.failed) {
            (Some(seconds), _) => format!("{step:<5} {name:<16} {seconds:>8.2} s a step; {quiet}"),
            (None, why) => format!(
                "{step:<5} {name:<16} not measured: {}",
                why.as_deref().unwrap_or("it gave no figure")
            ),
        }
    }

    fn quiet(&self) -> String {
        let load = self.load.before.map_or("load unknown".to_owned(), |l| format!("load {l:.2}"));
        let others =
            self.load.others.map_or(String::new(), |o| format!(", others {:.0} %", o * 100.0));
        format!("{load}{others}{}", if self.busy { " *" } else { "" })
    }
}

impl<'a> Report<'a> {
    pub(super) fn of(
        base: &'a str,
        steps: usize,
        peers: &'a Peers,
        measurements: Vec<Entry>,
    ) -> Self {
        let ratios = Step::ALL.into_iter().filter_map(|step| Ratio::of(step, &measurements));
        let floors = measurements.iter().filter_map(|entry| {
            let (floor, seconds) = (entry.floor?, entry.step_seconds?);
            Some(OwnFloor { dtype: entry.dtype, floor, share: floor.step_seconds / seconds })
        });
        let profiles = measurements.iter().filter_map(|entry| {
            Some(OwnProfile { dtype: entry.dtype, profile: entry.profile.clone()? })
        });
        Self {
            bench: "train",
            base,
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
            measured_steps: steps,
            peers,
            ratios: ratios.collect(),
            floors: floors.collect(),
            profiles: profiles.collect(),
            measurements,
        }
    }

    /// A comparison that was asked for and could not be made is not enough evidence.
    pub(super) fn exit(&self, asked: bool) -> Exit {
        if asked && self.ratios.is_empty() { Exit::Inconclusive } else { Exit::Ok }
    }
}

impl Ratio {
    fn of(step: Step, entries: &[Entry]) -> Option<Self> {
        let measured = || entries.iter().filter(|e| e.step == step && e.step_seconds.is_some());
        let fastest = |mine: bool| {
            let side = measured().filter(|e| (e.program == Program::Understudy) == mine);
            side.min_by(|a, b| {
                a.step_seconds.unwrap_or(f64::MAX).total_cmp(&b.step_seconds.unwrap_or(f64::MAX))
            })
        };
        let (ours, peer) = (fastest(true)?, fastest(false)?);
        let peers = measured().filter(|e| e.program != Program::Understudy);
        let least = peers.filter_map(|e| e.peak_rss_bytes).min()?;
        let memory = ours.peak_rss_bytes? as f64;
        Some(Self {
            step,
            ours: ours.dtype,
            peer: peer.program,
            peer_dtype: peer.dtype,
            time: peer.step_seconds? / ours.step_seconds?,
            aim_time: step.aim(),
            cpu_time: peer.cpu_seconds? / ours.cpu_seconds?,
            memory: memory / peer.peak_rss_bytes? as f64,
            memory_least: memory / least as f64,
            aim_memory: AIM_MEMORY,
        })
    }
}

/// The middle value, of an even count the mean of the middle two; NaN of nothing.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

#[cfg(test)]
mod tests;
