//! What was said about a call or a conversation: LangSmith's feedback, Langfuse's scores, GenAI's
//! evaluation events and OpenInference's annotations.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use understudy_ident::Digest;
use understudy_manifest::canonical_json;
use understudy_trajectory::{Details, Signal, Source};

use super::{
    Decoded, Item, LogRecord, SpanRecord, TelemetryError, langsmith::nanoseconds, map::Bag,
};

/// One statement, before its target is known to have arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    /// The source's own id, or the digest of what was said: the same statement counts once.
    pub id: String,
    /// The most exact first; the first that can be found is meant.
    pub targets: Vec<FeedbackTarget>,
    pub name: String,
    pub verdict: Verdict,
    pub source: Source,
    /// Nanoseconds since 1970, 0 for none.
    pub at_ns: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", content = "id", rename_all = "snake_case")]
pub enum FeedbackTarget {
    /// A step by the id that our own server or an assembly gave it.
    Step(String),
    Response(String),
    /// A span, by its own id alone, as LangSmith names runs.
    Run(String),
    Span {
        trace: String,
        span: String,
    },
    /// The model call that asked for this tool call.
    ToolCall(String),
    Trace(String),
    Trajectory(String),
    Session(String),
    /// An exchange of a session, from 1.
    Turn {
        session: String,
        turn: u32,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// In [0, 1], 1 being best.
    Score(f64),
    /// What should have been answered.
    Correction(String),
    /// In our own words already.
    Signal(Signal),
}

/// `POST /feedback`: one, or a list.
pub(crate) fn langsmith(body: &[u8]) -> Result<Decoded, TelemetryError> {
    each(body, read_langsmith)
}

/// `POST /api/public/scores`: one, or a list.
pub(crate) fn langfuse(body: &[u8]) -> Result<Decoded, TelemetryError> {
    each(body, |value| read_langfuse(value).map(|one| vec![one]))
}

fn each(
    body: &[u8],
    read: impl Fn(&Value) -> Result<Vec<Feedback>, String>,
) -> Result<Decoded, TelemetryError> {
    let body: Value =
        serde_json::from_slice(body).map_err(|why| TelemetryError::Json(why.to_string()))?;
    let list = match body {
        Value::Array(list) => list,
        one => vec![one],
    };
    let mut decoded = Decoded::default();
    for value in &list {
        match read(value) {
            Ok(read) => {
                decoded.items.extend(read.into_iter().map(|one| Item::Feedback(Box::new(one))));
            }
            Err(why) => decoded.rejected.push(why),
        }
    }
    Ok(decoded)
}

/// Our own `POST /v1/feedback`, as far as its targets are to be found among telemetry.
pub(crate) fn understudy(body: &[u8]) -> Result<Decoded, TelemetryError> {
    each(body, |value| {
        let one = serde_json::from_value(value.clone()).map_err(|why| why.to_string())?;
        Ok(vec![one])
    })
}

/// A score and a correction are two statements.
pub(crate) fn read_langsmith(value: &Value) -> Result<Vec<Feedback>, String> {
    let fields = Fields::of(value)?;
    let kind = value.pointer("/feedback_source/type").and_then(Value::as_str);
    let first = Feedback {
        id: fields.id(value),
        targets: fields.run_or_trace()?,
        name: fields.text("key").unwrap_or_default(),
        verdict: Verdict::Score(0.0),
        source: match kind {
            Some("model" | "auto_eval") => Source::Automated,
            _ => Source::Explicit,
        },
        at_ns: fields.time("created_at"),
        note: fields.text("comment"),
        details: None,
    };
    let label = fields.label("value");
    let mut list = Vec::new();
    let range = value.get("feedback_config").filter(|config| !config.is_null());
    let bound = |name: &str| range.and_then(|range| range.get(name)?.as_f64());
    if let Some(score) = fields.score("score", bound("min"), bound("max"))? {
        let details = Details { label: fields.text("value"), ..Details::default() }.told();
        list.push(Feedback { verdict: Verdict::Score(score), details, ..first.clone() });
    } else if let Some(label) = label {
        list.push(Feedback { verdict: remark(&first.name, label), ..first.clone() });
    }
    let correction = value.get("correction").filter(|correction| !correction.is_null());
    if let Some(correction) = correction {
        let text = correction.as_str().or_else(|| correction.get("text")?.as_str());
        let text = text.map_or_else(|| canonical_json(correction), str::to_owned);
        let id = format!("{} correction", first.id);
        list.push(Feedback { id, verdict: Verdict::Correction(text), ..first.clone() });
    }
    if list.is_empty() {
        let why = "a feedback has none of a score, a value, a correction and a comment";
        let comment = first.note.clone().ok_or(why)?;
        list.push(Feedback { verdict: remark(&first.name, comment), note: None, ..first });
    }
    Ok(list)
}

fn read_langfuse(value: &Value) -> Result<Feedback, String> {
    let fields = Fields::of(value)?;
    let name = fields.text("name").unwrap_or_default();
    let (verdict, note) = langfuse_verdict(&fields, &name)?;
    let trace = fields.text("traceId");
    let span = trace.clone().zip(fields.text("observationId"));
    let mut targets: Vec<FeedbackTarget> =
        span.map(|(trace, span)| FeedbackTarget::Span { trace, span }).into_iter().collect();
    targets.extend(trace.map(FeedbackTarget::Trace));
    targets.extend(fields.text("sessionId").map(FeedbackTarget::Session));
    if targets.is_empty() {
        return Err("a score names no target: give `traceId` or `sessionId`".to_owned());
    }
    Ok(Feedback {
        id: fields.id(value),
        targets,
        name,
        verdict,
        source: match fields.text("source").as_deref() {
            Some("EVAL") => Source::Automated,
            _ => Source::Explicit,
        },
        at_ns: fields.time("timestamp"),
        note,
        details: None,
    })
}

fn langfuse_verdict(fields: &Fields<'_>, name: &str) -> Result<(Verdict, Option<String>), String> {
    let comment = fields.text("comment");
    let said = fields.text("value");
    let kind = fields.text("dataType").or_else(|| said.as_ref().map(|_| "TEXT".to_owned()));
    match (kind.as_deref(), fields.text("stringValue").or(said)) {
        (Some("CORRECTION"), Some(text)) => Ok((Verdict::Correction(text), comment)),
        // The number beside a category is on a scale that nobody tells.
        (Some("CATEGORICAL" | "TEXT"), Some(text)) => Ok((remark(name, text), comment)),
        _ => match (fields.score("value", None, None)?, comment) {
            (Some(score), comment) => Ok((Verdict::Score(score), comment)),
            (None, Some(comment)) => Ok((remark(name, comment), None)),
            (None, None) => Err("a score has neither a `value` nor a comment".to_owned()),
        },
    }
}

/// A GenAI evaluation event, about the response it names or the span it happened in.
pub(crate) fn of_log(log: &LogRecord) -> Option<Feedback> {
    if log.name != "gen_ai.evaluation.result" {
        return None;
    }
    let mut bag = Bag::new(log.attributes.clone());
    let name = bag.text("gen_ai.evaluation.name").unwrap_or_default();
    let score = bag.take("gen_ai.evaluation.score.value").and_then(|score| score.as_f64());
    let (verdict, label) = judged(score, bag.text("gen_ai.evaluation.score.label"), &name)?;
    let response = bag.text("gen_ai.response.id").map(FeedbackTarget::Response);
    let mut targets: Vec<FeedbackTarget> = response.into_iter().collect();
    if !log.span_id.is_empty() {
        let (trace, span) = (log.trace_id.clone(), log.span_id.clone());
        targets.push(FeedbackTarget::Span { trace, span });
    }
    Some(Feedback {
        id: Digest::of(canonical_json(log).as_bytes()).to_hex(),
        targets,
        name,
        verdict,
        source: Source::Automated,
        at_ns: log.at_ns,
        note: bag.text("gen_ai.evaluation.explanation"),
        details: Details { label, ..Details::default() }.told(),
    })
}

/// OpenInference's annotations: about the one span that a carrier links to, or about the span itself.
pub(crate) fn of_span(span: &SpanRecord) -> Vec<Feedback> {
    if !span.attributes.keys().any(|name| name.starts_with("annotations.")) {
        return Vec::new();
    }
    let mut bag = Bag::new(span.attributes.clone());
    let target = match span.links.as_slice() {
        [(trace, of)] => FeedbackTarget::Span { trace: trace.clone(), span: of.clone() },
        _ => FeedbackTarget::Span { trace: span.trace_id.clone(), span: span.span_id.clone() },
    };
    let read = |(place, item): (usize, Value)| {
        let item = item.get("annotation")?;
        let text = |name: &str| item.get(name).and_then(Value::as_str).map(str::to_owned);
        let score = item.get("score").and_then(Value::as_f64);
        let name = text("name").unwrap_or_default();
        let (verdict, label) = judged(score, text("label"), &name)?;
        Some(Feedback {
            id: format!("{} {} {place}", span.trace_id, span.span_id),
            targets: vec![target.clone()],
            name,
            verdict,
            source: match text("annotator_kind").as_deref() {
                Some("HUMAN") => Source::Explicit,
                _ => Source::Automated,
            },
            at_ns: span.started_ns,
            note: text("explanation"),
            details: Details { label, ..Details::default() }.told(),
        })
    };
    bag.list("annotations").into_iter().enumerate().filter_map(read).collect()
}

/// A score, with the label beside it, or a label alone.
fn judged(
    score: Option<f64>,
    label: Option<String>,
    name: &str,
) -> Option<(Verdict, Option<String>)> {
    match (score.map(|score| in_range(score, None, None)), label) {
        (Some(Ok(score)), label) => Some((Verdict::Score(score), label)),
        (None, Some(label)) => Some((remark(name, label), None)),
        // A number of an untold scale is no judgement, whatever it is called.
        (Some(Err(_)) | None, _) => None,
    }
}

fn remark(name: &str, text: String) -> Verdict {
    let name = if name.is_empty() { "comment" } else { name };
    Verdict::Signal(Signal::Remark { name: name.to_owned(), text })
}

/// The fields of one statement.
struct Fields<'a>(&'a Map<String, Value>);

