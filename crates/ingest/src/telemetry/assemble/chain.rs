//! Which spans are one conversation, and which model call goes on from which.
//!
//! In the order of trust: the session's name, the trace, the response a request names, what was
//! said so far, and the ids of tool calls. *What was said so far* is a hash over each prefix of the
//! input: a call goes on from the one whose input and output together are the longest prefix of its
//! own input. Instrumentations without sessions make a trace of each call, and this is all there is.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use understudy_ident::Digest;
use understudy_manifest::canonical_json;
use understudy_message::{Message, Part, Role};
use understudy_trajectory::{Fidelity, FrameRole};

use super::{Counts, id_of};
use crate::telemetry::map::{Body, Draft, Said};

/// How long after a call another may go on from it without naming it.
const WINDOW_NS: u64 = 24 * 60 * 60 * 1_000_000_000;

/// Tool call ids shorter than this are counters (`call_0`), which say nothing across traces.
const UNIQUE_ID: usize = 12;

/// Spans by conversation.
#[derive(Debug)]
pub(super) struct Groups {
    parent: Vec<usize>,
}

impl Groups {
    /// Finds the groups, and writes into each model call which one it continues.
    pub(super) fn find(drafts: &mut [Draft], counts: &mut Counts) -> Self {
        let mut groups = Self { parent: (0..drafts.len()).collect() };
        groups.join_by(drafts, |draft| draft.session.as_ref());
        // Spans of one trace that name different sessions are different conversations.
        let unnamed = |draft: &'_ Draft| draft.session.is_none();
        groups.join_by(drafts, |draft| unnamed(draft).then_some(&draft.record.trace_id));
        groups.join_repeated(drafts);
        let mut index = Index::default();
        for at in 0..drafts.len() {
            let Body::Model(said) = &drafts[at].body else { continue };
            let prefixes = prefixes(&said.input);
            let found = index.earlier(drafts, at, &prefixes, &mut groups, counts);
            index.add(at, said, &prefixes);
            let id = found.map(|earlier| {
                groups.join(earlier, at);
                id_of(&drafts[earlier])
            });
            if let Body::Model(said) = &mut drafts[at].body {
                said.call.continues = id;
            }
        }
        groups
    }

    /// The members of each group, in the order of the drafts.
    pub(super) fn into_members(mut self) -> Vec<Vec<usize>> {
        let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for at in 0..self.parent.len() {
            members.entry(self.root(at)).or_default().push(at);
        }
        members.into_values().collect()
    }

    fn join_by<'a>(&mut self, drafts: &'a [Draft], name: impl Fn(&'a Draft) -> Option<&'a String>) {
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        for (at, draft) in drafts.iter().enumerate() {
            if let Some(name) = name(draft) {
                let earlier = *first.entry(name).or_insert(at);
                self.join(earlier, at);
            }
        }
    }

    /// An account that was demoted belongs to the conversation of the fuller one.
    fn join_repeated(&mut self, drafts: &[Draft]) {
        let named = drafts.iter().enumerate();
        let fuller: BTreeMap<&str, usize> =
            named.rev().filter_map(|(at, draft)| Some((response(draft)?.0.as_str(), at))).collect();
        for (at, draft) in drafts.iter().enumerate() {
            let repeats = draft.extra.get(REPEATS).and_then(Value::as_str);
            if let Some(&fuller) = repeats.and_then(|id| fuller.get(id)) {
                self.join(fuller, at);
            }
        }
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.parent[a.max(b)] = a.min(b);
    }

    fn root(&mut self, mut at: usize) -> usize {
        while self.parent[at] != at {
            self.parent[at] = self.parent[self.parent[at]];
            at = self.parent[at];
        }
        at
    }
}

/// The model calls seen so far, by what a later one may name.
#[derive(Debug, Default)]
struct Index {
    responses: BTreeMap<String, usize>,
    said: BTreeMap<Digest, Vec<usize>>,
    tool_calls: BTreeMap<String, Vec<usize>>,
    traces: BTreeMap<String, usize>,
}

impl Index {
    fn add(&mut self, at: usize, said: &Said, prefixes: &[Digest]) {
        if let Some(id) = &said.call.response_id {
            self.responses.insert(id.clone(), at);
        }
        for choice in &said.output {
            if let Some(before) = prefixes.last().filter(|_| !said.input.is_empty()) {
                self.said.entry(extended(before, choice)).or_default().push(at);
            }
            for call in choice.tool_calls.iter().filter(|call| !call.id.is_empty()) {
                self.tool_calls.entry(call.id.clone()).or_default().push(at);
            }
        }
    }

