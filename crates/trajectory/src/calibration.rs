//! What behaviour tells about what people say: implicit and automated signals held against explicit
//! ones where both are there.
//!
//! For a signal *s*, LLR = ln P(s | wanted) − ln P(s | unwanted), each probability smoothed by the
//! Jeffreys prior Beta(½, ½): (k + ½) / (n + 1). Its variance by the delta method is the sum of
//! (1 − p) / (n p) of both sides, so the interval is LLR ± 1.96 σ. A signal whose interval crosses
//! zero weighs nothing.
//!
//! The sum of the weights that are left is an odds ratio only if signals were independent, so it goes
//! through a Platt scaling σ(a·x + b), fitted by Newton's method (Platt 1999, with his targets
//! (n₊ + 1) / (n₊ + 2) and 1 / (n₋ + 2)). AUC, Brier score and the expected calibration error over
//! ten equal bins are of predictions for one half by what was fitted on the other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use understudy_ident::Digest;

use crate::{Outcome, Signal, Source};

/// Fewer overlaps than this say nothing about anything.
const LEAST: usize = 20;
const BINS: usize = 10;
/// Probabilities that are further off than this, on replies they were not fitted on, mislead.
const MOST_ERROR: f64 = 0.1;
/// Of the slope, so that a signal that tells both sides apart perfectly leaves it finite.
const RIDGE: f64 = 1e-3;

/// One reply on which both somebody said so and behaviour was seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Overlap {
    /// Decides which half it belongs to.
    unit: Digest,
    wanted: bool,
    signals: Vec<String>,
}

impl Overlap {
    /// The overlap in what was said about one reply; `None` where either side is missing, or where
    /// people contradict each other.
    pub fn of(unit: &str, outcomes: &[Outcome]) -> Option<Self> {
        let (said, seen): (Vec<&Outcome>, Vec<&Outcome>) =
            outcomes.iter().partition(|outcome| outcome.source == Source::Explicit);
        let mut verdicts = said.iter().filter_map(|outcome| wanted(&outcome.signal));
        let wanted = verdicts.next()?;
        if verdicts.any(|other| other != wanted) {
            return None;
        }
        let mut signals: Vec<String> = seen.into_iter().map(name).collect();
        signals.sort();
        signals.dedup();
        let unit = Digest::of(unit.as_bytes());
        (!signals.is_empty()).then_some(Self { unit, wanted, signals })
    }

    /// What of it is behaviour, without what programs said.
    #[must_use]
    pub fn behaviour(self) -> Option<Self> {
        let signals: Vec<String> =
            self.signals.into_iter().filter(|name| name.starts_with("implicit ")).collect();
        (!signals.is_empty()).then_some(Self { signals, ..self })
    }
}

/// What somebody's word says about the reply; an edit says that it was nearly right, which is
/// neither.
fn wanted(signal: &Signal) -> Option<bool> {
    match signal {
        Signal::Accept => Some(true),
        Signal::Edit { .. } | Signal::Remark { .. } => None,
        Signal::Regenerate { .. } | Signal::Abandon | Signal::Flag { .. } => Some(false),
        Signal::Rating { value } | Signal::Verifier { score: value, .. } => {
            (*value != 0.5).then_some(*value > 0.5)
        }
    }
}

/// `implicit accept`, `automated tests high`, …
fn name(outcome: &Outcome) -> String {
    let source = match outcome.source {
        Source::Explicit => "explicit",
        Source::Implicit => "implicit",
        Source::Automated => "automated",
    };
    let side = |value: f64| if value > 0.5 { "high" } else { "low" };
    match &outcome.signal {
        Signal::Rating { value } => format!("{source} rating {}", side(*value)),
        Signal::Verifier { name, score } => format!("{source} {name} {}", side(*score)),
        signal => format!("{source} {}", signal.name()),
    }
}

/// How far behaviour can be believed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Replies on which both sides were there.
    pub overlaps: u64,
    pub wanted: u64,
    pub auc: f64,
    pub brier: f64,
    pub ece: f64,
    pub platt: Platt,
    pub signals: BTreeMap<String, SignalWeight>,
}

