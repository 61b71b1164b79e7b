//! An outcome as clients write it.

use serde::Deserialize;
use serde_json::Value;
use understudy_ident::{OutcomeId, Timestamp, kind};
use understudy_ingest::telemetry::FeedbackTarget;
use understudy_trajectory::{Context, Details, Level, Outcome, Signal, Source, Target};

use crate::auth::Caller;

/// At least one target, one signal.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Event {
    /// For idempotency; the same id is stored once.
    pub(super) id: Option<String>,
    pub(super) step_id: Option<String>,
    pub(super) response_id: Option<String>,
    /// Which of several choices of the response, from 0.
    pub(super) choice: Option<u32>,
    pub(super) span_id: Option<String>,
    pub(super) trace_id: Option<String>,
    pub(super) tool_call_id: Option<String>,
    pub(super) trajectory_id: Option<String>,
    pub(super) session_id: Option<String>,
    /// Which exchange of the session, from 1.
    pub(super) turn: Option<u32>,
    /// `accept`, `edit`, `regenerate`, `comparison`, `abandon`, `rating`, `verifier`, `flag`, `label`
    /// or `comment`.
    pub(super) signal: String,
    /// The edited text, for `edit`; what is said, for `comment`.
    pub(super) text: Option<String>,
    /// For `rating` and `verifier`, on the scale from `min` to `max`, which are 0 and 1 untold.
    pub(super) value: Option<f64>,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    /// The reply that was kept, for `regenerate` and `comparison`.
    pub(super) kept: Option<String>,
    /// The verifier's name, or what a `label` is a value of.
    pub(super) name: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) source: Option<Class>,
    /// Who or what judged, and its version.
    pub(super) source_id: Option<String>,
    pub(super) source_version: Option<String>,
    /// How sure they are, between 0 and 1.
    pub(super) confidence: Option<f64>,
    /// A category: all there is to a `label`, and beside the judgement for other signals.
    pub(super) label: Option<String>,
    pub(super) level: Option<Level>,
    /// Which message within the target, by the client's own name for it.
    pub(super) message_id: Option<String>,
    pub(super) context: Option<Context>,
    pub(super) at: Option<Timestamp>,
    pub(super) note: Option<String>,
    /// An event that this one takes the place of.
    pub(super) supersedes: Option<String>,
    /// Of browsers that cannot set a header.
    pub(super) token: Option<String>,
}

/// Who says so. A teacher is a program, whose name and version belong into the verifier's `name`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Class {
    Explicit,
    Implicit,
    Automated,
    Teacher,
}

/// An event, understood.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) outcome: Outcome,
    /// Not empty if telemetry has to tell what is meant, most exact first.
    pub(super) among: Vec<FeedbackTarget>,
    pub(super) supersedes: Option<OutcomeId>,
}

impl Event {
    pub(super) fn parse(value: Value) -> Result<Self, String> {
        serde_json::from_value(value).map_err(|why| why.to_string())
    }

    /// Narrows an event down to what the holder of a token may say.
    pub(super) fn sign(
        &mut self,
        check: impl FnOnce(&str) -> Result<(), &'static str>,
    ) -> Result<(), String> {
        let response = self.response_id.clone().ok_or("a signed event names its `response_id`")?;
        check(&response)?;
        let others = [&self.step_id, &self.span_id, &self.trace_id, &self.tool_call_id];
        let further = [&self.trajectory_id, &self.session_id, &self.supersedes];
        if others.into_iter().chain(further).any(Option::is_some) || self.turn.is_some() {
            return Err("a signed event is about its response and nothing else".to_owned());
        }
        if self.source_id.is_some() || self.source_version.is_some() {
            return Err("a signed event is its holder's own: it has no `source_id`".to_owned());
        }
        if matches!(self.source, Some(Class::Automated | Class::Teacher)) {
            return Err("a signed event is `explicit` or `implicit`".to_owned());
        }
        // Ids that browsers choose cannot meet those of others.
        self.id = self.id.take().map(|id| format!("signed {response} {id}"));
        Ok(())
    }

    /// What the caller says: ids are theirs, whatever they look like.
    pub(super) fn said(self, caller: &Caller, now: Timestamp) -> Result<Said, String> {
        if self.token.is_some() {
            return Err("a token is read at /v1/feedback/signed".to_owned());
        }
        let mut among = self.targets(caller)?;
        let signal = self.signal()?;
        let details = self.details()?;
        let target = match (among.as_slice(), among.first()) {
            ([only], _) => direct(only),
            _ => None,
        };
        if target.is_some() {
            among.clear();
        }
        let id = caller.id(&self.id.as_deref().map_or_else(OutcomeId::generate, outcome_id));
        let outcome = Outcome {
            // Where telemetry has to tell, this is a stand-in that is never stored.
            target: target.unwrap_or_else(|| Target::Step(String::new())),
            id,
            signal,
            source: match self.source {
                None | Some(Class::Explicit) => Source::Explicit,
                Some(Class::Implicit) => Source::Implicit,
                Some(Class::Automated | Class::Teacher) => Source::Automated,
            },
            at: self.at.unwrap_or(now),
            note: self.note,
            details,
        };
        let supersedes = self.supersedes.as_deref().map(|id| caller.id(&outcome_id(id)));
        if supersedes.as_ref() == Some(&outcome.id) {
            return Err("an event cannot supersede itself".to_owned());
        }
        Ok(Said { outcome, among, supersedes })
    }

