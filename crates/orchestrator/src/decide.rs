//! Whether the loop trains, waits or stops: a pure function of its settings, of what there is to
//! see, and of the turns so far.
//!
//! What it says is the whole reason, not the first one: whoever waits is told everything that is
//! missing.

use std::fmt;

use serde::{Deserialize, Serialize};
use understudy_ident::Timestamp;
use understudy_manifest::Unattended;

use crate::{Past, Sight};

/// Budgets are counted over this long.
pub(crate) const DAY_MS: i64 = 24 * 60 * 60_000;

/// What the loop does next, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// Begin a turn.
    Train { because: Because },
    /// For all of these.
    Wait { holds: Vec<Hold> },
    /// Until a person says otherwise.
    Stop { why: Stop },
}

/// Why a turn begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum Because {
    EnoughNew {
        new: u64,
    },
    /// Fewer would not do, were it not for the alarm.
    Alarm {
        new: u64,
        alarm: String,
    },
}

/// What a turn waits for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "hold", rename_all = "snake_case")]
pub enum Hold {
    /// More steps with a verified outcome since the last turn.
    NewOutcomes {
        have: u64,
        need: u64,
        missing: u64,
    },
    /// More of them since an alarm was raised, which is when fewer are enough.
    OutcomesSinceAlarm {
        have: u64,
        need: u64,
        missing: u64,
    },
    /// More of them in all: the recipe refuses to train on less.
    AllOutcomes {
        have: u64,
        need: u64,
        missing: u64,
    },
    Interval {
        until: Timestamp,
    },
    QuietHours {
        until: Timestamp,
    },
    TurnsPerDay {
        limit: u64,
        until: Timestamp,
    },
    TrainMinutesPerDay {
        limit: u64,
        spent: f64,
        until: Timestamp,
    },
    /// A release whose candidate's fate is open.
    OpenRelease {
        which: String,
    },
    /// Nothing may be released at present, so nothing is trained for it.
    Frozen {
        why: String,
    },
}

/// Why the loop goes on only when a person wants it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Stop {
    Paused {
        owner: String,
        reason: String,
    },
    Failures {
        in_a_row: u64,
        last: String,
    },
    /// It was told to make so many turns.
    Done {
        turns: u64,
    },
}

/// Decides. Reads top-down: what only a person changes, then what time changes, then what users
/// change.
pub fn decide(
    settings: &Unattended,
    min_verified: u64,
    sight: &Sight,
    past: &Past,
    now: Timestamp,
) -> Decision {
    if let Some(why) = stopped(settings, past) {
        return Decision::Stop { why };
    }
    let mut holds = Vec::new();
    if let Some(which) = &sight.open_release {
        holds.push(Hold::OpenRelease { which: which.clone() });
    }
    if let Some(why) = &sight.frozen {
        holds.push(Hold::Frozen { why: why.clone() });
    }
    holds.extend(timed(settings, past, now));
    // Whichever comes first: enough news, or enough of it about what has changed.
    let enough = sight.verified_new >= settings.min_new;
    let alarm = sight.alarm.as_ref().filter(|_| !enough);
    let (have, need) = match alarm {
        Some(_) => (sight.verified_since_alarm, settings.min_new_when_falling),
        None => (sight.verified_new, settings.min_new),
    };
    if have < need {
        let missing = need - have;
        holds.push(match alarm {
            Some(_) => Hold::OutcomesSinceAlarm { have, need, missing },
            None => Hold::NewOutcomes { have, need, missing },
        });
    }
    let (all, least) = (sight.verified_all, min_verified);
    if all < least {
        holds.push(Hold::AllOutcomes { have: all, need: least, missing: least - all });
    }
    if !holds.is_empty() {
        return Decision::Wait { holds };
    }
    let because = match alarm {
        Some(alarm) => Because::Alarm { new: have, alarm: alarm.clone() },
        None => Because::EnoughNew { new: have },
    };
    Decision::Train { because }
}

/// Until when a moment lies in quiet hours.
pub(crate) fn quiet_until(settings: &Unattended, now: Timestamp) -> Option<Timestamp> {
    let left = settings.quiet_for(now.as_millisecond())?;
    Some(after(now, left))
}

fn stopped(settings: &Unattended, past: &Past) -> Option<Stop> {
    if let Some(paused) = &past.paused {
        let (owner, reason) = (paused.owner.clone(), paused.reason.clone());
        return Some(Stop::Paused { owner, reason });
    }
    if settings.max_turns.is_some_and(|most| past.turns >= most) {
        return Some(Stop::Done { turns: past.turns });
    }
    let in_a_row = past.failures_in_a_row;
    (in_a_row >= settings.max_failures).then(|| Stop::Failures {
        in_a_row,
        last: past.last_ending.clone().unwrap_or_else(|| "nothing is known of it".to_owned()),
    })
}

