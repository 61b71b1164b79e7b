//! The redact stage: one masker per trajectory, so that a pseudonym means one person throughout it.
//!
//! Token ids are text that cannot be masked, so a group goes as a whole where any of it would be.

use std::{collections::BTreeMap, sync::Arc};

use understudy_message::{Message, ToolCall};
use understudy_redact::{Masker, Policy, Redactor};

use crate::{
    ledger::{Ledger, Tally},
    row::{Lesson, Row},
};

/// How often each kind was replaced so far, and how many groups would have had to be.
#[derive(Debug)]
pub(crate) struct Masking {
    redactor: Redactor,
    counts: BTreeMap<String, u64>,
    tally: Tally,
}

impl Masking {
    pub(crate) fn new(policy: Policy) -> Self {
        Self { redactor: Redactor::new(policy), counts: BTreeMap::new(), tally: Tally::default() }
    }

    /// Starts a trajectory. Its rows must come in the order of their candidates.
    pub(crate) fn trajectory(&self) -> Masker {
        self.redactor.masker()
    }

    /// Ends it.
    pub(crate) fn count(&mut self, masker: &Masker) {
        for (kind, count) in masker.counts() {
            *self.counts.entry(kind.as_str().to_owned()).or_default() += count;
        }
    }

    /// Whether a group can stay, which goes as a whole where any of it would have to be masked.
    pub(crate) fn admits(&mut self, row: &Row) -> bool {
        let revealing = revealing(row, self.redactor);
        if let Some(what) = revealing {
            self.tally.add(what);
        }
        revealing.is_none()
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

/// Masks the rows of one step in place, the prompt they share once.
pub(crate) fn mask(rows: &mut [Row], masker: &mut Masker) {
    let Some(first) = rows.first() else { return };
    let prompt: Arc<[Message]> =
        first.prompt.iter().map(|message| masked(message, masker)).collect();
    for row in rows {
        row.prompt = Arc::clone(&prompt);
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