/// σ(`slope` · Σ weights + `intercept`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platt {
    pub slope: f64,
    pub intercept: f64,
}

/// One signal's log-likelihood ratio and its 95 % interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalWeight {
    pub seen: u64,
    pub llr: f64,
    pub low: f64,
    pub high: f64,
    /// The ratio, or 0 where it may as well have the other sign.
    pub weight: f64,
}

impl Calibration {
    /// Fits to the overlaps in any order; `None` where there are too few, or only one kind of them.
    pub fn fit(mut overlaps: Vec<Overlap>) -> Option<Self> {
        // Sums of floating-point numbers depend on their order.
        overlaps.sort();
        let (one, other): (Vec<&Overlap>, Vec<&Overlap>) =
            overlaps.iter().partition(|overlap| overlap.unit.as_bytes()[0] & 1 == 0);
        let mut predicted = Vec::new();
        for (learnt, judged) in [(&one, &other), (&other, &one)] {
            let model = Model::fit(learnt)?;
            predicted.extend(judged.iter().map(|one| (model.predict(&one.signals), one.wanted)));
        }
        let all: Vec<&Overlap> = overlaps.iter().collect();
        let model = Model::fit(&all)?;
        Some(Self {
            overlaps: overlaps.len() as u64,
            wanted: overlaps.iter().filter(|overlap| overlap.wanted).count() as u64,
            auc: auc(&predicted),
            brier: mean(predicted.iter().map(|(p, wanted)| (p - truth(*wanted)).powi(2))),
            ece: expected_error(&predicted),
            platt: model.platt,
            signals: model.signals,
        })
    }

    /// The probability that a reply with these outcomes was wanted, by what behaviour shows alone.
    pub fn probability(&self, outcomes: &[Outcome]) -> Option<f64> {
        let seen = outcomes.iter().filter(|outcome| outcome.source != Source::Explicit);
        let mut signals: Vec<String> = seen.map(name).collect();
        signals.sort();
        signals.dedup();
        let known = signals.iter().any(|signal| self.signals.contains_key(signal));
        known.then(|| predict(&self.signals, self.platt, &signals))
    }
}

impl Calibration {
    /// How well behaviour told wanted replies from unwanted ones that it was not fitted on: Gini's
    /// coefficient 2·AUC − 1, and 0 where its probabilities are off by more than [`MOST_ERROR`].
    pub fn strength(&self) -> f64 {
        if self.ece <= MOST_ERROR { (2.0 * self.auc - 1.0).max(0.0) } else { 0.0 }
    }

    /// The probability that a reply was wanted, by what its user did and nobody said; `None` where
    /// nothing of it weighs anything.
    pub fn implied(&self, outcomes: &[Outcome]) -> Option<f64> {
        let seen = outcomes.iter().filter(|outcome| outcome.source == Source::Implicit);
        let mut signals: Vec<String> = seen.map(name).collect();
        signals.sort();
        signals.dedup();
        let weighs = |name: &String| self.signals.get(name).is_some_and(|one| one.weight != 0.0);
        let any = self.strength() > 0.0 && signals.iter().any(weighs);
        any.then(|| predict(&self.signals, self.platt, &signals))
    }
}

struct Model {
    signals: BTreeMap<String, SignalWeight>,
    platt: Platt,
}

impl Model {
    fn fit(overlaps: &[&Overlap]) -> Option<Self> {
        let wanted = overlaps.iter().filter(|overlap| overlap.wanted).count();
        let unwanted = overlaps.len() - wanted;
        if overlaps.len() < LEAST / 2 || wanted == 0 || unwanted == 0 {
            return None;
        }
        let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for overlap in overlaps {
            for signal in &overlap.signals {
                let (of_wanted, of_unwanted) = counts.entry(signal).or_default();
                *(if overlap.wanted { of_wanted } else { of_unwanted }) += 1;
            }
        }
        let signals: BTreeMap<String, SignalWeight> = counts
            .into_iter()
            .map(|(name, found)| (name.to_owned(), signal(found, (wanted, unwanted))))
            .collect();
        let sums: Vec<(f64, bool)> = overlaps
            .iter()
            .map(|overlap| (evidence(&signals, &overlap.signals), overlap.wanted))
            .collect();
        Some(Self { signals, platt: platt(&sums) })
    }