    /// Every name of what is meant, the most exact first.
    fn targets(&self, caller: &Caller) -> Result<Vec<FeedbackTarget>, String> {
        let span = match (&self.span_id, &self.trace_id) {
            (Some(_), None) => return Err("`span_id` needs `trace_id`".to_owned()),
            (Some(span), Some(trace)) => {
                Some(FeedbackTarget::Span { trace: hex(trace), span: hex(span) })
            }
            (None, _) => None,
        };
        let response = match (&self.response_id, self.choice) {
            (None, Some(_)) => return Err("`choice` needs `response_id`".to_owned()),
            (Some(id), Some(choice)) if choice > 0 => Some(format!("{id}.{choice}")),
            (id, _) => id.clone(),
        };
        let trace = self.trace_id.as_deref().map(hex);
        let step = |id: &str| FeedbackTarget::Step(caller.id_text::<kind::Step>(id));
        let trajectory =
            |id: &str| FeedbackTarget::Trajectory(caller.id_text::<kind::Trajectory>(id));
        let session = match (self.session_id.clone(), self.turn) {
            (None, Some(_)) => return Err("`turn` needs `session_id`".to_owned()),
            (Some(_), Some(0)) => return Err("`turn` counts from 1".to_owned()),
            (Some(session), Some(turn)) => Some(FeedbackTarget::Turn { session, turn }),
            (session, None) => session.map(FeedbackTarget::Session),
        };
        let named = [
            self.step_id.as_deref().map(step),
            response.map(FeedbackTarget::Response),
            span,
            self.tool_call_id.clone().map(FeedbackTarget::ToolCall),
            trace.map(FeedbackTarget::Trace),
            self.trajectory_id.as_deref().map(trajectory),
            session,
        ];
        let named: Vec<FeedbackTarget> = named.into_iter().flatten().collect();
        match named.first() {
            None => Err("name at least one of step_id, response_id, trace_id and span_id, \
                         tool_call_id, trace_id, trajectory_id, session_id"
                .to_owned()),
            // Ids of our own making are waited for, so nothing less exact can be meant.
            Some(first) if direct(first).is_some() => Ok(vec![first.clone()]),
            Some(_) => Ok(named),
        }
    }

    fn signal(&self) -> Result<Signal, String> {
        let share = || {
            let (min, max) = (self.min.unwrap_or(0.0), self.max.unwrap_or(1.0));
            let scaled = self.value.map(|value| (value - min) / (max - min));
            scaled
                .filter(|value| (0.0..=1.0).contains(value))
                .ok_or_else(|| format!("`{}` needs a `value` between {min} and {max}", self.signal))
        };
        let text = |field: &str, value: &Option<String>| {
            value.clone().ok_or_else(|| format!("`{}` needs `{field}`", self.signal))
        };
        match self.signal.as_str() {
            "accept" => Ok(Signal::Accept),
            "edit" => Ok(Signal::Edit { text: text("text", &self.text)? }),
            "regenerate" => Ok(Signal::Regenerate { kept: self.kept.clone() }),
            // The target is the one that was shown beside it and not chosen.
            "comparison" => Ok(Signal::Regenerate { kept: Some(text("kept", &self.kept)?) }),
            "abandon" => Ok(Signal::Abandon),
            "rating" => Ok(Signal::Rating { value: share()? }),
            "verifier" => Ok(Signal::Verifier { name: text("name", &self.name)?, score: share()? }),
            "flag" => Ok(Signal::Flag { reason: text("reason", &self.reason)? }),
            "label" => Ok(remark(self.name.as_deref(), text("label", &self.label)?)),
            "comment" => Ok(remark(self.name.as_deref(), text("text", &self.text)?)),
            other => Err(format!(
                "unknown signal `{other}`: use accept, edit, regenerate, comparison, abandon, \
                 rating, verifier, flag, label or comment"
            )),
        }
    }

    fn details(&self) -> Result<Option<Box<Details>>, String> {
        if self.confidence.is_some_and(|sure| !(0.0..=1.0).contains(&sure)) {
            return Err("`confidence` is a number between 0 and 1".to_owned());
        }
        let details = Details {
            level: self.level,
            message_id: self.message_id.clone(),
            // There it is the signal itself.
            label: self.label.clone().filter(|_| self.signal != "label"),
            confidence: self.confidence,
            source_id: self.source_id.clone(),
            source_version: self.source_version.clone(),
            context: self.context.clone(),
        };
        Ok(details.told())
    }
}

fn remark(name: Option<&str>, text: String) -> Signal {
    Signal::Remark { name: name.unwrap_or("comment").to_owned(), text }
}

/// A client's own id may look like anything; ours is derived from it, always the same one.
pub(super) fn outcome_id(id: &str) -> OutcomeId {
    id.parse().unwrap_or_else(|_| OutcomeId::derived(id))
}

/// The target that a journal finds, and waits for, by itself.
fn direct(target: &FeedbackTarget) -> Option<Target> {
    match target {
        FeedbackTarget::Step(id) => Some(Target::Step(id.clone())),
        FeedbackTarget::Response(id) => Some(Target::Response(id.clone())),
        FeedbackTarget::Trajectory(id) => Some(Target::Trajectory(id.clone())),
        FeedbackTarget::Session(id) => Some(Target::Session(id.clone())),
        FeedbackTarget::Turn { session, turn } => {
            Some(Target::Turn { session: session.clone(), turn: *turn })
        }
        FeedbackTarget::Run(_)
        | FeedbackTarget::Span { .. }
        | FeedbackTarget::ToolCall(_)
        | FeedbackTarget::Trace(_) => None,
    }
}

/// OTLP's ids are hexadecimal in either case; those of others are left alone.
fn hex(id: &str) -> String {
    let is_otlp = [16, 32].contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_otlp { id.to_ascii_lowercase() } else { id.to_owned() }
}
