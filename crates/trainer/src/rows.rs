//! Examples as token rows, through the model's own chat template.
//!
//! A prompt becomes exactly the ids the server would feed the model, and a completion exactly the
//! ids the model would have to sample: its content and the stop token, and not the newline that
//! templates write behind it, which no sampler ever emits.

use serde_json::Value;
use understudy_manifest::{LabelExample, PairExample, SftExample};
use understudy_message::{Message, Role};
use understudy_model::{BaseModel, Conversation, Rendered};

use crate::error::{Result, TrainError};

/// A prompt and what was said after it. The loss is on the model's own tokens alone.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Row {
    ids: Vec<u32>,
    prompt: usize,
    /// For every token after the prompt, whether the model said it; empty when it said all of them.
    own: Vec<bool>,
    /// What is known of the trained tokens before training looks at them.
    pub known: Known,
}

/// Log-probabilities of a row's trained tokens from elsewhere, one for each; empty when unknown.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Known {
    /// Under the reference a stage holds on to.
    pub reference: Vec<f32>,
    /// Under the distribution the tokens were drawn from, as the sampler recorded them.
    pub sampler: Vec<f32>,
    /// Under the policy the ratio is to.
    pub old: Vec<f32>,
    /// Under the policy that began the stage.
    pub start: Vec<f32>,
}

impl Row {
    /// `prompt` and `completion` must not be empty: the first completion token is predicted from
    /// the last prompt token.
    pub(crate) fn new(prompt: &[u32], completion: &[u32]) -> Self {
        debug_assert!(!prompt.is_empty() && !completion.is_empty(), "a row needs both parts");
        Self { ids: [prompt, completion].concat(), prompt: prompt.len(), ..Self::default() }
    }

    /// Appends what the model read next and did not say itself: a tool's answer, the next question.
    pub(crate) fn hear(&mut self, ids: &[u32]) {
        self.own.resize(self.ids.len() - self.prompt, true);
        self.ids.extend(ids);
        self.own.resize(self.ids.len() - self.prompt, false);
    }

    /// Appends what the model said next.
    pub(crate) fn say(&mut self, ids: &[u32]) {
        self.own.resize(self.ids.len() - self.prompt, true);
        self.ids.extend(ids);
        self.own.resize(self.ids.len() - self.prompt, true);
    }

    /// Makes some of the last `count` tokens, which were said, ones that were only read.
    pub(crate) fn take_back(&mut self, count: usize, places: &[usize]) {
        if places.is_empty() {
            return;
        }
        self.own.resize(self.ids.len() - self.prompt, true);
        let first = self.own.len() - count;
        for place in places {
            self.own[first + place] = false;
        }
    }

    pub(crate) fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// How many tokens the prompt has.
    pub(crate) fn prompt_len(&self) -> usize {
        self.prompt
    }

    /// Positions of the trained tokens, ascending; none is the first of the row.
    pub(crate) fn trained(&self) -> impl Iterator<Item = usize> {
        let own = |position: &usize| self.own.get(position - self.prompt).is_none_or(|own| *own);
        (self.prompt..self.ids.len()).filter(own)
    }

    /// The trained tokens.
    pub(crate) fn said(&self) -> Vec<u32> {
        self.trained().map(|position| self.ids[position]).collect()
    }

    pub(crate) fn trained_tokens(&self) -> usize {
        if self.own.is_empty() {
            return self.ids.len() - self.prompt;
        }
        self.own.iter().filter(|own| **own).count()
    }
}

/// A shorter common beginning costs more to set apart than it saves.
const LEAST_SHARED: usize = 4;

/// What is never torn apart by batching.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Example {
    pub rows: Vec<Row>,
    pub kind: Kind,
}

/// What the rows of an example are to each other.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// Every row is to be imitated.
    Imitate,
    /// Two rows: the first is better than the second.
    Prefer,
    /// One row, which was wanted or not.
    Judge { wanted: bool, weight: f64 },
    /// Attempts at one prompt; each row with its advantage.
    Compare { advantages: Vec<Advantage> },
}

