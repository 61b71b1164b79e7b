//! Flat ragged rows: several sequences laid end to end, without padding.

use std::ops::Range;

use crate::{
    config::ModelConfig,
    error::{Result, refuse},
    lora::Lora,
};

/// The rows one sequence contributes to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First row of the sequence in the batch.
    pub start: usize,
    /// How many rows it has.
    pub len: usize,
    /// How many of its tokens come before these rows, in its cache or in spans it branches from;
    /// the first row is position `past`.
    pub past: usize,
    /// The earlier span of the same batch, from its first row to its last, that these rows
    /// continue. Several spans may branch from one, which then is computed once for all of them.
    pub after: Option<usize>,
}

impl Span {
    pub fn rows(&self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

/// Tokens of several sequences, one row each, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    pub tokens: Vec<u32>,
    pub spans: Vec<Span>,
}

impl Batch {
    /// Whole sequences, each from its first token.
    pub fn of<S: AsRef<[u32]>>(sequences: &[S]) -> Self {
        let mut batch = Self::default();
        for sequence in sequences {
            batch.push(sequence.as_ref(), 0);
        }
        batch
    }

    /// Appends one sequence's next tokens, `past` of which it already has cached.
    pub fn push(&mut self, tokens: &[u32], past: usize) -> Span {
        self.append(tokens, past, None)
    }

    /// Appends tokens that continue the whole of an earlier span of this batch, given by index.
    pub fn branch(&mut self, tokens: &[u32], after: usize) -> Span {
        let trunk = self.spans[after];
        self.append(tokens, trunk.past + trunk.len, Some(after))
    }

    fn append(&mut self, tokens: &[u32], past: usize, after: Option<usize>) -> Span {
        let span = Span { start: self.tokens.len(), len: tokens.len(), past, after };
        self.tokens.extend_from_slice(tokens);
        self.spans.push(span);
        span
    }

    /// Rows that hold what comes before a span, in order of position.
    pub(crate) fn trunk(spans: &[Span], index: usize) -> Vec<Range<usize>> {
        let mut trunk = Vec::new();
        let mut next = spans[index].after;
        while let Some(index) = next {
            trunk.push(spans[index].rows());
            next = spans[index].after;
        }
        trunk.reverse();
        trunk
    }

    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// The position of every row within its own sequence.
    pub fn positions(&self) -> Vec<usize> {
        self.spans.iter().flat_map(|span| span.past..span.past + span.len).collect()
    }

    pub(crate) fn check(&self, config: &ModelConfig) -> Result<()> {
        if self.tokens.is_empty() {
            return Err(refuse!(Batch, "it has no tokens"));
        }
        let mut next = 0;
        for (index, span) in self.spans.iter().enumerate() {
            if span.start != next || span.len == 0 {
                let start = span.start;
                return Err(refuse!(
                    Batch,
                    "sequence {index} starts at row {start}, not {next}, or is empty"
                ));
            }
            next += span.len;
            let joins = span.after.is_none_or(|after| {
                after < index && self.spans[after].past + self.spans[after].len == span.past
            });
            if !joins {
                return Err(refuse!(
                    Batch,
                    "sequence {index} does not begin where the one it branches from ends"
                ));
            }
            let end = span.past + span.len;
            if end > config.max_positions {
                let most = config.max_positions;
                return Err(refuse!(
                    Batch,
                    "sequence {index} reaches position {end}; the model has {most}"
                ));
            }
        }
        if next != self.tokens.len() {
            return Err(refuse!(Batch, "its sequences cover {next} of {} rows", self.tokens.len()));
        }
        match self.tokens.iter().find(|token| **token as usize >= config.vocab) {
            Some(token) => {
                Err(refuse!(Batch, "token {token} is not in a vocabulary of {}", config.vocab))
            }
            None => Ok(()),
        }
    }
}

/// Consecutive rows that share an adapter; `None` means the base model.
#[derive(Debug, Clone)]
pub struct AdapterRun<'a> {
    pub rows: Range<usize>,
    pub lora: Option<&'a Lora>,
}

impl<'a> AdapterRun<'a> {
    /// The same adapter for every row of a batch.
    pub fn whole(batch: &Batch, lora: Option<&'a Lora>) -> Vec<Self> {
        vec![Self { rows: 0..batch.rows(), lora }]
    }
}
