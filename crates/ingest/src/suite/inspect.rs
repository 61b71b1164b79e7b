//! Logs of Inspect (`inspect_ai`), version 2: one JSON file, or an `.eval` archive of several.
//!
//! A sample becomes the case that was really asked: its messages up to the model's reply, so what a
//! solver put around the input is there; its epochs become attempts at the case. Scorers of Inspect
//! become checks that hold for the same answers: `match`, `includes`, `exact`, `answer` and `choice`
//! compare as theirs do, ignoring case unless the log says otherwise, and `model_graded_fact` and
//! `model_graded_qa` ask a judge. A scorer without a counterpart (`pattern`, a program, a grading of
//! one's own) is an error with its name, and so is a sample that took several turns, unless
//! [`Take`] says what is wanted of it: the last reply, or everything under the log's own scores.

mod archive;
mod check;
mod said;
mod score;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use understudy_manifest::{Case, Check, RecordedAnswer, Scorer};
use understudy_message::Message;

pub use archive::inspect_log;
use check::Named;
use said::{Asked, Said};
use score::Given;

use super::Take;
use crate::{IngestError, rows::Document};

#[derive(Debug, Deserialize)]
struct Log {
    version: u32,
    #[serde(default)]
    status: String,
    eval: Eval,
    #[serde(default)]
    samples: Vec<Sample>,
}

#[derive(Debug, Deserialize)]
struct Eval {
    task: String,
    #[serde(default)]
    run_id: String,
    #[serde(default)]
    model: String,
    #[serde(default)]
    scorers: Vec<Named>,
    #[serde(default)]
    config: Config,
}

#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    epochs_reducer: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Sample {
    id: Value,
    #[serde(default = "first")]
    epoch: u32,
    #[serde(default)]
    input: Value,
    #[serde(default)]
    target: Target,
    #[serde(default)]
    messages: Vec<Said>,
    #[serde(default)]
    output: Output,
    #[serde(default)]
    scores: Option<BTreeMap<String, Given>>,
    #[serde(default)]
    model_usage: BTreeMap<String, Usage>,
    /// Seconds.
    #[serde(default)]
    total_time: Option<f64>,
    #[serde(default)]
    attachments: BTreeMap<String, String>,
    #[serde(default)]
    error: Option<Failure>,
}