/// How much better than its group a row, or each of its trained tokens, is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Advantage {
    Row(f64),
    Tokens(Vec<f64>),
}

impl Example {
    pub(crate) fn imitate(rows: Vec<Row>) -> Self {
        Self { rows, kind: Kind::Imitate }
    }

    pub(crate) fn prefer(chosen: Row, rejected: Row) -> Self {
        Self { rows: vec![chosen, rejected], kind: Kind::Prefer }
    }

    /// Tokens every row begins with, which run once for all of them. Each row's last is not counted,
    /// because it predicts nothing; nor is a beginning too short to be worth setting apart.
    pub(crate) fn shared(&self) -> usize {
        let inputs = |row: &Row| row.ids.len() - 1;
        let [first, rest @ ..] = &self.rows[..] else { return 0 };
        let least = rest.iter().map(inputs).fold(inputs(first), usize::min);
        let same = |at: &usize| rest.iter().all(|row| row.ids[*at] == first.ids[*at]);
        match (0..least).take_while(same).count() {
            _ if rest.is_empty() => 0,
            tokens if tokens < LEAST_SHARED => 0,
            tokens => tokens,
        }
    }

    /// Tokens that run through the model: what all rows share runs once.
    pub(crate) fn tokens(&self) -> usize {
        let apart: usize = self.rows.iter().map(|row| row.ids.len()).sum();
        apart - self.shared() * self.rows.len().saturating_sub(1)
    }

    pub(crate) fn trained_tokens(&self) -> usize {
        self.rows.iter().map(Row::trained_tokens).sum()
    }

    /// Tokens that are to become likelier: those of every row, of a pair those of the chosen one.
    pub(crate) fn wanted_tokens(&self) -> usize {
        match self.kind {
            Kind::Prefer => self.rows[0].trained_tokens(),
            _ => self.trained_tokens(),
        }
    }
}

/// Examples that were given but not trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// A row was longer than the stage's `max_tokens` or than the model's context.
    pub too_long: u64,
    /// Chosen and rejected are the same tokens, or no attempt of a group is better than another.
    pub no_difference: u64,
    /// A logged group of different prompts, or whose sampler is unknown.
    pub unsound: u64,
}

impl LeftOut {
    pub fn total(self) -> u64 {
        self.too_long + self.no_difference + self.unsound
    }
}

/// Tokenised examples in the order given, and a count of those left out.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Examples {
    pub kept: Vec<Example>,
    pub left_out: LeftOut,
    /// Conversations whose history the template rewrites, so that every reply is a row of its own.
    pub rewritten: u64,
}

impl Examples {
    pub(crate) fn of_sft(base: &BaseModel, rows: &[SftExample], max_tokens: usize) -> Result<Self> {
        let mut examples = Self::default();
        for row in rows {
            let prompt = Prompt::new(base, (&row.prompt, &row.tools), &row.origin.trajectory)?;
            let rows = prompt.rows(base, &row.completion)?;
            examples.rewritten += u64::from(rows.len() > 1);
            examples.keep(Example::imitate(rows), base, max_tokens);
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
            let prompt = Prompt::new(base, (&pair.prompt, &pair.tools), &pair.origin.trajectory)?;
            let chosen = prompt.row(base, &pair.chosen)?;
            let rejected = prompt.row(base, &pair.rejected)?;
            if chosen == rejected {
                examples.left_out.no_difference += 1;
            } else {
                examples.keep(Example::prefer(chosen, rejected), base, max_tokens);
            }
        }
        Ok(examples)
    }

    pub(crate) fn of_labels(
        base: &BaseModel,
        labels: &[LabelExample],
        max_tokens: usize,
    ) -> Result<Self> {
        let mut examples = Self::default();
        for label in labels {
            let asked = (&label.prompt[..], &label.tools[..]);
            let prompt = Prompt::new(base, asked, &label.origin.trajectory)?;
            let rows = vec![prompt.row(base, &label.completion)?];
            let kind = Kind::Judge { wanted: label.label, weight: label.weight };
            examples.keep(Example { rows, kind }, base, max_tokens);
        }
        Ok(examples)
    }

