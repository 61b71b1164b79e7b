//! The redact stage: one masker per trajectory, so that a pseudonym means one person throughout it.
//!
//! Token ids are text that cannot be masked, so a group goes as a whole where any of it would be.
//!
//! What account records say of a trajectory's subjects is known before its first word.
//!
//! With a recogniser names are masked as well. It is asked about every text; where it cannot tell,
//! the trajectory is left out: a row that may hold a name is no row.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde_json::Value;
use understudy_message::Message;
use understudy_redact::{Masker, Named, Policy, Recogniser, RecogniserError, Redactor};

use crate::{
    Accounts, DatasetError, accounts,
    ledger::{Ledger, Tally},
    row::{Lesson, Row},
    selection::Selected,
};

/// Trajectories whose subjects have names in the account records,
pub(crate) const ON_RECORD: &str = "trajectories_with_names_on_record";
/// and those whose subjects have none, or that have no subject.
pub(crate) const NOT_ON_RECORD: &str = "trajectories_without_names_on_record";

/// Who knows or finds names, if anybody.
#[derive(Clone, Copy, Default)]
pub(crate) struct Names<'a> {
    pub(crate) recogniser: Option<&'a dyn Recogniser>,
    pub(crate) accounts: Option<&'a Accounts>,
}

impl Names<'_> {
    /// What a manifest says that was masked by.
    pub(crate) fn beside(self, policy: Policy) -> String {
        let names = self.recogniser.map(Recogniser::id);
        let accounts = self.accounts.map(|_| accounts::ID);
        [policy.id()].into_iter().chain(names).chain(accounts).collect::<Vec<_>>().join("+")
    }
}

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Names").field(&self.beside(Policy::Standard)).finish()
    }
}

/// How often each kind was replaced so far, and how many groups would have had to be.
#[derive(Debug)]
pub(crate) struct Masking<'a> {
    names: Names<'a>,
    redactor: Redactor,
    counts: BTreeMap<String, u64>,
    tally: Tally,
}

impl<'a> Masking<'a> {
    pub(crate) fn new(policy: Policy, names: Names<'a>) -> Self {
        let redactor = Redactor::new(policy);
        Self { names, redactor, counts: BTreeMap::new(), tally: Tally::default() }
    }

    /// Whether anybody has to be asked for names.
    pub(crate) fn recognises(&self) -> bool {
        self.names.recogniser.is_some()
    }

    /// Tells a masker the names in messages; false where they cannot be known.
    pub(crate) fn learn<'m>(
        &self,
        messages: impl IntoIterator<Item = &'m Message>,
        masker: &mut Masker,
    ) -> Result<bool, DatasetError> {
        let Some(recogniser) = self.names.recogniser else { return Ok(true) };
        for text in messages.into_iter().flat_map(texts) {
            match recogniser.names(&text) {
                Ok(names) => names.into_iter().for_each(|named| know(recogniser, named, masker)),
                Err(RecogniserError::Unusable { .. }) => return Ok(false),
                Err(why) => return Err(DatasetError::Recogniser(why)),
            }
        }
        Ok(true)
    }

    /// The first row with its names in it: what suites, which keep theirs, are compared with.
    pub(crate) fn asked(&self, rows: &[Row]) -> Option<Row> {
        let has_names = self.recognises() || self.names.accounts.is_some();
        let mut first = rows.first().filter(|_| has_names).cloned()?;
        mask(std::slice::from_mut(&mut first), &mut self.redactor.masker());
        Some(first)
    }

    /// Counts the steps of a trajectory that is left out.
    pub(crate) fn quarantine(&mut self, steps: usize) {
        self.tally.add_many("steps_with_names_unknown", steps as u64);
    }

    /// Counts whether anything was on record about a trajectory's subjects.
    pub(crate) fn count_known(&mut self, is_known: bool) {
        if self.names.accounts.is_some() {
            self.tally.add(if is_known { ON_RECORD } else { NOT_ON_RECORD });
        }
    }

    /// A masker for rows of these candidates, which must come in their order: it knows what is on
    /// record about their subjects. And whether anything is.
    pub(crate) fn knowing(
        &self,
        selected: &Selected,
        steps: impl IntoIterator<Item = usize>,
    ) -> (Masker, bool) {
        let mut masker = self.redactor.masker();
        let subjects = steps.into_iter().filter_map(|nth| selected.facts[nth].subject);
        let any = self.names.accounts.is_some_and(|known| known.tell(subjects, &mut masker));
        (masker, any)
    }

    /// Ends it.
    pub(crate) fn count(&mut self, masker: &Masker) {
        for (kind, count) in masker.counts() {
            *self.counts.entry(kind.as_str().to_owned()).or_default() += count;
        }
    }

    /// Whether a group can stay, which goes as a whole where any of it would have to be masked.
    pub(crate) fn admits(&mut self, selected: &Selected, row: &Row) -> Result<bool, DatasetError> {
        let (mut masker, _) = self.knowing(selected, row.steps());
        let revealing = if self.learn(row.messages(), &mut masker)? {
            revealing(row, &masker)
        } else {
            Some("group_with_names_unknown")
        };
        if let Some(what) = revealing {
            self.tally.add(what);
        }
        Ok(revealing.is_none())
    }

    /// Closes the stage and returns how often each kind was replaced.
    pub(crate) fn close(
        mut self,
        before: usize,
        after: usize,
        ledger: &mut Ledger,
    ) -> BTreeMap<String, u64> {
        for (kind, count) in &self.counts {
            self.tally.add_many(kind, *count);
        }
        ledger.close("redact", before, after, self.tally);
        self.counts
    }
}

