//! Prompts that begin alike share the work: the caches of recent prompts, per generation.
//!
//! An agent's requests all open with one system prompt. A finished prompt's cache is kept for a
//! while, and a new sequence of the *same generation* starts from a copy cut to what both prompts
//! have in common. Key/value rows depend only on the tokens before them and on the weights, so the
//! copy holds exactly what computing it again would.

use std::collections::VecDeque;

use understudy_model::{KvCache, Result};

/// Shorter beginnings are not worth a copy.
const WORTHWHILE: usize = 8;

struct Entry {
    generation: String,
    prompt: Vec<u32>,
    cache: KvCache,
}

pub(crate) struct PrefixCache {
    /// Most recently used first.
    entries: VecDeque<Entry>,
    limit: usize,
}

impl PrefixCache {
    pub(crate) fn new(limit: usize) -> Self {
        Self { entries: VecDeque::new(), limit }
    }

    /// A cache holding the longest known beginning of `prompt`. At least the last token is left
    /// out, because its hidden state is needed to draw the next one.
    pub(crate) fn start(&mut self, generation: &str, prompt: &[u32]) -> Result<Option<KvCache>> {
        let common = |entry: &Entry| {
            if entry.generation != generation {
                return 0;
            }
            let equal = entry.prompt.iter().zip(prompt).take_while(|(a, b)| a == b).count();
            equal.min(prompt.len() - 1)
        };
        let best = self.entries.iter().enumerate().max_by_key(|(_, entry)| common(entry));
        let Some((at, length)) = best.map(|(at, entry)| (at, common(entry))) else {
            return Ok(None);
        };
        if length < WORTHWHILE {
            return Ok(None);
        }
        let entry = self.entries.remove(at).expect("the position was just found");
        let mut cache = entry.cache.fork()?;
        cache.truncate(length);
        self.entries.push_front(entry);
        Ok(Some(cache))
    }

    /// Remembers a computed prompt, unless a known one already begins the same way for all but its
    /// last part: one entry per way of beginning is enough.
    pub(crate) fn keep(&mut self, generation: &str, prompt: &[u32], cache: &KvCache) -> Result<()> {
        let known = self.entries.iter().any(|entry| {
            let equal = entry.prompt.iter().zip(prompt).take_while(|(a, b)| a == b).count();
            entry.generation == generation && equal >= WORTHWHILE
        });
        if known || prompt.len() < WORTHWHILE {
            return Ok(());
        }
        let mut cache = cache.fork()?;
        cache.truncate(prompt.len());
        let (generation, prompt) = (generation.to_owned(), prompt.to_vec());
        self.entries.push_front(Entry { generation, prompt, cache });
        self.entries.truncate(self.limit);
        Ok(())
    }
}