    pub(crate) fn keep(&mut self, example: Example, base: &BaseModel, max_tokens: usize) {
        let most = max_tokens.min(base.decoder.config().max_positions);
        if example.rows.iter().any(|row| row.ids.len() > most) {
            self.left_out.too_long += 1;
        } else {
            self.kept.push(example);
        }
    }
}

/// A rendered prompt, to which one or several completions are set.
struct Prompt<'a> {
    messages: &'a [Message],
    /// Definitions of what may be called, which the template shows or a system message tells.
    tools: &'a [Value],
    text: Rendered,
    ids: Vec<u32>,
    trajectory: &'a str,
}

impl<'a> Prompt<'a> {
    fn new(
        base: &BaseModel,
        (messages, tools): (&'a [Message], &'a [Value]),
        trajectory: &'a str,
    ) -> Result<Self> {
        let text = base.render_chat(&Conversation { tools, ..Conversation::open(messages) })?;
        let ids = base.tokenizer.encode_rendered(&text)?;
        Ok(Self { messages, tools, text, ids, trajectory })
    }

    /// One row of the prompt and a single reply.
    fn row(&self, base: &BaseModel, completion: &[Message]) -> Result<Row> {
        if !matches!(completion, [Message { role: Role::Assistant, .. }]) {
            return Err(TrainError::NotOneReply { trajectory: self.trajectory.to_owned() });
        }
        Ok(Row::new(&self.ids, &self.reply(base, self.messages, &self.text, &completion[0])?))
    }

    /// One row of the prompt and everything said after it, when the template only appends: what the
    /// model reads before a later reply then begins with all of the row so far. A template that
    /// rewrites history (dropping earlier reasoning, say) gives a row for every reply instead.
    fn rows(&self, base: &BaseModel, completion: &[Message]) -> Result<Vec<Row>> {
        let last = completion.last().is_some_and(|message| message.role == Role::Assistant);
        let first = completion.first().is_some_and(|message| message.role == Role::Assistant);
        if !(first && last) {
            return Err(TrainError::NotOneReply { trajectory: self.trajectory.to_owned() });
        }
        let mut rows: Vec<Row> = Vec::new();
        let mut before = self.messages.to_vec();
        for message in completion {
            if message.role == Role::Assistant {
                let open = Conversation { tools: self.tools, ..Conversation::open(&before) };
                let text = base.render_chat(&open)?;
                let prompt = base.tokenizer.encode_rendered(&text)?;
                let reply = self.reply(base, &before, &text, message)?;
                match rows.last_mut() {
                    Some(row) if prompt.starts_with(&row.ids) => {
                        row.hear(&prompt[row.ids.len()..]);
                        row.say(&reply);
                    }
                    _ => rows.push(Row::new(&prompt, &reply)),
                }
            }
            before.push(message.clone());
        }
        Ok(rows)
    }

    /// The ids the model would have to sample to say `message` after `text`.
    ///
    /// The reply's text is encoded by itself because that is how it comes about when serving: after
    /// a prompt whose ids are already fixed, no token can reach across the border.
    fn reply(
        &self,
        base: &BaseModel,
        before: &[Message],
        text: &Rendered,
        message: &Message,
    ) -> Result<Vec<u32>> {
        let trajectory = || self.trajectory.to_owned();
        let whole = [before, std::slice::from_ref(message)].concat();
        let closed = Conversation { tools: self.tools, ..Conversation::closed(&whole) };
        let whole = base.render_chat(&closed)?;
        let reply = whole
            .strip_prefix(text)
            .ok_or_else(|| TrainError::PromptRewritten { trajectory: trajectory() })?;
        let mut ids = base.tokenizer.encode_rendered(&reply)?;
        let stop = ids
            .iter()
            .rposition(|id| base.tokenizer.is_eos(*id))
            .ok_or_else(|| TrainError::NoStopToken { trajectory: trajectory() })?;
        ids.truncate(stop + 1);
        Ok(ids)
    }
}

#[cfg(test)]
mod tests;
