//! What the looks came to, by task, arm and scorer.

use std::collections::BTreeMap;

use serde::Serialize;
use understudy_journal::{Entry, Journal, JournalError};
use understudy_manifest::Case;
use understudy_scorer::{Answer, Measured, Outcome};
use understudy_statistics::{EmpiricalBernstein, Interval};
use understudy_trajectory::Step;

use crate::Rules;

/// Records read at a time.
const PAGE: usize = 256;
/// Of the intervals: each holds at all times with probability 0.95.
const ALPHA: f64 = 0.05;
/// Adapters come and go; rows beyond this many are not begun, and counted.
const MOST_ROWS: usize = 512;

/// Scores replies as they become known.
#[derive(Debug)]
pub struct Watch {
    rules: Rules,
    read_to: u64,
    seen: u64,
    scored: u64,
    failed: u64,
    left_out: u64,
    tallies: BTreeMap<Key, Tally>,
}

/// Whose replies, under which check.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    task: String,
    arm: &'static str,
    adapter: Option<String>,
    check: usize,
}

#[derive(Debug)]
struct Tally {
    scored: u64,
    unscored: u64,
    sum: f64,
    mean: EmpiricalBernstein,
}

/// Everything there is to show.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub share: f64,
    pub scorers: Vec<String>,
    /// Replies of arms that were read, and those among the share.
    pub seen: u64,
    pub scored: u64,
    /// Of these, requests that failed; they are in no mean.
    pub failed: u64,
    /// Scores for which there was no room, because too many adapters were seen.
    pub left_out: u64,
    pub rows: Vec<Row>,
}

/// One arm of one task under one check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub task: String,
    pub arm: &'static str,
    /// The adapter that answered, if one did.
    pub adapter: Option<String>,
    pub scorer: String,
    pub scored: u64,
    /// Replies that the scorer could not decide.
    pub unscored: u64,
    /// 0 where nothing was scored, as `low` and `high` say.
    pub mean: f64,
    /// Holds at all times together with probability 0.95 (empirical Bernstein).
    pub low: f64,
    pub high: f64,
}

impl Watch {
    /// Looks at what is recorded after number `after` of the journal.
    pub fn new(rules: Rules, after: u64) -> Self {
        Self {
            rules,
            read_to: after,
            seen: 0,
            scored: 0,
            failed: 0,
            left_out: 0,
            tallies: BTreeMap::new(),
        }
    }

    /// Reads one page of the journal. Whether there may be more.
    pub fn read(&mut self, journal: &Journal) -> Result<bool, JournalError> {
        let arrivals = journal.follow(self.read_to, PAGE)?;
        let is_full = arrivals.len() == PAGE;
        for arrival in arrivals {
            self.read_to = arrival.seq;
            if let Entry::Step(step) = &arrival.entry {
                self.note(step);
            }
        }
        Ok(is_full)
    }

    /// Scores a reply if an arm gave it and its trajectory is among the share.
    pub fn note(&mut self, step: &Step) {
        let Some(assignment) = &step.assignment else { return };
        self.seen += 1;
        if !self.rules.chooses(&step.trajectory) {
            return;
        }
        self.scored += 1;
        if step.error.is_some() {
            self.failed += 1;
            return;
        }
        let text = step.reply.text();
        let answer = Answer {
            text: &text,
            calls: &step.reply.tool_calls,
            steps: &[],
            state: None,
            scores: None,
            measured: Measured {
                latency_ms: Some(step.timing.total_ms).filter(|ms| *ms > 0.0),
                completion_tokens: Some(step.usage.completion_tokens).filter(|count| *count > 0),
                cost: None,
            },
        };
        for (check, look) in self.rules.checks().iter().enumerate() {
            let question = || Case { prompt: step.prompt.clone(), ..Case::default() };
            let outcome = look
                .with_grader(question, |grader| grader.score(&answer, None))
                .unwrap_or_else(|| Outcome::unscored("the check cannot be made of this question"));
            let key = Key {
                task: step.task.to_string(),
                arm: assignment.arm.as_str(),
                adapter: step.served.adapter.as_ref().map(|adapter| adapter.alias.clone()),
                check,
            };
            let is_new = !self.tallies.contains_key(&key);
            if is_new && self.tallies.len() >= MOST_ROWS {
                self.left_out += 1;
                continue;
            }
            self.tallies.entry(key).or_default().push(&outcome);
        }
    }

    pub fn report(&self) -> Report {
        let names = self.rules.names();
        let row = |(key, tally): (&Key, &Tally)| {
            let Interval { lower, upper } = tally.mean.interval();
            Row {
                task: key.task.clone(),
                arm: key.arm,
                adapter: key.adapter.clone(),
                scorer: names[key.check].clone(),
                scored: tally.scored,
                unscored: tally.unscored,
                mean: if tally.scored == 0 { 0.0 } else { tally.sum / tally.scored as f64 },
                low: lower,
                high: upper,
            }
        };
        Report {
            share: self.rules.share(),
            seen: self.seen,
            scored: self.scored,
            failed: self.failed,
            left_out: self.left_out,
            rows: self.tallies.iter().map(row).collect(),
            scorers: names,
        }
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self { scored: 0, unscored: 0, sum: 0.0, mean: EmpiricalBernstein::new(ALPHA) }
    }
}

impl Tally {
    fn push(&mut self, outcome: &Outcome) {
        match outcome.score() {
            Some(score) => {
                self.scored += 1;
                self.sum += score.value;
                self.mean.push(score.value);
            }
            None => self.unscored += 1,
        }
    }
}