impl<'a> Fields<'a> {
    fn of(value: &'a Value) -> Result<Self, String> {
        value.as_object().map(Self).ok_or_else(|| "a feedback is no JSON object".to_owned())
    }

    fn text(&self, name: &str) -> Option<String> {
        let found = self.0.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        found.map(str::to_owned)
    }

    /// A category, as text or as whatever JSON it is.
    fn label(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            other => Some(canonical_json(other)),
        }
    }

    fn time(&self, name: &str) -> u64 {
        self.text(name).map_or(0, |text| nanoseconds(&text))
    }

    fn id(&self, value: &Value) -> String {
        self.text("id").unwrap_or_else(|| Digest::of(canonical_json(value).as_bytes()).to_hex())
    }

    fn run_or_trace(&self) -> Result<Vec<FeedbackTarget>, String> {
        let run = self.text("run_id").map(FeedbackTarget::Run);
        let trace = self.text("trace_id").map(FeedbackTarget::Trace);
        let found: Vec<FeedbackTarget> = run.into_iter().chain(trace).collect();
        if found.is_empty() {
            return Err("a feedback names no run and no trace".to_owned());
        }
        Ok(found)
    }

    fn score(&self, name: &str, min: Option<f64>, max: Option<f64>) -> Result<Option<f64>, String> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(f64::from(u8::from(*flag)))),
            Some(Value::Number(number)) => {
                in_range(number.as_f64().unwrap_or(f64::NAN), min, max).map(Some)
            }
            Some(_) => Err(format!("`{name}` is neither a number nor a truth value")),
        }
    }
}

/// A score on its own scale, in [0, 1]. Of a scale nobody told, only that range is believed.
fn in_range(score: f64, min: Option<f64>, max: Option<f64>) -> Result<f64, String> {
    let scaled = match (min, max) {
        (Some(min), Some(max)) if max > min => (score - min) / (max - min),
        _ => score,
    };
    if (0.0..=1.0).contains(&scaled) {
        return Ok(scaled);
    }
    Err(format!("the score {score} is outside [0, 1] and its scale is not told"))
}
