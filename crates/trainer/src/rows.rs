//! Examples as token rows, through the model's own chat template.
//!
//! A prompt becomes exactly the ids the server would feed the model, and a completion exactly the
//! ids the model would have to sample: its content and the stop token, and not the newline that
//! templates write behind it, which no sampler ever emits.

use understudy_manifest::{PairExample, SftExample};
use understudy_message::{Message, Role};
use understudy_model::BaseModel;

use crate::error::{Result, TrainError};

/// A prompt and its completion. The loss is on the completion alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    ids: Vec<u32>,
    prompt: usize,
}

impl Row {
    /// `prompt` and `completion` must not be empty: the first completion token is predicted from
    /// the last prompt token.
    pub(crate) fn new(prompt: &[u32], completion: &[u32]) -> Self {
        debug_assert!(!prompt.is_empty() && !completion.is_empty(), "a row needs both parts");
        Self { ids: [prompt, completion].concat(), prompt: prompt.len() }
    }

    pub(crate) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The trained tokens.
    pub(crate) fn completion(&self) -> &[u32] {
        &self.ids[self.prompt..]
    }

    /// How many tokens the prompt has.
    pub(crate) fn prompt_len(&self) -> usize {
        self.prompt
    }
}

/// What is never torn apart by batching: one row to imitate, or the two sides of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Example {
    Imitate(Row),
    Prefer { chosen: Row, rejected: Row },
}

impl Example {
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Row> {
        let (first, second) = match self {
            Self::Imitate(row) => (row, None),
            Self::Prefer { chosen, rejected } => (chosen, Some(rejected)),
        };
        [Some(first), second].into_iter().flatten()
    }

    /// The row whose tokens are to become likelier.
    pub(crate) fn wanted(&self) -> &Row {
        match self {
            Self::Imitate(row) => row,
            Self::Prefer { chosen, .. } => chosen,
        }
    }

    pub(crate) fn tokens(&self) -> usize {
        self.rows().map(|row| row.ids.len()).sum()
    }

    pub(crate) fn trained_tokens(&self) -> usize {
        self.rows().map(|row| row.completion().len()).sum()
    }
}

/// Examples that were given but not trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// A row was longer than the stage's `max_tokens` or than the model's context.
    pub too_long: u64,
    /// Chosen and rejected are the same tokens.
    pub no_difference: u64,
}

impl LeftOut {
    pub fn total(self) -> u64 {
        self.too_long + self.no_difference
    }
}

/// Tokenised examples in the order given, and a count of those left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Examples {
    pub kept: Vec<Example>,
    pub left_out: LeftOut,
}

impl Examples {
    pub(crate) fn of_sft(base: &BaseModel, rows: &[SftExample], max_tokens: usize) -> Result<Self> {
        let mut examples = Self::default();
        for row in rows {
            let prompt = Prompt::new(base, &row.prompt, &row.origin.trajectory)?;
            examples.keep(Example::Imitate(prompt.row(base, &row.completion)?), base, max_tokens);
        }
        Ok(examples)
    }

    pub(crate) fn of_pairs(
        base: &BaseModel,
        pairs: &[PairExample],
        max_tokens: usize,
    ) -> Result<Self> {
        let mut examples = Self::default();
        for pair in pairs {
            let prompt = Prompt::new(base, &pair.prompt, &pair.origin.trajectory)?;
            let chosen = prompt.row(base, &pair.chosen)?;
            let rejected = prompt.row(base, &pair.rejected)?;
            if chosen == rejected {
                examples.left_out.no_difference += 1;
            } else {
                examples.keep(Example::Prefer { chosen, rejected }, base, max_tokens);
            }
        }
        Ok(examples)
    }

    fn keep(&mut self, example: Example, base: &BaseModel, max_tokens: usize) {
        let most = max_tokens.min(base.decoder.config().max_positions);
        if example.rows().any(|row| row.ids.len() > most) {
            self.left_out.too_long += 1;
        } else {
            self.kept.push(example);
        }
    }
}

/// A rendered prompt, to which one or several completions are set.
struct Prompt<'a> {
    messages: &'a [Message],
    text: String,
    ids: Vec<u32>,
    trajectory: &'a str,
}

impl<'a> Prompt<'a> {
    fn new(base: &BaseModel, messages: &'a [Message], trajectory: &'a str) -> Result<Self> {
        let text = base.template.render(messages, None, true)?;
        let ids = base.tokenizer.encode(&text)?;
        Ok(Self { messages, text, ids, trajectory })
    }

    /// The completion's text is encoded by itself because that is how it comes about when serving:
    /// after a prompt whose ids are already fixed, no token can reach across the border.
    fn row(&self, base: &BaseModel, completion: &[Message]) -> Result<Row> {
        let trajectory = || self.trajectory.to_owned();
        if !matches!(completion, [Message { role: Role::Assistant, .. }]) {
            return Err(TrainError::NotOneReply { trajectory: trajectory() });
        }
        let whole = [self.messages, completion].concat();
        let text = base.template.render(&whole, None, false)?;
        let reply = text
            .strip_prefix(&self.text)
            .ok_or_else(|| TrainError::PromptRewritten { trajectory: trajectory() })?;
        let mut ids = base.tokenizer.encode(reply)?;
        let stop = ids
            .iter()
            .rposition(|id| base.tokenizer.is_eos(*id))
            .ok_or_else(|| TrainError::NoStopToken { trajectory: trajectory() })?;
        ids.truncate(stop + 1);
        Ok(Row::new(&self.ids, &ids))
    }
}

#[cfg(test)]
mod tests;
