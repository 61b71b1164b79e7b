//! Logs of Inspect (`inspect_ai`), version 2: one JSON file, or an `.eval` archive of several.
//!
//! A sample becomes the case that was really asked: its messages up to the only answer, so what a
//! solver put around the input is there. Scorers of Inspect become checks that hold for the same
//! answers: `match`, `includes`, `exact`, `answer` and `choice` compare as theirs do, ignoring case
//! unless the log says otherwise, and `model_graded_fact` and `model_graded_qa` ask a judge. A scorer
//! without a counterpart (`pattern`, a program, a grading of one's own) is an error with its name, and
//! so is a sample that took several turns.

use std::io::{Cursor, Read};

use serde::Deserialize;
use serde_json::{Map, Value};
use understudy_manifest::{Case, Check, Scorer};
use understudy_message::{Message, Role};
use zip::{CompressionMethod, ZipArchive, result::ZipError};

use crate::{IngestError, rows::Document};

/// Unpacked, no log is larger than this: an archive of a few kilobytes can name terabytes.
const UNPACKED_MAX: u64 = 1 << 30;
const ARCHIVE: &[u8] = b"PK\x03\x04";

/// The log as one JSON text, whether it was one or an archive.
pub fn inspect_log(bytes: &[u8]) -> Result<String, IngestError> {
    if !bytes.starts_with(ARCHIVE) {
        let text = std::str::from_utf8(bytes);
        return text.map(str::to_owned).map_err(|_| IngestError::Log("it is no text".to_owned()));
    }
    unpacked(bytes, UNPACKED_MAX).map_err(IngestError::Log)
}

fn unpacked(bytes: &[u8], most: u64) -> Result<String, String> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    let (mut left, mut header, mut samples) = (most, None, Vec::new());
    for index in 0..archive.len() {
        let raw = archive.by_index_raw(index).map_err(broken)?;
        let (name, method) = (raw.name().map_err(broken)?.into_owned(), raw.compression());
        drop(raw);
        let is_sample = name.strip_prefix("samples/").is_some_and(is_json);
        if !is_sample && name != "header.json" {
            continue;
        }
        let mut text = String::new();
        let read = if method == CompressionMethod::ZSTD {
            // Read by the zstd that is here anyway: the archive reader's own would be another.
            let packed = archive.by_index_raw(index).map_err(broken)?;
            zstd::Decoder::new(packed)
                .and_then(|file| file.take(left + 1).read_to_string(&mut text))
        } else {
            archive.by_index(index).map_err(broken)?.take(left + 1).read_to_string(&mut text)
        };
        read.map_err(|why| format!("{name}: {why}"))?;
        left = left
            .checked_sub(text.len() as u64)
            .ok_or_else(|| format!("it unpacks to more than {most} bytes"))?;
        let value: Value = serde_json::from_str(&text).map_err(|why| format!("{name}: {why}"))?;
        if is_sample {
            samples.push((name, value));
        } else {
            header = Some(value);
        }
    }
    let Some(Value::Object(mut log)) = header else {
        return Err("the archive has no header.json; was the run finished?".to_owned());
    };
    // An archive lists samples as they finished; their order must not show.
    samples.sort_by_key(|(a, _)| natural(a));
    log.insert("samples".to_owned(), samples.into_iter().map(|(_, value)| value).collect());
    Ok(Value::Object(log).to_string())
}

fn broken(why: ZipError) -> String {
    format!("the archive is damaged: {why}")
}

/// Digits as numbers, so that `samples/10_epoch_1.json` comes after the second.
fn natural(name: &str) -> Vec<(u64, String)> {
    let mut parts: Vec<(u64, String)> = Vec::new();
    let (mut digits, mut letters) = (String::new(), String::new());
    for letter in name.chars().chain(['/']) {
        if letter.is_ascii_digit() {
            digits.push(letter);
            continue;
        }
        if !digits.is_empty() {
            let number = digits.parse().unwrap_or(u64::MAX);
            parts.push((number, std::mem::take(&mut letters)));
            digits.clear();
        }
        letters.push(letter);
    }
    parts.push((0, letters));
    parts
}