/// Tells a masker a name and what else it is spelt as, which is the same pseudonym.
fn know(recogniser: &dyn Recogniser, named: Named, masker: &mut Masker) {
    for spelling in recogniser.spellings(&named) {
        let other = Named { kind: named.kind, text: spelling.to_owned() };
        masker.know_as(other, &named.text);
    }
    masker.know(named);
}

/// Masks the rows of one step in place, what they share once.
pub(crate) fn mask(rows: &mut [Row], masker: &mut Masker) {
    let Some(first) = rows.first() else { return };
    let prompt: Arc<[Message]> =
        first.prompt.iter().map(|message| masked(message, masker)).collect();
    let tools: Arc<[Value]> = first.tools.iter().map(|tool| masker.mask_json(tool)).collect();
    for row in rows {
        row.prompt = Arc::clone(&prompt);
        row.tools = Arc::clone(&tools);
        match &mut row.lesson {
            Lesson::Sft { completion } | Lesson::Label { completion, .. } => {
                *completion = masked(completion, masker);
            }
            Lesson::Pair { chosen, rejected, .. } => {
                *chosen = masked(chosen, masker);
                *rejected = masked(rejected, masker);
            }
            Lesson::Group(_) | Lesson::Prompt => {}
        }
    }
}

/// What of a group would have to be masked, if anything.
fn revealing(row: &Row, masker: &Masker) -> Option<&'static str> {
    let Lesson::Group(group) = &row.lesson else { return None };
    let is_open = |message: &Message| masked(message, &mut masker.clone()) == *message;
    let is_plain = |tool: &Value| masker.clone().mask_json(tool) == *tool;
    if !row.prompts().flatten().all(is_open) || !row.tools.iter().all(is_plain) {
        Some("group_prompt_masked")
    } else if !group.replies.iter().all(is_open) {
        Some("group_reply_masked")
    } else {
        None
    }
}

fn masked(message: &Message, masker: &mut Masker) -> Message {
    message.map_text(|text| masker.mask(text))
}

/// What is said in a message, text by text; of JSON its keys and values, which are what is masked.
fn texts(message: &Message) -> Vec<String> {
    let mut texts = Vec::new();
    drop(message.content.map_text(|text| {
        texts.push(values(text));
        String::new()
    }));
    texts.extend(message.name.clone());
    texts.extend(message.tool_calls.iter().map(|call| values(&call.function.arguments)));
    texts.retain(|text| !text.trim().is_empty());
    texts
}

fn values(text: &str) -> String {
    match serde_json::from_str::<Value>(text) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => {
            let mut lines = Vec::new();
            gather(&value, &mut lines);
            lines.join("\n")
        }
        _ => text.to_owned(),
    }
}

fn gather(value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::String(text) => lines.push(values(text)),
        Value::Array(items) => items.iter().for_each(|item| gather(item, lines)),
        Value::Object(fields) => fields.iter().for_each(|(key, item)| {
            lines.push(key.clone());
            gather(item, lines);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
