//! How far a judge agrees with people who looked at the same pairs.

use serde::Deserialize;
use understudy_ident::Digest;
use understudy_manifest::{Calibration, Tally};
use understudy_message::Message;

use super::{Ballot, Contest, Judgement, Pick};
use crate::EvaluationError;

/// A pair, and what a person said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    pub contest: Contest,
    pub better: Pick,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    prompt: Asked,
    #[serde(default)]
    expected: Option<String>,
    a: String,
    b: String,
    label: Pick,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Asked {
    Text(String),
    Messages(Vec<Message>),
}

impl Asked {
    fn messages(self) -> Vec<Message> {
        match self {
            Self::Text(text) => vec![Message::user(text)],
            Self::Messages(messages) => messages,
        }
    }
}

/// Reads labelled pairs, one a line:
/// `{"prompt": "…", "a": "…", "b": "…", "label": "a" | "b" | "tie"}`.
pub fn read_labels(text: &str) -> Result<Vec<Label>, EvaluationError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = |(nth, line): (usize, &str)| {
        let Line { prompt, expected, a, b, label } = serde_json::from_str(line)
            .map_err(|why| EvaluationError::Label { line: nth + 1, why: why.to_string() })?;
        let prompt = prompt.messages();
        Ok(Label { contest: Contest { prompt, expected, a, b }, better: label })
    };
    lines.map(read).collect()
}

/// Compares what the judge said of the labelled pairs, in their order, with what people said.
///
/// Cohen's kappa is `(pₒ − pₑ) / (1 − pₑ)`, where `pₒ` is the share of agreement and `pₑ` what two
/// raters with these habits would agree on by chance (Cohen, 1960). Undecided is a category of the
/// judge's alone, so being undecided is never agreement.
pub fn calibrate(
    judge: Digest,
    labelled: Digest,
    labels: &[Label],
    judgement: &Judgement,
) -> Result<Calibration, EvaluationError> {
    let ballots = &judgement.ballots;
    if labels.is_empty() || labels.len() != ballots.len() || judgement.errors() > 0 {
        let (labels, judged) = (labels.len(), ballots.len() as u64 - judgement.errors());
        return Err(EvaluationError::Calibration { labels, judged });
    }
    let rated = labels.iter().map(|label| label.better).zip(ballots.iter().map(|b| b.winner));
    let (agreement, kappa) = kappa(&rated.collect::<Vec<_>>(), &[Pick::A, Pick::B, Pick::Tie]);
    Ok(Calibration {
        judge,
        labels: labels.len() as u64,
        labelled,
        agreement,
        kappa,
        undecided: judgement.undecided(),
        flips: judgement.flips(),
        first_preferred: judgement.first_preferred(),
        length_correlation: length_correlation(labels, ballots),
    })
}

/// Raw agreement and kappa of what a person and a judge said, who may be undecided.
fn kappa<T: PartialEq + Copy>(rated: &[(T, Option<T>)], categories: &[T]) -> (f64, f64) {
    let agreement = share(rated.iter().map(|(person, judge)| Some(*person) == *judge));
    let by_habit = |category: &T| {
        share(rated.iter().map(|(person, _)| person == category))
            * share(rated.iter().map(|(_, judge)| *judge == Some(*category)))
    };
    let chance: f64 = categories.iter().map(by_habit).sum();
    // Where both always say the same one thing, agreement shows nothing.
    (agreement, if chance >= 1.0 { 0.0 } else { (agreement - chance) / (1.0 - chance) })
}

/// An answer and a statement, and whether a person finds that it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    pub prompt: Vec<Message>,
    pub expected: Option<String>,
    pub answer: String,
    pub holds: String,
    pub met: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckedLine {
    prompt: Asked,
    #[serde(default)]
    expected: Option<String>,
    answer: String,
    holds: String,
    met: bool,
}

/// Reads labelled statements, one a line:
/// `{"prompt": "…", "answer": "…", "holds": "…", "met": true}`.
pub fn read_checked(text: &str) -> Result<Vec<Checked>, EvaluationError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = |(nth, line): (usize, &str)| {
        let CheckedLine { prompt, expected, answer, holds, met } = serde_json::from_str(line)
            .map_err(|why| EvaluationError::Label { line: nth + 1, why: why.to_string() })?;
        Ok(Checked { prompt: prompt.messages(), expected, answer, holds, met })
    };
    lines.map(read).collect()
}

/// Compares what a judge said of labelled statements with what people said.
pub(super) fn of_statements(
    judge: Digest,
    labelled: Digest,
    labels: &[Checked],
    rulings: &[Option<bool>],
) -> Calibration {
    let rated: Vec<_> = labels.iter().map(|label| label.met).zip(rulings.iter().copied()).collect();
    let (agreement, kappa) = kappa(&rated, &[true, false]);
    Calibration {
        judge,
        labels: labels.len() as u64,
        labelled,
        agreement,
        kappa,
        undecided: rulings.iter().filter(|ruling| ruling.is_none()).count() as u64,
        flips: Tally::default(),
        first_preferred: Tally::default(),
        length_correlation: None,
    }
}

fn share(hits: impl Iterator<Item = bool>) -> f64 {
    let hits: Vec<bool> = hits.collect();
    hits.iter().filter(|hit| **hit).count() as f64 / hits.len() as f64
}

/// Of `length(a) − length(b)` in characters with +1 for `a`, −1 for `b` and 0 for neither.
fn length_correlation(labels: &[Label], ballots: &[Ballot]) -> Option<f64> {
    let length = |text: &str| text.chars().count() as f64;
    let longer = labels.iter().map(|l| length(&l.contest.a) - length(&l.contest.b)).collect();
    let preferred = ballots
        .iter()
        .map(|ballot| match ballot.winner {
            Some(Pick::A) => 1.0,
            Some(Pick::B) => -1.0,
            Some(Pick::Tie) | None => 0.0,
        })
        .collect();
    pearson(longer, preferred)
}

fn pearson(x: Vec<f64>, y: Vec<f64>) -> Option<f64> {
    let centred = |values: Vec<f64>| -> Vec<f64> {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        values.into_iter().map(|value| value - mean).collect()
    };
    let (x, y) = (centred(x), centred(y));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let scale = (dot(&x, &x) * dot(&y, &y)).sqrt();
    (scale > 0.0).then(|| dot(&x, &y) / scale)
}