fn timed(settings: &Unattended, past: &Past, now: Timestamp) -> Vec<Hold> {
    let mut holds = Vec::new();
    if let Some(ended) = past.last_ended {
        let until = after(ended, settings.min_interval.as_ms());
        if until > now {
            holds.push(Hold::Interval { until });
        }
    }
    if let Some(until) = quiet_until(settings, now) {
        holds.push(Hold::QuietHours { until });
    }
    let within = |at: &&Timestamp| after(**at, DAY_MS) > now;
    if let Some(limit) = settings.turns_per_day {
        let begun: Vec<&Timestamp> = past.begun.iter().filter(within).collect();
        // The one that has to grow old before there is room again.
        let blocking = begun.len().checked_sub(limit as usize).and_then(|nth| begun.get(nth));
        if let Some(at) = blocking {
            holds.push(Hold::TurnsPerDay { limit, until: after(**at, DAY_MS) });
        }
    }
    if let Some(limit) = settings.train_minutes_per_day {
        holds.extend(training_budget(limit, past, now));
    }
    holds
}

fn training_budget(limit: u64, past: &Past, now: Timestamp) -> Option<Hold> {
    let within = past.trained.iter().filter(|(at, _)| after(*at, DAY_MS) > now);
    let within: Vec<&(Timestamp, f64)> = within.collect();
    let spent: f64 = within.iter().map(|(_, seconds)| seconds / 60.0).sum();
    let mut left = spent;
    let mut until = None;
    for (at, seconds) in within {
        if left < limit as f64 {
            break;
        }
        left -= seconds / 60.0;
        until = Some(after(*at, DAY_MS));
    }
    until.map(|until| Hold::TrainMinutesPerDay { limit, spent, until })
}

fn after(at: Timestamp, milliseconds: i64) -> Timestamp {
    let moment = at.as_millisecond().saturating_add(milliseconds);
    Timestamp::from_millisecond(moment).unwrap_or(Timestamp::MAX)
}

impl Decision {
    /// What stays the same while only numbers move: two decisions with the same key are the same
    /// news.
    pub fn key(&self) -> String {
        match self {
            Self::Train { because } => match because {
                Because::EnoughNew { .. } => "train: enough".to_owned(),
                Because::Alarm { .. } => "train: alarm".to_owned(),
            },
            Self::Wait { holds } => {
                let names: Vec<&str> = holds.iter().map(Hold::name).collect();
                format!("wait: {}", names.join(", "))
            }
            Self::Stop { why } => format!("stop: {why}"),
        }
    }
}

impl Hold {
    fn name(&self) -> &'static str {
        match self {
            Self::NewOutcomes { .. } => "new outcomes",
            Self::OutcomesSinceAlarm { .. } => "outcomes since the alarm",
            Self::AllOutcomes { .. } => "all outcomes",
            Self::Interval { .. } => "interval",
            Self::QuietHours { .. } => "quiet hours",
            Self::TurnsPerDay { .. } => "turns per day",
            Self::TrainMinutesPerDay { .. } => "train minutes per day",
            Self::OpenRelease { .. } => "open release",
            Self::Frozen { .. } => "frozen",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Train { because } => write!(f, "trains, because {because}"),
            Self::Wait { holds } => {
                let holds: Vec<String> = holds.iter().map(Hold::to_string).collect();
                write!(f, "waits for {}", holds.join(", and for "))
            }
            Self::Stop { why } => write!(f, "has stopped: {why}"),
        }
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EnoughNew { new } => {
                write!(f, "{new} steps with a verified outcome have come since the last turn")
            }
            Self::Alarm { new, alarm } => write!(f, "{alarm}, and {new} new outcomes say how"),
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewOutcomes { have, need, missing } => {
                write!(f, "{missing} more verified outcomes since the last turn ({have} of {need})")
            }
            Self::OutcomesSinceAlarm { have, need, missing } => {
                write!(f, "{missing} more verified outcomes since the alarm ({have} of {need})")
            }
            Self::AllOutcomes { have, need, missing } => {
                write!(f, "{missing} more verified outcomes in all ({have} of {need})")
            }
            Self::Interval { until } => {
                write!(f, "the interval between turns, until {}", at(until))
            }
            Self::QuietHours { until } => write!(f, "the end of the quiet hours at {}", at(until)),
            Self::TurnsPerDay { limit, until } => {
                write!(f, "its budget of {limit} turns a day, until {}", at(until))
            }
            Self::TrainMinutesPerDay { limit, spent, until } => write!(
                f,
                "its budget of {limit} minutes of training a day, of which {spent:.1} are spent, \
                 until {}",
                at(until)
            ),
            Self::OpenRelease { which } => write!(f, "the end of an open release: {which}"),
            Self::Frozen { why } => write!(f, "the end of a freeze: {why}"),
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused { owner, reason } => write!(f, "{owner} paused it: {reason}"),
            Self::Failures { in_a_row, last } => write!(
                f,
                "{in_a_row} turns in a row came to nothing, the last one because {last}; look at \
                 the data, then `understudy loop resume`"
            ),
            Self::Done { turns } => write!(f, "it has made the {turns} turns it was told to make"),
        }
    }
}

/// To the second; nobody waits for milliseconds.
pub(crate) fn at(moment: &Timestamp) -> String {
    let seconds = Timestamp::from_second(moment.as_second()).unwrap_or(*moment);
    seconds.to_string()
}

#[cfg(test)]
mod tests;