    fn earlier(
        &mut self,
        drafts: &[Draft],
        at: usize,
        prefixes: &[Digest],
        groups: &mut Groups,
        counts: &mut Counts,
    ) -> Option<usize> {
        let Body::Model(said) = &drafts[at].body else { return None };
        // The last call of the trace, which this one then becomes.
        let trace = drafts[at].record.trace_id.clone();
        let before = self.traces.insert(trace, at);
        let named = said.call.previous_response_id.as_ref();
        if let Some(&earlier) = named.and_then(|id| self.responses.get(id)) {
            return Some(earlier);
        }
        for prefix in prefixes.iter().rev() {
            let candidates = self.said.get(prefix).map(Vec::as_slice).unwrap_or_default();
            let fits = |&&earlier: &&usize| may_continue(&drafts[earlier], &drafts[at]);
            let candidates: Vec<usize> = candidates.iter().filter(fits).copied().collect();
            if !candidates.is_empty() {
                return choose(&candidates, at, groups, counts);
            }
        }
        let answered = said.input.iter().rev().filter(|message| message.role == Role::Tool);
        for id in answered.filter_map(|message| message.tool_call_id.as_ref()) {
            let asked = self.tool_calls.get(id).map(Vec::as_slice).unwrap_or_default();
            let known =
                |&&earlier: &&usize| is_unique(id) || groups.root(earlier) == groups.root(at);
            let asked: Vec<usize> = asked.iter().filter(known).copied().collect();
            if !asked.is_empty() {
                return choose(&asked, at, groups, counts);
            }
        }
        // Where nothing of what was said is told, the order in time is all there is.
        let is_untold = said.call.content == Fidelity::Absent;
        before.filter(|&earlier| is_untold && may_continue(&drafts[earlier], &drafts[at]))
    }
}

/// The latest candidate of the same conversation; of others only if all are of one conversation.
fn choose(
    candidates: &[usize],
    at: usize,
    groups: &mut Groups,
    counts: &mut Counts,
) -> Option<usize> {
    let own = groups.root(at);
    let inside = candidates.iter().rev().find(|&&earlier| groups.root(earlier) == own);
    if inside.is_some() {
        return inside.copied();
    }
    let (last, rest) = candidates.split_last()?;
    let root = groups.root(*last);
    if rest.iter().all(|&earlier| groups.root(earlier) == root) {
        return Some(*last);
    }
    counts.ambiguous += 1;
    None
}

/// Whether a tool call's id says something across traces.
pub(crate) fn is_unique(id: &str) -> bool {
    id.len() >= UNIQUE_ID
}

/// Two conversations that are named apart are not joined by what they have in common.
fn may_continue(earlier: &Draft, later: &Draft) -> bool {
    let differ =
        |a: &Option<String>, b: &Option<String>| matches!((a, b), (Some(a), Some(b)) if a != b);
    let gap = later.record.started_ns.saturating_sub(earlier.record.started_ns);
    !differ(&earlier.session, &later.session)
        && !differ(&earlier.subject, &later.subject)
        && gap <= WINDOW_NS
}

/// The digest of the first message, of the first two, and so on.
pub(crate) fn prefixes(messages: &[Message]) -> Vec<Digest> {
    let mut prefixes = Vec::with_capacity(messages.len());
    let mut so_far = Digest::of(b"");
    for message in messages {
        so_far = extended(&so_far, message);
        prefixes.push(so_far);
    }
    prefixes
}

pub(crate) fn extended(before: &Digest, message: &Message) -> Digest {
    let said = canonical_json(&gist(message));
    Digest::of_parts([before.as_bytes().as_slice(), said.as_bytes()])
}

/// What a message says, without what instrumentations tell or leave out at will: ids, names and
/// thoughts.
fn gist(message: &Message) -> Value {
    let is_thought = |value: &Value| value.get("type").and_then(Value::as_str) == Some("reasoning");
    let parts = message.content.parts().iter().filter_map(|part| match part {
        Part::Text(text) => Some(Value::from(text.trim())),
        Part::Other(value) => Some(value.clone()).filter(|value| !is_thought(value)),
    });
    let calls = message.tool_calls.iter().map(|c| json!([c.function.name, c.function.arguments]));
    json!([message.role.as_str(), parts.collect::<Vec<_>>(), calls.collect::<Vec<_>>()])
}

/// Of two accounts of one call, the fuller one stays a model call and the other becomes a frame.
/// Servers that give every answer the same id make no two calls one: what was said has to agree.
pub(super) fn demote_repeated(drafts: &mut [Draft]) -> usize {
    let mut best: BTreeMap<String, (Fidelity, usize)> = BTreeMap::new();
    for (at, draft) in drafts.iter().enumerate() {
        if let Some((id, said)) = response(draft) {
            let account = (said.call.content, at);
            let known = best.entry(id.clone()).or_insert(account);
            *known = account.min(*known);
        }
    }
    let repeated = |(at, draft): (usize, &Draft)| {
        let (id, said) = response(draft)?;
        let (_, kept) = *best.get(id)?;
        let (_, fuller) = response(&drafts[kept])?;
        let agrees = said.call.content == Fidelity::Absent || gists(said) == gists(fuller);
        (kept != at && agrees).then(|| (at, id.clone()))
    };
    let repeated: Vec<(usize, String)> = drafts.iter().enumerate().filter_map(repeated).collect();
    for (at, id) in &repeated {
        drafts[*at].extra.insert(REPEATS.to_owned(), Value::from(id.clone()));
        drafts[*at].body = Body::Frame(FrameRole::Other);
    }
    repeated.len()
}

/// Where a demoted account says whose it is.
const REPEATS: &str = "understudy.repeats_response";

fn response(draft: &Draft) -> Option<(&String, &Said)> {
    match &draft.body {
        Body::Model(said) => Some((said.call.response_id.as_ref()?, said)),
        Body::Tool(_) | Body::Retrieval(_) | Body::Frame(_) => None,
    }
}

fn gists(said: &Said) -> Vec<Value> {
    said.input.iter().chain(&said.output).map(gist).collect()
}
