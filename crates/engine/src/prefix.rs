//! Keys and values of ended sequences, for prompts that begin alike.
//!
//! Every request of a task repeats its system prompt, and every turn of a conversation the turns
//! before. What is cached for a token depends on the tokens before it and on the weights, so an
//! entry serves a prompt as far as both agree token by token, and only under the same adapter
//! generation, named by content.

use std::collections::VecDeque;

use understudy_model::{KvCache, Result};

/// Copying fewer tokens than this saves less than it costs.
const FEWEST: usize = 16;

/// Ended sequences, the most recently useful first.
#[derive(Debug)]
pub(crate) struct PrefixCache {
    entries: VecDeque<Prefix>,
    max_tokens: usize,
}

/// The tokens of a sequence, as many as are in its cache.
#[derive(Debug)]
pub(crate) struct Prefix {
    /// Digest of the adapter generation, `None` for the base.
    pub(crate) generation: Option<String>,
    pub(crate) tokens: Vec<u32>,
    pub(crate) cache: KvCache,
}

impl PrefixCache {
    pub(crate) fn new(max_tokens: usize) -> Self {
        Self { entries: VecDeque::new(), max_tokens }
    }

    /// A copy of what is cached of the longest known beginning of `tokens`. The last token is left
    /// out: its scores are what the request is about to ask for.
    pub(crate) fn find(
        &mut self,
        generation: Option<&str>,
        tokens: &[u32],
    ) -> Result<Option<KvCache>> {
        let usable = &tokens[..tokens.len().saturating_sub(1)];
        let shared = |entry: &Prefix| {
            if entry.generation.as_deref() != generation {
                return 0;
            }
            entry.tokens.iter().zip(usable).take_while(|(a, b)| a == b).count()
        };
        let lengths = self.entries.iter().map(shared).enumerate();
        let Some((index, length)) = lengths.max_by_key(|(_, length)| *length) else {
            return Ok(None);
        };
        if length < FEWEST {
            return Ok(None);
        }
        let Some(entry) = self.entries.remove(index) else { return Ok(None) };
        let copied = entry.cache.fork();
        self.entries.push_front(entry);
        let mut copy = copied?;
        copy.truncate(length);
        Ok(Some(copy))
    }

    /// Keeps an ended sequence's cache, letting go of what it makes superfluous and of the entries
    /// longest out of use.
    pub(crate) fn keep(&mut self, prefix: Prefix) {
        if prefix.tokens.len() < FEWEST || prefix.tokens.len() > self.max_tokens {
            return;
        }
        self.entries.retain(|entry| {
            entry.generation != prefix.generation || !prefix.tokens.starts_with(&entry.tokens)
        });
        self.entries.push_front(prefix);
        let mut total = 0;
        self.entries.retain(|entry| {
            total += entry.tokens.len();
            total <= self.max_tokens
        });
    }
}

#[cfg(test)]
mod tests {
    use understudy_model::{AdapterRun, BaseModel, Batch, Device, Family, ModelConfig};

    use super::*;

    fn prefix(model: &BaseModel, generation: Option<&str>, tokens: &[u32]) -> Prefix {
        let mut cache = KvCache::new(model.decoder.config(), &Device::Cpu).unwrap();
        let batch = Batch::of(&[tokens]);
        model.decoder.infer(&batch, &mut [&mut cache], &AdapterRun::whole(&batch, None)).unwrap();
        let generation = generation.map(str::to_owned);
        Prefix { generation, tokens: tokens.to_vec(), cache }
    }

    #[test]
    fn the_longest_beginning_under_the_same_weights_is_found() {
        let config = ModelConfig::tiny(Family::Llama);
        let model = BaseModel::random(config, 1, &Device::Cpu).unwrap();
        let tokens: Vec<u32> = (0..60).collect();
        let mut known = PrefixCache::new(200);
        known.keep(prefix(&model, None, &tokens[..30]));
        known.keep(prefix(&model, Some("g"), &tokens[..20]));
        let mut found = |generation, tokens: &[u32]| {
            known.find(generation, tokens).unwrap().map(|cache| cache.len())
        };
        assert_eq!(found(None, &tokens), Some(30));
        assert_eq!(found(Some("g"), &tokens), Some(20));
        assert_eq!(found(Some("other"), &tokens), None);
        assert_eq!(found(None, &tokens[..30]), Some(29), "the last token must run");
        assert_eq!(found(None, &tokens[..16]), None, "too short to be worth it");
        let mut other = tokens.clone();
        other[25] = 99;
        assert_eq!(found(None, &other), Some(25));
    }

    #[test]
    fn it_stays_within_its_tokens_and_forgets_the_least_useful() {
        let config = ModelConfig::tiny(Family::Llama);
        let model = BaseModel::random(config, 1, &Device::Cpu).unwrap();
        let mut known = PrefixCache::new(60);
        let tokens = |first: u32| -> Vec<u32> { (first..first + 20).collect() };
        for first in [0, 20, 40] {
            known.keep(prefix(&model, None, &tokens(first)));
        }
        assert!(known.find(None, &tokens(0)).unwrap().is_some(), "now the most recent");
        known.keep(prefix(&model, None, &tokens(60)));
        assert!(known.find(None, &tokens(0)).unwrap().is_some());
        assert!(known.find(None, &tokens(20)).unwrap().is_none());
        // A longer sequence stands in for its own beginning.
        known.keep(prefix(&model, None, &(0..25).collect::<Vec<u32>>()));
        assert_eq!(known.entries.len(), 2);
        known.keep(prefix(&model, None, &(0..61).collect::<Vec<u32>>()));
        assert_eq!(known.entries.len(), 2, "what cannot fit is not kept");
    }
}
