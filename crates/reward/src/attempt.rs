//! What is scored.

use serde_json::{Value, json};
use understudy_message::{Message, Role};

/// One completion of one prompt, and what is known about the right answer.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    pub prompt: &'a [Message],
    /// What followed the prompt: one assistant message, or a whole trajectory with tool results.
    pub completion: &'a [Message],
    pub expected: Option<&'a Message>,
    /// The data set's row, for programs that verify; `null` if there is none.
    pub record: &'a Value,
    /// Tokens the model produced, over all its messages.
    pub completion_tokens: usize,
}

impl Attempt<'_> {
    /// The text of the last assistant message, which is what rules look at; empty without one.
    pub fn answer(&self) -> String {
        self.said().next_back().map(Message::text).unwrap_or_default()
    }

    /// The assistant's messages in order.
    pub fn said(&self) -> impl DoubleEndedIterator<Item = &Message> {
        self.completion.iter().filter(|message| message.role == Role::Assistant)
    }

    /// Everything known, as a program or a judge reads it.
    pub(crate) fn to_json(self) -> Value {
        json!({
            "prompt": self.prompt,
            "completion": self.completion,
            "expected": self.expected,
            "record": self.record,
            "completion_tokens": self.completion_tokens,
        })
    }
}
