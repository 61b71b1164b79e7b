//! The redact stage: one masker per trajectory, so that a pseudonym means one person throughout it.
//!
//! Token ids are text that cannot be masked, so a group goes as a whole where any of it would be.

use std::{collections::BTreeMap, sync::Arc};

use understudy_message::{Message, ToolCall};
use understudy_redact::{Masker, Policy, Redactor};

use crate::{
    ledger::{Ledger, Tally},
    row::{Lesson, Row, RowKind},
};

/// Masks every row in place and returns how often each kind was replaced; drops the groups that
/// would have to be masked.
pub(crate) fn redact(
    rows: &mut Vec<Row>,
    policy: Policy,
    ledger: &mut Ledger,
) -> BTreeMap<String, u64> {
    let redactor = Redactor::new(policy);
    let (before, mut tally) = (rows.len(), Tally::default());
    rows.retain(|row| {
        let revealing = revealing(row, redactor);
        if let Some(what) = revealing {
            tally.add(what);
        }
        revealing.is_none()
    });
    let mut maskers: BTreeMap<String, Masker> = BTreeMap::new();
    // The rows of one step stand together and share its prompt.
    let mut shared: Option<(usize, Arc<[Message]>)> = None;
    for row in rows.iter_mut().filter(|row| row.kind() != RowKind::Groups) {
        let masker =
            maskers.entry(row.origin.trajectory.clone()).or_insert_with(|| redactor.masker());
        row.prompt = match &shared {
            Some((candidate, prompt)) if *candidate == row.candidate => prompt.clone(),
            _ => row.prompt.iter().map(|message| masked(message, masker)).collect(),
        };
        shared = Some((row.candidate, row.prompt.clone()));
        match &mut row.lesson {
            Lesson::Sft { completion } | Lesson::Label { completion, .. } => {
                *completion = masked(completion, masker);
            }
            Lesson::Pair { chosen, rejected } => {
                *chosen = masked(chosen, masker);
                *rejected = masked(rejected, masker);
            }
            Lesson::Group(_) => {}
        }
    }

    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for (kind, count) in maskers.values().flat_map(Masker::counts) {
        *counts.entry(kind.as_str().to_owned()).or_default() += count;
    }
    for (kind, count) in &counts {
        tally.add_many(kind, *count);
    }
    ledger.close("redact", before, rows.len(), tally);
    counts
}

/// What of a group would have to be masked, if anything.
fn revealing(row: &Row, redactor: Redactor) -> Option<&'static str> {
    let Lesson::Group(group) = &row.lesson else { return None };
    let is_open = |message: &Message| masked(message, &mut redactor.masker()) == *message;
    if !row.prompts().flatten().all(is_open) {
        Some("group_prompt_masked")
    } else if !group.replies.iter().all(is_open) {
        Some("group_reply_masked")
    } else {
        None
    }
}

fn masked(message: &Message, masker: &mut Masker) -> Message {
    let mut message = message.clone();
    message.content = message.content.map_text(|text| masker.mask(text));
    message.name = message.name.map(|name| masker.mask(&name));
    for ToolCall { function, .. } in &mut message.tool_calls {
        function.arguments = masker.mask(&function.arguments);
    }
    message
}
