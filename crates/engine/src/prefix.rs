//! Blocks of keys and values that prompts which begin alike share.
//!
//! Every request of a task repeats its system prompt, and every turn of a conversation the turns
//! before. What is cached for a token depends on the tokens before it and on the weights, so a full
//! block is known by a digest chained over all tokens up to its end, from a root that names the
//! weights by content and the scope by its salt. Sharing a block copies nothing, and changes no bit
//! of any reply.
//!
//! Never: shares across generations or salts, or keeps more blocks than it may.

use std::collections::{BTreeMap, HashMap};

use understudy_ident::Digest;
use understudy_model::{BLOCK, KvBlock, KvCache};

/// For whom a block is: the digest of an adapter generation, `None` for the base, and the salt of a
/// private scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    pub(crate) generation: Option<String>,
    pub(crate) salt: Option<String>,
}

impl Scope {
    fn root(&self) -> Digest {
        let part = |text: &Option<String>| match text {
            None => vec![0],
            Some(text) => [&[1], text.as_bytes()].concat(),
        };
        Digest::of_parts([&part(&self.generation)[..], &part(&self.salt)])
    }
}

/// The names of the full blocks of some tokens, in order. The last token never counts: its scores
/// are what a request is about to ask for.
pub(crate) fn chain(scope: &Scope, tokens: &[u32]) -> Vec<Digest> {
    let blocks = tokens[..tokens.len().saturating_sub(1)].chunks_exact(BLOCK);
    let next = |before: &mut Digest, tokens: &[u32]| {
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        *before = Digest::of_parts([before.as_bytes().as_slice(), &bytes]);
        Some(*before)
    };
    blocks.scan(scope.root(), next).collect()
}

/// Full blocks, the least recently used of which go first.
#[derive(Debug)]
pub(crate) struct PrefixCache {
    blocks: HashMap<Digest, Entry>,
    /// By the moment of their last use.
    by_use: BTreeMap<u64, Digest>,
    uses: u64,
    most: usize,
}

#[derive(Debug)]
struct Entry {
    block: KvBlock,
    generation: Option<String>,
    used: u64,
}

impl PrefixCache {
    pub(crate) fn new(max_tokens: usize) -> Self {
        let (blocks, by_use) = (HashMap::new(), BTreeMap::new());
        Self { blocks, by_use, uses: 0, most: max_tokens / BLOCK }
    }

    /// How many tokens' keys and values are kept.
    pub(crate) fn tokens(&self) -> usize {
        self.blocks.len() * BLOCK
    }

    /// Whether anything is ever kept.
    pub(crate) fn is_on(&self) -> bool {
        self.most > 0
    }

    /// How many of a chain's blocks are known, from the first on.
    pub(crate) fn known(&self, chain: &[Digest]) -> usize {
        chain.iter().take_while(|name| self.blocks.contains_key(name)).count()
    }

    /// The known beginning of a chain.
    pub(crate) fn find(&mut self, chain: &[Digest]) -> Vec<KvBlock> {
        let chain = &chain[..self.known(chain)];
        self.touch(chain);
        chain.iter().filter_map(|name| Some(self.blocks.get(name)?.block.clone())).collect()
    }

    /// Keeps the blocks of a chain that are in a sequence's cache. To make room, blocks of weights
    /// that are not in memory any more go first: nobody can ask for them.
    pub(crate) fn keep(
        &mut self,
        chain: &[Digest],
        generation: Option<&str>,
        cache: &KvCache,
        is_in_memory: impl Fn(&str) -> bool,
    ) {
        let known = self.known(chain).min(self.most);
        for (name, block) in chain.iter().zip(cache.full_blocks()).take(self.most).skip(known) {
            let entry = Entry { block, generation: generation.map(str::to_owned), used: 0 };
            self.blocks.insert(*name, entry);
        }
        self.touch(&chain[..self.known(chain)]);
        if self.blocks.len() > self.most {
            let gone =
                |entry: &Entry| entry.generation.as_deref().is_some_and(|g| !is_in_memory(g));
            self.blocks.retain(|_, entry| !gone(entry));
            let blocks = &self.blocks;
            self.by_use.retain(|_, name| blocks.contains_key(name));
        }
        while self.blocks.len() > self.most
            && let Some((_, name)) = self.by_use.pop_first()
        {
            self.blocks.remove(&name);
        }
    }

