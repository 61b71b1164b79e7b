//! What the runs of one request claim, and whether they can be believed.
//!
//! A teacher alone is not trusted, and neither is a majority that it contradicts. Where runs differ
//! and no read-only look settles it, nothing is learnt from the request at all.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    AgreementSettings, Catalogue, Episode, MemoryError, Part, Transcript, skeleton::is_date,
    words::normal,
};

/// The subject of what is claimed in an answer; all others are tools.
const ANSWER: &str = "answer";

/// One claim of a run: in its answer, or in what it wrote.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Assertion {
    /// `answer`, or the tool that was written with.
    pub(crate) subject: String,
    pub(crate) predicate: String,
    /// In canonical form.
    pub(crate) value: String,
}

/// Reads claims off an answer and off the arguments of writes that took effect.
pub(crate) fn extract(transcript: &Transcript, catalogue: &Catalogue) -> Vec<Assertion> {
    let mut found = BTreeSet::new();
    match serde_json::from_str::<Value>(&transcript.answer) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => {
            fields(ANSWER, "", &value, &mut found);
        }
        _ => of_text(&transcript.answer, &mut found),
    }
    for call in transcript.calls.iter().filter(|call| call.result.is_ok()) {
        let writes =
            catalogue.tool(&call.tool).is_none_or(|at| catalogue.schema(at).access.may_write());
        if writes {
            fields(&call.tool, "", &call.arguments, &mut found);
        }
    }
    found.into_iter().collect()
}

fn fields(subject: &str, path: &str, value: &Value, found: &mut BTreeSet<Assertion>) {
    let mut add = |value: String| {
        let (subject, predicate) = (subject.to_owned(), path.to_owned());
        found.insert(Assertion { subject, predicate, value });
    };
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                fields(subject, &path, value, found);
            }
        }
        Value::Array(values) => {
            // As a set: an order nobody asked for is no claim.
            let mut all: Vec<String> = values.iter().map(canonical).collect();
            all.sort_unstable();
            add(all.join(" | "));
        }
        other => add(canonical(other)),
    }
}

fn canonical(value: &Value) -> String {
    match value {
        Value::String(text) => canonical_text(text),
        Value::Number(number) => canonical_number(number.as_f64().unwrap_or(f64::NAN)),
        other => other.to_string(),
    }
}

fn canonical_text(text: &str) -> String {
    let text = normal(text);
    let plain: String = text.chars().filter(|c| *c != ',').collect();
    match plain.trim_start_matches(['$', '€', '£']).trim().parse::<f64>() {
        Ok(number) => canonical_number(number),
        Err(_) if is_date(&text) => text[..10].to_owned(),
        Err(_) => text,
    }
}

fn canonical_number(number: f64) -> String {
    let rounded = format!("{number:.6}");
    rounded.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Numbers with the word before them, dates, and quoted names.
fn of_text(text: &str, found: &mut BTreeSet<Assertion>) {
    let mut add = |predicate: String, value: String| {
        found.insert(Assertion { subject: ANSWER.to_owned(), predicate, value });
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut before = "number".to_owned();
    for word in words {
        let bare = word.trim_matches(|c: char| c.is_ascii_punctuation() && c != '$' && c != '-');
        let value = canonical_text(bare);
        if is_date(bare) {
            add("date".to_owned(), value);
        } else if value.parse::<f64>().is_ok() {
            add(before.clone(), value);
        } else if !value.is_empty() {
            before = value;
        }
    }
    for quoted in text.split('"').skip(1).step_by(2).filter(|quoted| quoted.len() <= 80) {
        add("quoted".to_owned(), canonical_text(quoted));
    }
}

/// What runs of one request disagree on.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The request, in the user's words.
    pub goal: &'a str,
    /// `answer`, or the tool that was written with.
    pub subject: &'a str,
    /// The field of the answer or of the arguments.
    pub predicate: &'a str,
    /// What the runs say, in canonical form.
    pub values: &'a [String],
}

/// A look at the world that changes nothing, to settle what runs disagree on.
pub trait Verifier {
    /// The value that the `call`-th look supports, in any spelling; `None` when it tells nothing.
    fn look(&mut self, claim: Claim<'_>, call: u32) -> Result<Option<String>, MemoryError>;
}

/// Settles nothing: for jobs without tools.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoVerifier;

impl Verifier for NoVerifier {
    fn look(&mut self, _: Claim<'_>, _: u32) -> Result<Option<String>, MemoryError> {
        Ok(None)
    }
}

/// What is taken for true about one request.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Canon {
    claims: BTreeMap<(String, String), String>,
    pub(crate) verified: usize,
}

impl Canon {
    /// What one run claims that is known to be right; where it gives several values it claims none.
    pub(crate) fn of(run: &Episode) -> Self {
        let mut claims: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
        for a in &run.assertions {
            let key = (a.subject.clone(), a.predicate.clone());
            claims.entry(key).or_default().push(&a.value);
        }
        let one = |(key, values): ((String, String), Vec<&str>)| match values.as_slice() {
            [value] => Some((key, (*value).to_owned())),
            _ => None,
        };
        Self { claims: claims.into_iter().filter_map(one).collect(), verified: 0 }
    }

    /// The share of what a run claims or should claim that both agree on: a write beyond the others
    /// is as wrong as one that is missing. `None` when nothing is claimed.
    pub(crate) fn agreement(&self, run: &[Assertion]) -> Option<f64> {
        let beyond = run.iter().filter(|a| {
            let key = (a.subject.clone(), a.predicate.clone());
            a.subject != ANSWER && !self.claims.contains_key(&key)
        });
        let claims = self.claims.len() as f64;
        Some(self.matched(run)? * claims / (claims + beyond.count() as f64))
    }

    /// The share of the claims a run agrees with; `None` when nothing is claimed.
    pub(crate) fn matched(&self, run: &[Assertion]) -> Option<f64> {
        if self.claims.is_empty() {
            return None;
        }
        let agrees = |(key, value): &(&(String, String), &String)| {
            run.iter().any(|a| (&a.subject, &a.predicate) == (&key.0, &key.1) && a.value == **value)
        };
        Some(self.claims.iter().filter(agrees).count() as f64 / self.claims.len() as f64)
    }
}

/// The outcome of asking several runs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Settled {
    Canon(Canon),
    /// How many claims nobody could settle.
    Unresolved(usize),
}

