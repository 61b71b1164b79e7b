//! Texts that may not come, however they would be cut into tokens.

use std::{ops::Range, sync::Arc};

use understudy_model::Tokenizer;

/// What every id adds to a text, in order, so that ids that begin alike lie together.
#[derive(Debug)]
pub(crate) struct Spellings {
    sorted: Vec<(Vec<u8>, u32)>,
}

impl Spellings {
    /// Ids that are not shown spell nothing.
    pub(crate) fn of(tokenizer: &Tokenizer, show_special: bool) -> Self {
        let shown = |id: &u32| show_special || !tokenizer.is_special(*id);
        let spelled = |id: u32| Some((tokenizer.token_bytes(id)?.to_vec(), id));
        let ids = (0..tokenizer.vocab_size() as u32).filter(shown);
        let mut sorted: Vec<(Vec<u8>, u32)> = ids.filter_map(spelled).collect();
        sorted.sort_unstable();
        Self { sorted }
    }

    /// Where the ids lie whose text begins with `start`.
    fn beginning_with(&self, start: &[u8]) -> Range<usize> {
        let from = self.sorted.partition_point(|(bytes, _)| bytes.as_slice() < start);
        let more = self.sorted[from..].partition_point(|(bytes, _)| bytes.starts_with(start));
        from..from + more
    }
}

/// The forbidden texts of one request and how far the completion has come towards them.
#[derive(Debug, Clone)]
pub(crate) struct BadWords {
    spellings: Arc<Spellings>,
    words: Arc<[Vec<u8>]>,
    /// Ids that hold a forbidden text whole, ascending.
    whole: Arc<[u32]>,
    /// The end of the text so far, as long as could matter.
    tail: Vec<u8>,
}

impl BadWords {
    pub(crate) fn new(words: &[String], spellings: Arc<Spellings>) -> Self {
        let words: Vec<Vec<u8>> = words.iter().map(|word| word.clone().into_bytes()).collect();
        let holds = |bytes: &[u8]| {
            words.iter().any(|word| bytes.windows(word.len()).any(|part| part == word.as_slice()))
        };
        let mut whole: Vec<u32> =
            spellings.sorted.iter().filter(|(bytes, _)| holds(bytes)).map(|(_, id)| *id).collect();
        whole.sort_unstable();
        Self { spellings, words: words.into(), whole: whole.into(), tail: Vec::new() }
    }

    pub(super) fn observe(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        let longest = self.words.iter().map(Vec::len).max().unwrap_or(0);
        let past = self.tail.len().saturating_sub(longest.saturating_sub(1));
        self.tail.drain(..past);
    }

    pub(super) fn forbids(&self, token: u32) -> bool {
        let mut found = false;
        self.for_each_forbidden(|forbidden| found |= forbidden == token);
        found
    }

    /// The ids that would complete a forbidden text now.
    pub(super) fn for_each_forbidden(&self, mut forbid: impl FnMut(u32)) {
        self.whole.iter().for_each(|token| forbid(*token));
        for word in self.words.iter() {
            for begun in (1..word.len()).filter(|begun| self.tail.ends_with(&word[..*begun])) {
                let completing = self.spellings.beginning_with(&word[begun..]);
                self.spellings.sorted[completing].iter().for_each(|(_, token)| forbid(*token));
            }
        }
    }
}