    fn predict(&self, signals: &[String]) -> f64 {
        predict(&self.signals, self.platt, signals)
    }
}

fn signal(
    (of_wanted, of_unwanted): (usize, usize),
    (wanted, unwanted): (usize, usize),
) -> SignalWeight {
    let share = |k: usize, n: usize| (k as f64 + 0.5) / (n as f64 + 1.0);
    let (p, q) = (share(of_wanted, wanted), share(of_unwanted, unwanted));
    let llr = (p / q).ln();
    let variance = (1.0 - p) / (wanted as f64 * p) + (1.0 - q) / (unwanted as f64 * q);
    let reach = 1.96 * variance.sqrt();
    let (low, high) = (llr - reach, llr + reach);
    let weight = if low > 0.0 || high < 0.0 { llr } else { 0.0 };
    SignalWeight { seen: (of_wanted + of_unwanted) as u64, llr, low, high, weight }
}

fn evidence(signals: &BTreeMap<String, SignalWeight>, seen: &[String]) -> f64 {
    seen.iter().filter_map(|name| signals.get(name)).map(|signal| signal.weight).sum()
}

fn predict(signals: &BTreeMap<String, SignalWeight>, platt: Platt, seen: &[String]) -> f64 {
    sigmoid(platt.slope * evidence(signals, seen) + platt.intercept)
}

fn platt(sums: &[(f64, bool)]) -> Platt {
    let wanted = sums.iter().filter(|(_, wanted)| *wanted).count() as f64;
    let unwanted = sums.len() as f64 - wanted;
    let (high, low) = ((wanted + 1.0) / (wanted + 2.0), 1.0 / (unwanted + 2.0));
    let (mut slope, mut intercept) = (1.0, (wanted / unwanted).ln());
    for _ in 0..50 {
        let mut gradient = (RIDGE * slope, 0.0);
        let mut hessian = (RIDGE, 0.0, 1e-9);
        for &(x, is_wanted) in sums {
            let p = sigmoid(slope * x + intercept);
            let error = p - if is_wanted { high } else { low };
            let curvature = (p * (1.0 - p)).max(1e-12);
            gradient = (gradient.0 + error * x, gradient.1 + error);
            hessian =
                (hessian.0 + curvature * x * x, hessian.1 + curvature * x, hessian.2 + curvature);
        }
        let determinant = hessian.0 * hessian.2 - hessian.1 * hessian.1;
        let step = (
            (hessian.2 * gradient.0 - hessian.1 * gradient.1) / determinant,
            (hessian.0 * gradient.1 - hessian.1 * gradient.0) / determinant,
        );
        slope -= step.0;
        intercept -= step.1;
        if step.0.abs() + step.1.abs() < 1e-10 {
            break;
        }
    }
    Platt { slope, intercept }
}

/// The share of pairs of a wanted and an unwanted reply that are in the right order, ties halved.
fn auc(predicted: &[(f64, bool)]) -> f64 {
    let mut sorted: Vec<(f64, bool)> = predicted.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut right, mut below) = (0.0, 0.0);
    for tied in sorted.chunk_by(|a, b| a.0 == b.0) {
        let wanted = tied.iter().filter(|(_, wanted)| *wanted).count() as f64;
        let unwanted = tied.len() as f64 - wanted;
        right += wanted * (below + unwanted / 2.0);
        below += unwanted;
    }
    let wanted = predicted.len() as f64 - below;
    right / (wanted * below)
}

/// Σ over bins of |bin| / n · |mean prediction − share wanted|.
fn expected_error(predicted: &[(f64, bool)]) -> f64 {
    let bin = |p: f64| ((p * BINS as f64) as usize).min(BINS - 1);
    let errors = (0..BINS).map(|nth| {
        let own = predicted.iter().filter(|(p, _)| bin(*p) == nth);
        own.map(|(p, wanted)| p - truth(*wanted)).sum::<f64>().abs()
    });
    errors.sum::<f64>() / predicted.len() as f64
}

fn truth(wanted: bool) -> f64 {
    f64::from(u8::from(wanted))
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests;
