//! What counts as slow in one release: what the recipe says, or else what 95 of 100 replies of the
//! stable arm kept in the week before the candidate came on stage.
//!
//! Frozen at that moment and noted in the audit chain, so that no reply of the release moves what it is
//! measured by, and a restart measures by the same.

use std::fmt;

use serde::{Deserialize, Serialize};
use understudy_ident::{TaskName, Timestamp};
use understudy_inference::Timing;
use understudy_journal::{Journal, JournalError};
use understudy_statistics::Exceedance;

use crate::{Rules, observe};

/// How far back the stable arm's replies are looked at, and how many of them at most.
const WEEK_MS: i64 = 7 * 24 * 3600 * 1000;
const MOST_REPLIES: usize = 5_000;

/// Fewer say too little about the slowest twentieth of them.
const LEAST_REPLIES: usize = 200;

const QUANTILE: f64 = 0.95;

/// Where nothing is said and too little was served.
const DEFAULT_MS: f64 = 10_000.0;

/// Beyond what a reply of either arm is slow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyLimits {
    pub reply: LatencyLimit,
    /// None where nothing is said and the stable arm's replies came in one piece.
    pub first_token: Option<LatencyLimit>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatencyLimit {
    pub ms: f64,
    pub basis: Basis,
}

/// Where a limit is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Basis {
    Recipe,
    /// The p95 of so many replies of the stable arm.
    Served {
        replies: u64,
    },
    Default,
}

impl LatencyLimits {
    /// The limits of a release whose candidate comes on stage now. `generation` is the stable arm's
    /// content, none where it has no adapter.
    pub(crate) fn freeze(
        rules: &Rules,
        journal: &Journal,
        task: &TaskName,
        generation: Option<&str>,
        now: Timestamp,
    ) -> Result<Self, JournalError> {
        if rules.latency_slo_ms.is_some() && rules.first_token_slo_ms.is_some() {
            return Ok(Self::said(rules));
        }
        let since = Timestamp::from_millisecond(now.as_millisecond() - WEEK_MS);
        let steps = journal.newest_served(task, since.unwrap_or(Timestamp::MIN), MOST_REPLIES)?;
        let timings = steps.iter().filter_map(|step| observe::own_timing(step, generation));
        Ok(Self::of(rules, &timings.collect::<Vec<_>>()))
    }

    /// What the recipe says, and for the rest what holds without any replies.
    pub(crate) fn said(rules: &Rules) -> Self {
        Self::of(rules, &[])
    }

    fn of(rules: &Rules, served: &[Timing]) -> Self {
        let said = |ms| LatencyLimit { ms, basis: Basis::Recipe };
        let totals = served.iter().map(|timing| timing.total_ms);
        // A reply in one piece has no first token that came before the rest.
        let streamed = served.iter().map(|timing| timing.first_token_ms);
        let streamed =
            streamed.zip(totals.clone()).filter(|(first, total)| 0.0 < *first && first < total);
        Self {
            reply: rules
                .latency_slo_ms
                .map(said)
                .or_else(|| LatencyLimit::kept_by(totals.collect()))
                .unwrap_or(LatencyLimit { ms: DEFAULT_MS, basis: Basis::Default }),
            first_token: rules
                .first_token_slo_ms
                .map(said)
                .or_else(|| LatencyLimit::kept_by(streamed.map(|(first, _)| first).collect())),
        }
    }

    pub(crate) fn is_slow(&self, timing: &Timing) -> bool {
        timing.total_ms > self.reply.ms
    }

    pub(crate) fn starts_late(&self, timing: &Timing) -> bool {
        self.first_token.as_ref().is_some_and(|limit| timing.first_token_ms > limit.ms)
    }
}

impl LatencyLimit {
    fn kept_by(mut values: Vec<f64>) -> Option<Self> {
        let replies = values.len();
        let frozen = Exceedance::at_quantile(&mut values, QUANTILE)?;
        let basis = Basis::Served { replies: replies as u64 };
        (replies >= LEAST_REPLIES).then(|| Self { ms: frozen.threshold(), basis })
    }
}

impl fmt::Display for LatencyLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a reply is slow beyond {}", self.reply)?;
        match &self.first_token {
            Some(limit) => write!(f, ", a first token beyond {limit}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for LatencyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} ms ", self.ms)?;
        match self.basis {
            Basis::Recipe => f.write_str("(the recipe)"),
            Basis::Served { replies } => {
                write!(f, "(p95 of {replies} replies of what served before)")
            }
            Basis::Default => f.write_str("(too few replies before for a p95)"),
        }
    }
}