#[derive(Debug, Deserialize)]
struct Log {
    version: u32,
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
    scorers: Vec<Named>,
}

#[derive(Debug, Clone, Deserialize)]
struct Named {
    name: String,
    #[serde(default)]
    options: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
struct Sample {
    id: Value,
    #[serde(default = "first")]
    epoch: u32,
    #[serde(default)]
    target: Target,
    #[serde(default)]
    messages: Vec<Said>,
    #[serde(default)]
    scores: Option<Map<String, Value>>,
    #[serde(default)]
    error: Option<Value>,
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

#[derive(Debug, Deserialize)]
struct Said {
    role: Role,
    content: Value,
    #[serde(default)]
    tool_calls: Option<Vec<Value>>,
}

/// Cases, and the answers of the first epoch.
pub(super) type Samples = (Vec<Case>, Vec<(String, String)>);

pub(super) fn samples(document: &Document<'_>) -> Result<Samples, IngestError> {
    let (_, row) = document.rows().next().ok_or(IngestError::Empty)?;
    let log: Log = row
        .and_then(|row| serde_json::from_value(Value::Object(row)).map_err(|why| why.to_string()))
        .map_err(IngestError::Log)?;
    if log.version != 2 {
        let why = format!("it is of version {}, and only 2 is known", log.version);
        return Err(IngestError::Log(why));
    }
    let (mut cases, mut answers) = (Vec::new(), Vec::new());
    for (number, sample) in (1..).zip(&log.samples).filter(|(_, sample)| sample.epoch == 1) {
        let read = log.scorers(sample).and_then(|scorers| sample.read(&log.eval, &scorers));
        let (case, answer) = read.map_err(|why| {
            let why = format!("sample {}: {why}", sample.id);
            IngestError::Case { line: number, why }
        })?;
        answers.extend(answer.map(|answer| (case.id.clone(), answer)));
        cases.push(case);
    }
    Ok((cases, answers))
}

impl Log {
    /// Those the log names, or in logs that do not, those that scored.
    fn scorers(&self, sample: &Sample) -> Result<Vec<Named>, String> {
        if !self.eval.scorers.is_empty() {
            return Ok(self.eval.scorers.clone());
        }
        let scored = sample.scores.iter().flat_map(Map::keys);
        let named: Vec<Named> =
            scored.map(|name| Named { name: name.clone(), options: None }).collect();
        if named.is_empty() { Err("nothing scored it".to_owned()) } else { Ok(named) }
    }
}

impl Sample {
    fn read(&self, eval: &Eval, scorers: &[Named]) -> Result<(Case, Option<String>), String> {
        let id = match &self.id {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return Err("its id is neither text nor number".to_owned()),
        };
        let targets: Vec<String> = match &self.target {
            Target::One(target) => vec![target.clone()],
            Target::Many(targets) => targets.clone(),
        };
        let (prompt, answer) = self.asked()?;
        let check = |scorer: &Named| scorer.check(&targets);
        let case = Case {
            id,
            prompt,
            expected: targets.first().cloned().unwrap_or_default(),
            checks: scorers.iter().map(check).collect::<Result<_, _>>()?,
            provenance: Some(format!("inspect {} {}", eval.task, eval.run_id).trim().to_owned()),
            ..Case::default()
        };
        Ok((case, answer.filter(|_| self.error.is_none())))
    }