fn first() -> u32 {
    1
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Target {
    One(String),
    Many(Vec<String>),
}

impl Default for Target {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

#[derive(Debug, Default, Deserialize)]
struct Output {
    #[serde(default)]
    completion: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Usage {
    #[serde(default)]
    input_tokens: u32,
    #[serde(default)]
    output_tokens: u32,
    /// In dollars.
    #[serde(default)]
    total_cost: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Failure {
    #[serde(default)]
    message: String,
}

/// What a log holds.
#[derive(Debug, Default)]
pub(super) struct Samples {
    pub scorers: Vec<Scorer>,
    pub cases: Vec<Case>,
    pub answers: Vec<RecordedAnswer>,
    /// What a reader should know.
    pub notes: Vec<String>,
}

pub(super) fn samples(document: &Document<'_>, take: Take) -> Result<Samples, IngestError> {
    let (_, row) = document.rows().next().ok_or(IngestError::Empty)?;
    let log: Log = row
        .and_then(|row| serde_json::from_value(Value::Object(row)).map_err(|why| why.to_string()))
        .map_err(IngestError::Log)?;
    if log.version != 2 {
        let why = format!("it is of version {}, and only 2 is known", log.version);
        return Err(IngestError::Log(why));
    }
    let mut found = Samples { notes: log.notes(), ..Samples::default() };
    let mut names = BTreeSet::new();
    for (number, epochs) in log.by_id() {
        let read = log.read(&epochs, take, &mut found);
        read.map_err(|why| {
            let why = format!("sample {}: {why}", epochs[0].id);
            IngestError::Case { line: number, why }
        })?;
        let keys = epochs.iter().filter_map(|sample| sample.scored().ok());
        names.extend(keys.flat_map(BTreeMap::into_keys));
    }
    found.scorers = match take {
        Take::Scores => log.recorded(names)?,
        Take::Reply | Take::LastReply => vec![Scorer::Checks],
    };
    Ok(found)
}

impl Log {
    /// The epochs of every sample, with its number in the log.
    fn by_id(&self) -> Vec<(usize, Vec<&Sample>)> {
        let mut order: Vec<(usize, Vec<&Sample>)> = Vec::new();
        let mut places = BTreeMap::new();
        for (number, sample) in (1..).zip(&self.samples) {
            let place = *places.entry(sample.id.to_string()).or_insert(order.len());
            match order.get_mut(place) {
                Some((_, epochs)) => epochs.push(sample),
                None => order.push((number, vec![sample])),
            }
        }
        for (_, epochs) in &mut order {
            epochs.sort_by_key(|sample| sample.epoch);
        }
        order
    }

    fn notes(&self) -> Vec<String> {
        let unfinished = (!matches!(self.status.as_str(), "" | "success")).then(|| {
            format!("the run ended as `{}`; only its finished samples are here", self.status)
        });
        let several = self.samples.iter().any(|sample| sample.epoch > 1);
        let reducers = self.eval.config.epochs_reducer.iter().filter(|name| *name != "mean");
        let reducers: Vec<String> = reducers.map(|name| format!("`{name}`")).collect();
        let reduced = (several && !reducers.is_empty()).then(|| {
            format!(
                "the log reduces epochs by {}; here a case's score is the mean of its attempts, and \
                 reports have pass@k and pass^k beside it",
                reducers.join(" and ")
            )
        });
        unfinished.into_iter().chain(reduced).collect()
    }

    /// Those the log names, or in logs that do not, those that scored.
    fn scorers(&self, sample: &Sample) -> Result<Vec<Named>, String> {
        if !self.eval.scorers.is_empty() {
            return Ok(self.eval.scorers.clone());
        }
        let scored = sample.scores.iter().flat_map(BTreeMap::keys);
        let named: Vec<Named> =
            scored.map(|name| Named { name: name.clone(), options: None }).collect();
        if named.is_empty() { Err("nothing scored it".to_owned()) } else { Ok(named) }
    }

    /// The scores of the log as scorers, in the order in which it names theirs.
    fn recorded(&self, names: BTreeSet<String>) -> Result<Vec<Scorer>, IngestError> {
        let place = |name: &String| {
            let scorers = &self.eval.scorers;
            let of = |named: &Named| name.starts_with(named.plain());
            scorers.iter().position(of).unwrap_or(scorers.len())
        };
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort_by_key(place);
        if names.is_empty() {
            return Err(IngestError::Log("no sample has a score".to_owned()));
        }
        Ok(names.into_iter().map(Scorer::Recorded).collect())
    }

    /// One case with an attempt for each epoch; where the last reply is asked after different
    /// conversations, a case for each.
    fn read(&self, epochs: &[&Sample], take: Take, found: &mut Samples) -> Result<(), String> {
        let id = epochs[0].name()?;
        let asked: Vec<Asked> =
            epochs.iter().map(|sample| sample.asked(take)).collect::<Result<_, _>>()?;
        let answered = || epochs.iter().zip(&asked).filter(|(sample, _)| sample.error.is_none());
        let prompt = answered().map(|(_, asked)| &asked.prompt).next().unwrap_or(&asked[0].prompt);
        let differs = answered().any(|(_, asked)| asked.prompt != *prompt);
        if differs && take != Take::LastReply {
            return Err("its epochs were asked different things".to_owned());
        }
        for (attempt, (sample, asked)) in epochs.iter().zip(&asked).enumerate() {
            let (own, attempt) = if differs {
                (format!("{id}-epoch-{}", sample.epoch), 0)
            } else {
                (id.clone(), attempt)
            };
            if attempt == 0 {
                let prompt = if differs { &asked.prompt } else { prompt };
                let mut case = self.case(sample, (&own, prompt), take)?;
                case.cluster = differs.then(|| id.clone());
                found.cases.push(case);
            }
            let answer = sample.answer(asked, take, &self.eval.model)?;
            found.answers.push(RecordedAnswer { id: own, attempt, ..answer });
        }
        Ok(())
    }

    fn case(
        &self,
        sample: &Sample,
        (id, prompt): (&str, &[Message]),
        take: Take,
    ) -> Result<Case, String> {
        let Eval { task, run_id, .. } = &self.eval;
        let targets: Vec<String> = match &sample.target {
            Target::One(target) => vec![target.clone()],
            Target::Many(targets) => targets.clone(),
        };
        let checks: Vec<Check> = match take {
            Take::Scores => Vec::new(),
            Take::Reply | Take::LastReply => {
                let scorers = self.scorers(sample)?;
                scorers.iter().map(|one| one.check(&targets)).collect::<Result<_, _>>()?
            }
        };
        Ok(Case {
            id: id.to_owned(),
            prompt: prompt.to_vec(),
            expected: targets.first().cloned().unwrap_or_default(),
            checks,
            provenance: Some(format!("inspect {task} {run_id}").trim().to_owned()),
            ..Case::default()
        })
    }
}

impl Sample {
    fn name(&self) -> Result<String, String> {
        match &self.id {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            _ => Err("its id is neither text nor number".to_owned()),
        }
    }

    fn scored(&self) -> Result<BTreeMap<String, f64>, String> {
        self.scores.as_ref().map_or_else(|| Ok(BTreeMap::new()), score::all)
    }

    fn asked(&self, take: Take) -> Result<Asked, String> {
        // A sample that failed may have stopped before anything was said.
        if self.messages.is_empty() && self.error.is_some() {
            let given = match &self.input {
                Value::String(text) => vec![Message::user(text.as_str())],
                input => {
                    let said: Vec<Said> =
                        serde_json::from_value(input.clone()).map_err(|why| why.to_string())?;
                    said::messages(&said, &self.attachments)?
                }
            };
            return Ok(Asked { prompt: given, steps: Vec::new() });
        }
        Asked::of(&self.messages, &self.attachments, take)
    }

    /// What was said, what it took and what the log gives it for that.
    fn answer(&self, asked: &Asked, take: Take, model: &str) -> Result<RecordedAnswer, String> {
        if let Some(Failure { message }) = &self.error {
            let error = if message.is_empty() { "the sample failed" } else { message };
            return Ok(RecordedAnswer {
                error: Some(error.to_owned()),
                ..RecordedAnswer::default()
            });
        }
        let reply = asked.reply();
        let Some(last) = reply else {
            let error = Some("the sample has no reply".to_owned());
            return Ok(RecordedAnswer { error, ..RecordedAnswer::default() });
        };
        let replied = RecordedAnswer {
            output: last.text(),
            tool_calls: last.tool_calls.clone(),
            ..RecordedAnswer::default()
        };
        let (scores, steps) = match take {
            // What the log tells of time, tokens and scores is about all of its turns.
            Take::LastReply => return Ok(replied),
            Take::Scores => (self.scored()?, asked.steps.clone()),
            // Beside checks they are only compared with.
            Take::Reply => (self.scored().unwrap_or_default(), Vec::new()),
        };
        // An agent may hand in something else than what it said last.
        let handed = self.output.completion.clone().filter(|text| !text.trim().is_empty());
        let usage = self.usage(model);
        Ok(RecordedAnswer {
            output: handed.unwrap_or(replied.output),
            tool_calls: if steps.is_empty() { replied.tool_calls } else { Vec::new() },
            steps: if steps.len() > 1 { steps } else { Vec::new() },
            scores,
            cost: usage.and_then(|usage| Some((usage.total_cost? * 1e6).round() as u64)),
            latency_ms: self.total_time.unwrap_or_default() * 1e3,
            prompt_tokens: usage.map_or(0, |usage| usage.input_tokens),
            completion_tokens: usage.map_or(0, |usage| usage.output_tokens),
            ..RecordedAnswer::default()
        })
    }

    /// Of the model that is evaluated, beside which a grader may have spent some.
    fn usage(&self, model: &str) -> Option<&Usage> {
        let only = || self.model_usage.values().next().filter(|_| self.model_usage.len() == 1);
        self.model_usage.get(model).or_else(only)
    }
}

#[cfg(test)]
mod tests;
