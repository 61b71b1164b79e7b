//! Tool runs: which call each answers, and those that no span tells of.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use understudy_ident::StepId;
use understudy_message::{Message, Role, ToolCall};
use understudy_trajectory::{Span, SpanBody, ToolRun};

use super::step_id;
use crate::telemetry::map::{Body, Draft};

/// Runs by the place of their draft, and the spans that had to be made.
#[derive(Debug, Default)]
pub(super) struct Runs {
    pub(super) told: BTreeMap<usize, (ToolRun, Option<Value>)>,
    pub(super) made: Vec<Span>,
}

struct Asked<'a> {
    call: &'a ToolCall,
    by: usize,
    is_answered: bool,
}

/// What the tool messages of a conversation say, by the call they answer, and who was told first.
type Answers<'a> = BTreeMap<&'a str, (&'a Message, usize)>;

pub(super) fn runs(drafts: &[Draft], members: &[usize]) -> Runs {
    let mut asked: Vec<Asked<'_>> = Vec::new();
    let mut answers = Answers::new();
    let mut seen = BTreeSet::new();
    for &at in members {
        let Body::Model(said) = &drafts[at].body else { continue };
        for message in said.input.iter().filter(|message| message.role == Role::Tool) {
            if let Some(id) = &message.tool_call_id {
                answers.entry(id).or_insert((message, at));
            }
        }
        for call in said.output.iter().flat_map(|message| &message.tool_calls) {
            if call.id.is_empty() || seen.insert(&call.id) {
                asked.push(Asked { call, by: at, is_answered: false });
            }
        }
    }
    let mut runs = Runs::default();
    let tools = members.iter().filter_map(|&at| match &drafts[at].body {
        Body::Tool(run) => Some((at, run)),
        Body::Model(_) | Body::Retrieval(_) | Body::Frame(_) => None,
    });
    let tools: Vec<(usize, &ToolRun)> = tools.collect();
    // Those that name their call choose first.
    let (named, unnamed): (Vec<_>, Vec<_>) =
        tools.into_iter().partition(|(_, run)| run.call_id.is_some());
    for (at, run) in named.into_iter().chain(unnamed) {
        let told = settle(run.clone(), drafts[at].record.started_ns, drafts, &mut asked, &answers);
        runs.told.insert(at, told);
    }
    let unanswered = asked.iter().filter(|asked| !asked.is_answered);
    runs.made = unanswered.filter_map(|asked| made(asked, drafts, &answers)).collect();
    runs
}

/// The run with its call's id, and its own arguments where they are spelled differently there.
fn settle(
    mut run: ToolRun,
    started_ns: u64,
    drafts: &[Draft],
    asked: &mut [Asked<'_>],
    answers: &Answers<'_>,
) -> (ToolRun, Option<Value>) {
    let exact = asked.iter().position(|asked| answers_call(&run, started_ns, asked, drafts, true));
    let found = exact.or_else(|| {
        asked.iter().position(|asked| answers_call(&run, started_ns, asked, drafts, false))
    });
    let Some(asked) = found.and_then(|place| asked.get_mut(place)) else { return (run, None) };
    asked.is_answered = true;
    run.call_id = Some(asked.call.id.clone()).filter(|id| !id.is_empty());
    let wanted = asked.call.function.arguments.clone();
    let own = run.arguments.replace(wanted);
    let differs = own.filter(|own| run.arguments.as_ref() != Some(own));
    if run.result.is_none() {
        run.result = answers.get(asked.call.id.as_str()).map(|(message, _)| message.text());
    }
    (run, differs.map(Value::from))
}

/// By the id it names; else by its name and arguments, or at the second look by its name alone.
fn answers_call(
    run: &ToolRun,
    started_ns: u64,
    asked: &Asked<'_>,
    drafts: &[Draft],
    exactly: bool,
) -> bool {
    if let Some(id) = &run.call_id {
        return asked.call.id == *id;
    }
    let function = &asked.call.function;
    !asked.is_answered
        && function.name == run.name
        && drafts[asked.by].record.started_ns <= started_ns
        && (!exactly || run.arguments.as_ref() == Some(&function.arguments))
}

/// A run that shows only in what was said: between the call and the first call told its result.
fn made(asked: &Asked<'_>, drafts: &[Draft], answers: &Answers<'_>) -> Option<Span> {
    let (answer, told) = answers.get(asked.call.id.as_str())?;
    let (by, told) = (&drafts[asked.by], &drafts[*told]);
    let record = &by.record;
    let name = asked.call.function.name.clone();
    let id = format!("run {} {} {}", record.trace_id, record.span_id, asked.call.id);
    let parent = record.parent.as_ref().map(|parent| step_id(&record.trace_id, parent));
    Some(Span {
        id: StepId::derived(&id),
        parent,
        name: name.clone(),
        trace_id: record.trace_id.clone(),
        span_id: asked.call.id.clone(),
        dialect: by.dialect.to_string(),
        started_ns: record.ended_ns,
        ended_ns: told.record.started_ns,
        error: None,
        body: SpanBody::Tool(ToolRun {
            name,
            call_id: Some(asked.call.id.clone()),
            arguments: Some(asked.call.function.arguments.clone()),
            result: Some(answer.text()),
            observed: false,
        }),
        extra: BTreeMap::new(),
    })
}
