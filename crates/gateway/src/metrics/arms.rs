//! What a comparison of arms needs, by task, release, arm and adapter: never by user or session,
//! whose names are many and theirs.
//!
//! A unit counts for the arm it was assigned to, whoever answered in the end.

use std::collections::BTreeMap;

use understudy_inference::{Completion, InferenceError, Served};
use understudy_trajectory::{Marks, TapMode};

use super::{
    Watch,
    histogram::{FIRST_TOKEN, Histogram, LATENCY, STEP},
};
use crate::{relay::reason, routing::Routing};

/// Sets of labels beyond this many are counted together: names of adapters come from outside.
const MOST_ARMS: usize = 256;

/// Whom a sample is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Labels {
    pub(super) task: String,
    pub(super) release: String,
    pub(super) arm: &'static str,
    pub(super) adapter: String,
}

impl Labels {
    pub(super) fn of(routing: &Routing, served: Option<&Served>) -> Self {
        let adapter = match served {
            None => "none",
            Some(Served { adapter: Some(adapter), .. }) => &adapter.alias,
            Some(Served { base, adapter: None }) => base,
        };
        let assignment = &routing.assignment;
        let release = routing.entry.as_ref().and_then(|entry| entry.release.clone());
        Self {
            task: routing.task.to_string(),
            release: release.unwrap_or_default(),
            arm: assignment.arm.as_str(),
            adapter: adapter.to_owned(),
        }
    }

    fn others(&self) -> Self {
        let other = || "other".to_owned();
        Self { task: other(), release: String::new(), arm: self.arm, adapter: other() }
    }
}

/// Everything of one set of labels.
#[derive(Debug)]
pub(super) struct Arm {
    pub(super) requests: u64,
    /// By class.
    pub(super) errors: BTreeMap<&'static str, u64>,
    /// By what the reply did.
    pub(super) marks: BTreeMap<&'static str, u64>,
    /// By kind: in, cached, out.
    pub(super) tokens: BTreeMap<&'static str, u64>,
    pub(super) first_token: Histogram,
    pub(super) between_tokens: Histogram,
    pub(super) whole: Histogram,
}

impl Default for Arm {
    fn default() -> Self {
        Self {
            requests: 0,
            errors: BTreeMap::new(),
            marks: BTreeMap::new(),
            tokens: BTreeMap::new(),
            first_token: Histogram::new(FIRST_TOKEN),
            between_tokens: Histogram::new(STEP),
            whole: Histogram::new(LATENCY),
        }
    }
}

/// All arms, and what happened beside their replies.
#[derive(Debug, Default)]
pub(super) struct Arms {
    pub(super) by_labels: BTreeMap<Labels, Arm>,
    /// By task, arm and reason.
    pub(super) fallbacks: BTreeMap<(String, &'static str, &'static str), u64>,
    /// By task, arm and what became of it.
    pub(super) escalations: BTreeMap<(String, &'static str, &'static str), u64>,
    /// By task, mode of the tap and reason.
    pub(super) skipped: BTreeMap<(String, &'static str, &'static str), u64>,
    /// By task and kind: `observe`, `shadow`, `draft`.
    pub(super) beside: BTreeMap<(String, &'static str), u64>,
    /// By task, kind and reason.
    pub(super) dropped: BTreeMap<(String, &'static str, &'static str), u64>,
    /// By task, kind and whether both came to the same.
    pub(super) compared: BTreeMap<(String, &'static str, &'static str), u64>,
    /// By arm.
    pub(super) uncaptured: BTreeMap<&'static str, u64>,
}

impl Arms {
    pub(super) fn arm(&mut self, labels: Labels) -> &mut Arm {
        let known = self.by_labels.contains_key(&labels) || self.by_labels.len() < MOST_ARMS;
        let labels = if known { labels } else { labels.others() };
        self.by_labels.entry(labels).or_default()
    }
}

impl Arm {
    pub(super) fn ended(
        &mut self,
        watch: &Watch,
        marks: Marks,
        last: &Result<Box<Completion>, Option<InferenceError>>,
    ) {
        self.requests += 1;
        match last {
            Ok(completion) => {
                let usage = completion.usage;
                for (kind, count) in [
                    ("in", usage.prompt_tokens),
                    ("cached", usage.cached_tokens),
                    ("out", usage.completion_tokens),
                ] {
                    *self.tokens.entry(kind).or_default() += u64::from(count);
                }
                self.whole.observe(watch.submitted.elapsed().as_secs_f64());
            }
            Err(error) => {
                let class = error.as_ref().map_or("client_gone", reason);
                *self.errors.entry(class).or_default() += 1;
                if watch.first.is_some() {
                    *self.errors.entry("truncated").or_default() += 1;
                }
            }
        }
        for (name, is_marked) in [
            ("invalid_tools", marks.invalid_tools),
            ("invalid_format", marks.invalid_format),
            ("question", marks.question),
            ("refusal", marks.refusal),
            ("empty", marks.empty),
            ("cut_off", marks.cut_off),
        ] {
            *self.marks.entry(name).or_default() += u64::from(is_marked);
        }
        if let Some(first) = watch.first {
            self.first_token.observe((first - watch.submitted).as_secs_f64());
        }
        for gap in &watch.gaps {
            self.between_tokens.observe(*gap);
        }
    }
}

/// What a reply beside another is called.
pub(super) fn kind(routing: &Routing) -> &'static str {
    match (routing.assignment.course.tap, routing.assignment.arm.as_str()) {
        (Some(tap), _) if tap.mode == TapMode::Observe => "observe",
        (_, "shadow") => "shadow",
        _ => "draft",
    }
}