    /// Later blocks are useless without earlier ones, so they count as used before those.
    fn touch(&mut self, chain: &[Digest]) {
        for name in chain.iter().rev() {
            let Some(entry) = self.blocks.get_mut(name) else { continue };
            self.by_use.remove(&entry.used);
            self.uses += 1;
            entry.used = self.uses;
            self.by_use.insert(self.uses, *name);
        }
    }
}

#[cfg(test)]
mod tests {
    use understudy_model::{AdapterRun, BaseModel, Batch, Device, Family, ModelConfig};

    use super::*;

    fn scope(generation: Option<&str>, salt: Option<&str>) -> Scope {
        Scope { generation: generation.map(str::to_owned), salt: salt.map(str::to_owned) }
    }

    fn base() -> Scope {
        scope(None, None)
    }

    fn cache(model: &BaseModel, tokens: &[u32]) -> KvCache {
        let mut cache = model.decoder.cache().unwrap();
        let batch = Batch::of(&[tokens]);
        model.decoder.infer(&batch, &mut [&mut cache], &AdapterRun::whole(&batch, None)).unwrap();
        cache
    }

    fn model() -> BaseModel {
        BaseModel::random(ModelConfig::tiny(Family::Llama), 1, &Device::Cpu).unwrap()
    }

    fn range(first: u32, len: u32) -> Vec<u32> {
        (first..first + len).collect()
    }

    #[test]
    fn a_block_is_named_by_everything_up_to_its_end_by_weights_and_by_salt() {
        let tokens = range(0, 40);
        let names = chain(&base(), &tokens);
        assert_eq!(names.len(), 2);
        assert_eq!(chain(&base(), &tokens[..33]).len(), 2);
        assert_eq!(chain(&base(), &tokens[..32]).len(), 1, "the last token must run");
        let mut other = tokens.clone();
        other[3] = 99;
        let others = chain(&base(), &other);
        assert!(names[0] != others[0] && names[1] != others[1]);
        for scope in [scope(Some("g"), None), scope(None, Some("g")), scope(None, Some(""))] {
            assert!(chain(&scope, &tokens)[0] != names[0], "{scope:?}");
        }
    }

    #[test]
    fn the_longest_known_beginning_is_found_and_shared() {
        let (model, tokens) = (model(), range(0, 60));
        let mut known = PrefixCache::new(200);
        let names = chain(&base(), &tokens);
        known.keep(&names, None, &cache(&model, &tokens[..50]), |_| true);
        assert_eq!(known.find(&names).len(), 3);
        assert_eq!(known.find(&names[..1]).len(), 1);
        assert_eq!(known.find(&chain(&scope(Some("g"), None), &tokens)).len(), 0);
        let mut other = tokens.clone();
        other[20] = 99;
        assert_eq!(known.find(&chain(&base(), &other)).len(), 1);
    }

    #[test]
    fn it_stays_within_its_tokens_and_lets_go_of_dead_weights_then_of_what_is_longest_unused() {
        let model = model();
        // Room for six blocks.
        let mut known = PrefixCache::new(6 * BLOCK + 5);
        let ours = |first: u32| chain(&base(), &range(first, 33));
        let theirs = chain(&scope(Some("dead"), None), &range(0, 33));
        for first in [0, 100] {
            known.keep(&ours(first), None, &cache(&model, &range(first, 32)), |_| false);
        }
        known.keep(&theirs, Some("dead"), &cache(&model, &range(0, 32)), |_| true);
        assert_eq!(known.find(&ours(0)).len(), 2, "now of more recent use than the others");
        known.keep(&ours(200), None, &cache(&model, &range(200, 32)), |g| g != "dead");
        assert_eq!(known.known(&theirs), 0);
        assert_eq!((known.known(&ours(0)), known.known(&ours(100))), (2, 2));
        // One more block than fits: of the pair longest unused, the later one goes.
        known.keep(&ours(250)[..1], None, &cache(&model, &range(250, 16)), |_| true);
        assert_eq!((known.known(&ours(0)), known.known(&ours(100))), (2, 1));
        assert_eq!((known.known(&ours(200)), known.known(&ours(250))), (2, 1));
        // A chain longer than everything keeps its beginning.
        let long = range(0, 200);
        let names = chain(&scope(None, Some("s")), &long);
        known.keep(&names, None, &cache(&model, &long), |_| true);
        assert_eq!(known.known(&names), 6);
        assert_eq!(known.by_use.len(), known.blocks.len());
    }
}