    fn asked(&self) -> Result<(Vec<Message>, Option<String>), String> {
        let mut said = Vec::new();
        for Said { role, content, tool_calls } in &self.messages {
            if *role == Role::Tool || tool_calls.as_ref().is_some_and(|calls| !calls.is_empty()) {
                let why = "`messages` took several turns and tools; one reply is asked here";
                return Err(why.to_owned());
            }
            said.push(Message::new(*role, text(content)?));
        }
        let answer = match said.last() {
            Some(last) if last.role == Role::Assistant => said.pop().map(|last| last.text()),
            Some(_) => None,
            None => return Err("it has no messages; was it run?".to_owned()),
        };
        if said.iter().any(|message| message.role == Role::Assistant) {
            Err("`messages` took several turns; one reply is asked here".to_owned())
        } else {
            Ok((said, answer))
        }
    }
}

/// A text, or parts of text; a model's thoughts are no part of its answer.
fn text(content: &Value) -> Result<String, String> {
    match content {
        Value::String(text) => Ok(text.clone()),
        Value::Array(parts) => {
            let mut whole = String::new();
            for part in parts {
                match part["type"].as_str() {
                    Some("text") => whole.push_str(part["text"].as_str().unwrap_or_default()),
                    Some("reasoning") => {}
                    other => {
                        let kind = other.unwrap_or("unknown");
                        return Err(format!("a message has content of kind `{kind}`"));
                    }
                }
            }
            Ok(whole)
        }
        _ => Err("a message has no content".to_owned()),
    }
}

impl Named {
    fn check(&self, targets: &[String]) -> Result<Check, String> {
        let name = self.name.rsplit('/').next().unwrap_or_default();
        let option = |key: &str| self.options.as_ref().and_then(|options| options.get(key));
        let ignores_case = option("ignore_case").and_then(Value::as_bool).unwrap_or(true);
        let case = if ignores_case { "(?is)" } else { "(?s)" };
        let pattern = |text: String| Ok(Check::new(Scorer::Regex(None), Some(text)));
        if targets.is_empty() {
            return Err(format!("the scorer `{}` has no target to compare with", self.name));
        }
        let any = any_of(targets);
        match name {
            "match" if option("numeric").and_then(Value::as_bool).unwrap_or(false) => match targets
            {
                [target] => Ok(Check::new(Scorer::Number, Some(target.clone()))),
                _ => Err("a numeric `match` with several targets has no counterpart".to_owned()),
            },
            "match" => match option("location").and_then(Value::as_str).unwrap_or("end") {
                "begin" => pattern(format!("{case}^[\\s\\p{{P}}]*{any}")),
                "end" => pattern(format!("{case}{any}[\\s\\p{{P}}]*$")),
                "exact" => pattern(format!("{case}^[\\s\\p{{P}}]*{any}[\\s\\p{{P}}]*$")),
                "any" => pattern(format!("{case}{any}")),
                other => Err(format!("`match` at `{other}` has no counterpart")),
            },
            "includes" => pattern(format!("{case}{any}")),
            "exact" => match targets {
                [target] => Ok(Check::new(Scorer::Normalized, Some(target.clone()))),
                _ => pattern(format!("(?is)^[\\s\\p{{P}}]*{any}[\\s\\p{{P}}]*$")),
            },
            "model_graded_fact" | "model_graded_qa" => {
                let own = ["template", "instructions", "grade_pattern", "partial_credit"];
                let changes = |key: &&&str| option(key).is_some_and(|value| !is_unset(value));
                if let Some(key) = own.iter().find(changes) {
                    return Err(format!(
                        "the scorer `{}` has its own `{key}`, which has no counterpart here",
                        self.name
                    ));
                }
                let what = match name {
                    "model_graded_fact" => "The answer contains the content of this one",
                    _ => "The answer meets this criterion",
                };
                let holds = format!("{what}: {}", targets.join(" / "));
                Ok(Check::new(Scorer::Judge(None), Some(holds)))
            }
            "choice" | "answer" => {
                pattern(format!("(?i)answer\\s*:\\s*{any}(?:[^\\p{{L}}\\p{{N}}]|$)"))
            }
            _ => Err(format!(
                "the scorer `{}` has no counterpart here; import rows and name scorers of ours",
                self.name
            )),
        }
    }
}

/// Logs name options that nobody set.
fn is_unset(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(false))
}

/// One of the texts, taken literally.
fn any_of(texts: &[String]) -> String {
    let escaped: Vec<String> = texts.iter().map(|text| literal(text.trim())).collect();
    format!("(?:{})", escaped.join("|"))
}

fn literal(text: &str) -> String {
    let mut literal = String::new();
    for letter in text.chars() {
        if letter.is_ascii_punctuation() {
            literal.push('\\');
        }
        literal.push(letter);
    }
    literal
}

/// Inspect writes its names in lower case.
fn is_json(name: &str) -> bool {
    std::path::Path::new(name).extension().is_some_and(|extension| extension == "json")
}

#[cfg(test)]
mod tests;
