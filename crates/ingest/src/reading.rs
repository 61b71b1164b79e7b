//! A document in the middle of being read.

use std::collections::BTreeMap;

use serde_json::Value;
use understudy_ident::{Digest, StepId, TaskName, Timestamp, TrajectoryId};
use understudy_inference::{FinishReason, Served, Timing, Usage};
use understudy_message::Message;
use understudy_trajectory::Step;

use crate::{
    Attempt, Group, Imported, Rejected, Row, atif,
    example::{Reader, Telemetry},
    record::{Record, record_example, record_understudy},
    tau,
    telemetry::{Encoding, Item, Payload, assemble, decode, media, span_step_id, steps},
};

/// What has been found so far.
pub(crate) struct Reading<'a> {
    reader: Reader<'a>,
    task: &'a TaskName,
    at: Timestamp,
    imported: Imported,
    groups: BTreeMap<String, Vec<Attempt>>,
    items: Vec<Item>,
    /// The row that first told of a step or a statement, for what is said about it later.
    told_in: BTreeMap<String, usize>,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(reader: Reader<'a>, task: &'a TaskName, at: Timestamp) -> Self {
        let imported = Imported::default();
        let (groups, items, told_in) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        Self { reader, task, at, imported, groups, items, told_in }
    }

    pub(crate) fn take(&mut self, line: usize, row: Row) -> Result<(), String> {
        match self.reader {
            Reader::Examples(examples) => {
                let example = examples.read(&row)?;
                self.keep(record_example(example, self.task, self.at));
            }
            Reader::Understudy => {
                let mut media = BTreeMap::new();
                self.keep(record_understudy(row, self.task, &mut media)?);
                self.imported.media.append(&mut media);
            }
            Reader::TauBench => {
                let tau::Trial { steps, outcome, problem, attempt } =
                    tau::read(&row, self.task, self.at)?;
                self.imported.steps.extend(steps);
                self.imported.outcomes.push(outcome);
                self.groups.entry(problem).or_default().push(attempt);
            }
            Reader::Atif => self.imported.steps.extend(atif::read(&row, self.task, self.at)?),
            Reader::Telemetry(kind) => self.telemetry(line, row, kind)?,
        }
        Ok(())
    }

    pub(crate) fn refuse(&mut self, line: usize, why: String) {
        self.imported.rejected.push(Rejected { line, why });
    }

    pub(crate) fn finish(mut self) -> Imported {
        let groups = std::mem::take(&mut self.groups).into_iter();
        let groups = groups.map(|(name, attempts)| Group { name, attempts });
        self.imported.groups = groups.filter(|group| group.attempts.len() > 1).collect();
        let assembled = assemble(&std::mem::take(&mut self.items));
        for conversation in &assembled.conversations {
            let found = steps(conversation, self.task);
            self.imported.steps.extend(found.steps);
            for (step, why) in found.left_out {
                self.refuse_told(step.as_str(), format!("a model call was left out: {why}"));
            }
        }
        self.imported.outcomes.extend(assembled.outcomes);
        self.keep_media(assembled.blobs);
        for feedback in assembled.pending {
            self.refuse_told(&feedback.id, "feedback on a run that is not in this file".to_owned());
        }
        self.imported.rejected.sort_by_key(|rejected| rejected.line);
        self.imported
    }

    fn keep(&mut self, record: Record) {
        self.imported.steps.extend(record.step);
        self.imported.outcomes.extend(record.outcome);
    }

    /// What a step refers to; framework spans leave other blobs.
    fn keep_media(&mut self, mut blobs: BTreeMap<Digest, Vec<u8>>) {
        for digest in self.imported.steps.iter().flat_map(media) {
            self.imported.media.extend(blobs.remove(&digest).map(|bytes| (digest, bytes)));
        }
    }

    fn telemetry(&mut self, line: usize, row: Row, kind: Telemetry) -> Result<(), String> {
        let payload = match kind {
            Telemetry::Langsmith => Payload::LangsmithRuns,
            Telemetry::Otlp if row.contains_key("resourceLogs") => {
                Payload::OtlpLogs(Encoding::Json)
            }
            Telemetry::Otlp => Payload::OtlpTraces(Encoding::Json),
        };
        let body = Value::Object(row).to_string();
        let decoded = decode(&payload, body.as_bytes()).map_err(|why| why.to_string())?;
        for why in decoded.rejected {
            self.refuse(line, why);
        }
        for item in &decoded.items {
            let name = match item {
                Item::Span(span) => span_step_id(&span.trace_id, &span.span_id).to_string(),
                Item::Log(log) => span_step_id(&log.trace_id, &log.span_id).to_string(),
                Item::Feedback(feedback) => feedback.id.clone(),
                Item::Served(step) => step.id.to_string(),
            };
            self.told_in.entry(name).or_insert(line);
        }
        self.items.extend(decoded.items);
        Ok(())
    }

    fn refuse_told(&mut self, name: &str, why: String) {
        let line = self.told_in.get(name).copied().unwrap_or(1);
        self.refuse(line, why);
    }
}

/// What the steps of one recorded trajectory have in common.
pub(crate) struct Recording<'a> {
    pub(crate) task: &'a TaskName,
    /// The digest of all that was recorded: equal recordings are one trajectory.
    pub(crate) digest: Digest,
    pub(crate) subject: Option<String>,
    pub(crate) session: Option<String>,
    /// Definitions of what could be called throughout.
    pub(crate) tools: Vec<Value>,
}

impl Recording<'_> {
    pub(crate) fn trajectory(&self) -> TrajectoryId {
        TrajectoryId::derived(&self.digest.to_hex())
    }

    /// The `place`th reply of it.
    pub(crate) fn step(
        &self,
        place: usize,
        prompt: Vec<Message>,
        reply: Message,
        model: &str,
        at: Timestamp,
    ) -> Step {
        let name = self.digest.to_hex();
        let finish_reason =
            if reply.tool_calls.is_empty() { FinishReason::Stop } else { FinishReason::ToolCalls };
        Step {
            id: StepId::derived(&format!("{name} {place}")),
            trajectory: self.trajectory(),
            task: self.task.clone(),
            session: self.session.clone(),
            subject: self.subject.clone(),
            metadata: BTreeMap::new(),
            response_id: format!("import-{}-{place}", &name[..32]),
            at,
            prompt,
            tools: self.tools.clone(),
            reply,
            finish_reason,
            assignment: None,
            served: Served { base: model.to_owned(), adapter: None },
            usage: Usage::default(),
            timing: Timing::default(),
            tokens: None,
            error: None,
        }
    }
}

/// The time of the `place`th step of a recording that tells no times: a millisecond apart, since
/// steps are put in order by their times.
pub(crate) fn nth_time(at: Timestamp, place: usize) -> Timestamp {
    let place = i64::try_from(place).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(at.as_millisecond().saturating_add(place)).unwrap_or(at)
}