/// Finds what the runs of one request agree on.
///
/// A claim counts when it bears weight: the teacher makes it, or at least half of the runs do. It is
/// agreed when the settings' share of those that make it give one value, from enough different
/// configurations, and the teacher gives no other one.
pub(crate) fn settle(
    runs: &[&Episode],
    settings: &AgreementSettings,
    verifier: &mut dyn Verifier,
) -> Result<Settled, MemoryError> {
    let mut claims: BTreeMap<(&str, &str), Vec<Mention<'_>>> = BTreeMap::new();
    for run in runs {
        let mut own: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
        for claim in &run.assertions {
            let key = (claim.subject.as_str(), claim.predicate.as_str());
            own.entry(key).or_default().insert(&claim.value);
        }
        for (key, values) in own {
            claims.entry(key).or_default().push((*run, values));
        }
    }
    let (mut canon, mut unresolved) = (Canon::default(), 0);
    for ((subject, predicate), said) in claims {
        let by_teacher = said.iter().any(|(run, _)| run.run.part == Part::Teacher);
        if !by_teacher && said.len() * 2 < runs.len() {
            continue;
        }
        let mut value = agreed(&said, settings);
        if value.is_none() {
            value = verified((subject, predicate), &said, settings, verifier)?;
            canon.verified += usize::from(value.is_some());
        }
        match value {
            Some(value) => {
                canon.claims.insert((subject.to_owned(), predicate.to_owned()), value);
            }
            None => unresolved += 1,
        }
    }
    Ok(if unresolved > 0 { Settled::Unresolved(unresolved) } else { Settled::Canon(canon) })
}

/// A run, and what it says under one key.
type Mention<'a> = (&'a Episode, BTreeSet<&'a str>);
type Said<'a> = [Mention<'a>];

/// Several values of one run under one key count as one, their set.
fn joined(values: &BTreeSet<&str>) -> String {
    values.iter().copied().collect::<Vec<_>>().join(" | ")
}

fn agreed(said: &Said<'_>, settings: &AgreementSettings) -> Option<String> {
    let mut votes: BTreeMap<String, Vec<&Episode>> = BTreeMap::new();
    for (run, values) in said {
        votes.entry(joined(values)).or_default().push(run);
    }
    let (value, voters) = votes.iter().max_by_key(|(_, voters)| voters.len())?;
    let configs: BTreeSet<_> = voters.iter().map(|run| run.run.config).collect();
    let enough = voters.len() as f64 >= settings.share * said.len() as f64 - 1e-9;
    let against =
        said.iter().any(|(run, values)| run.run.part == Part::Teacher && joined(values) != *value);
    let holds = enough && configs.len() >= settings.min_configs && !against;
    holds.then(|| value.clone())
}

fn verified(
    (subject, predicate): (&str, &str),
    said: &Said<'_>,
    settings: &AgreementSettings,
    verifier: &mut dyn Verifier,
) -> Result<Option<String>, MemoryError> {
    let claimed: BTreeSet<String> = said.iter().map(|(_, values)| joined(values)).collect();
    let values: Vec<String> = claimed.iter().cloned().collect();
    let goal = said.first().map_or("", |(run, _)| run.content.goal.as_str());
    let claim = Claim { goal, subject, predicate, values: &values };
    let mut supported = BTreeSet::new();
    for call in 0..settings.verifier_calls {
        supported.extend(verifier.look(claim, call)?.map(|value| canonical_text(&value)));
    }
    // Evidence for a value that no run gave refutes them all, and teaches nothing.
    let mut of_those = supported.iter().filter(|value| claimed.contains(*value));
    let only = of_those.next().filter(|_| supported.len() == 1);
    Ok(only.cloned())
}

#[cfg(test)]
mod tests;
