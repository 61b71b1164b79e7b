//! A cache in main memory: blocks of a few tokens, laid out as the decoding kernel reads them.

use std::sync::Arc;

use crate::{
    config::ModelConfig,
    host::{give, scratch},
};

/// Tokens of one block: one vector of scores.
pub const BLOCK: usize = 16;

/// A block and everyone who holds it.
pub(super) type Shared = Arc<Block>;

/// Keys and values of one sequence. Blocks that are full are never written again and may be shared.
#[derive(Debug, Clone)]
pub(crate) struct Blocks {
    list: Vec<Shared>,
    layers: usize,
    kv_heads: usize,
    dim: usize,
}

/// [`BLOCK`] tokens of every layer and key/value head: keys `[dim, BLOCK]`, so that one vector holds
/// the same component of all of them, then values `[BLOCK, dim]`. Tokens not yet written hold
/// whatever was there before.
#[derive(Debug)]
pub(super) struct Block(Vec<f32>);

impl Clone for Block {
    fn clone(&self) -> Self {
        let mut copy = scratch(self.0.len());
        copy.copy_from_slice(&self.0);
        Self(copy)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        give(std::mem::take(&mut self.0));
    }
}

impl Blocks {
    pub(crate) fn new(config: &ModelConfig) -> Self {
        let (layers, kv_heads, dim) = (config.layers, config.kv_heads, config.head_dim);
        Self { list: Vec::new(), layers, kv_heads, dim }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.list.len() * self.layers * self.layer_len() * size_of::<f32>()
    }

    pub(super) fn shared(&self, count: usize) -> &[Shared] {
        &self.list[..count]
    }

    pub(super) fn begin_with(&mut self, blocks: impl Iterator<Item = Shared>) {
        self.list = blocks.collect();
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.list.truncate(len.div_ceil(BLOCK));
    }

    /// Makes the places of tokens `len..len + extra` exist and belong to this sequence alone.
    pub(crate) fn reserve(&mut self, len: usize, extra: usize) {
        let size = self.layers * self.layer_len();
        if !len.is_multiple_of(BLOCK)
            && let Some(last) = self.list.get_mut(len / BLOCK)
        {
            Arc::make_mut(last);
        }
        // Blocks beyond the counted tokens are of a step that failed, or were there to be shared.
        self.list.truncate(len.div_ceil(BLOCK));
        let wanted = (len + extra).div_ceil(BLOCK);
        self.list.resize_with(wanted, || Arc::new(Block(scratch(size))));
    }

    /// Writes one token's keys and values, each `[kv_heads · dim]`, of one layer. Its place must
    /// have been reserved.
    pub(crate) fn write(&mut self, layer: usize, token: usize, keys: &[f32], values: &[f32]) {
        let (len, dim) = (self.layer_len(), self.dim);
        let block = Arc::get_mut(&mut self.list[token / BLOCK]);
        let Block(block) = block.expect("a reserved place belongs to one sequence");
        let lane = token % BLOCK;
        let heads = block[layer * len..(layer + 1) * len].chunks_exact_mut(2 * BLOCK * dim);
        for (head, (key, value)) in heads.zip(keys.chunks_exact(dim).zip(values.chunks_exact(dim)))
        {
            let (to_keys, to_values) = head.split_at_mut(BLOCK * dim);
            for (place, value) in to_keys[lane..].iter_mut().step_by(BLOCK).zip(key) {
                *place = *value;
            }
            to_values[lane * dim..(lane + 1) * dim].copy_from_slice(value);
        }
    }

    /// The blocks of one layer, in order, each `[kv_heads, 2 · BLOCK · dim]`.
    pub(crate) fn layer(&self, layer: usize) -> impl Iterator<Item = &[f32]> + Clone {
        let len = self.layer_len();
        self.list.iter().map(move |block| &block.0[layer * len..(layer + 1) * len])
    }

    /// Keys and values of the first `tokens`, one row `[kv_heads · dim, kv_heads · dim]` each.
    #[cfg(test)]
    pub(crate) fn gather(&self, layer: usize, tokens: usize) -> Vec<f32> {
        let (dim, kv_dim) = (self.dim, self.kv_heads * self.dim);
        let mut rows = scratch(tokens * 2 * kv_dim);
        for (block, rows) in self.layer(layer).zip(rows.chunks_mut(BLOCK * 2 * kv_dim)) {
            for (index, head) in block.chunks_exact(2 * BLOCK * dim).enumerate() {
                let (keys, values) = head.split_at(BLOCK * dim);
                for (lane, row) in rows.chunks_exact_mut(2 * kv_dim).enumerate() {
                    let (to_keys, to_values) = row.split_at_mut(kv_dim);
                    let key = keys[lane..].iter().step_by(BLOCK);
                    to_keys[index * dim..][..dim].iter_mut().zip(key).for_each(|(to, k)| *to = *k);
                    to_values[index * dim..][..dim]
                        .copy_from_slice(&values[lane * dim..(lane + 1) * dim]);
                }
            }
        }
        rows
    }

    fn layer_len(&self) -> usize {
        self.kv_heads * 2 * BLOCK * self.dim
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Family, kernels::noise};

    fn filled(tokens: usize, seed: u64) -> (Blocks, Vec<f32>) {
        let config = ModelConfig::tiny(Family::Llama);
        let kv = config.kv_dim();
        let rows = noise(tokens * 2 * kv, seed);
        let mut blocks = Blocks::new(&config);
        for (token, row) in rows.chunks_exact(2 * kv).enumerate() {
            blocks.reserve(token, 1);
            blocks.write(1, token, &row[..kv], &row[kv..]);
        }
        (blocks, rows)
    }

    #[test]
    fn what_is_written_token_by_token_is_gathered_as_rows() {
        for tokens in [1, 15, 16, 17, 40] {
            let (blocks, rows) = filled(tokens, 1);
            assert_eq!(blocks.gather(1, tokens), rows);
        }
    }

    #[test]
    fn a_clone_shares_full_blocks_and_writes_to_its_own() {
        let (mut first, rows) = filled(20, 1);
        let mut second = first.clone();
        assert!(Arc::ptr_eq(&first.list[1], &second.list[1]));
        let kv = rows.len() / 40;
        for (blocks, value) in [(&mut first, 1.0), (&mut second, 2.0)] {
            blocks.reserve(20, 13);
            for token in 20..33 {
                blocks.write(1, token, &vec![value; kv], &vec![value; kv]);
            }
        }
        assert!(Arc::ptr_eq(&first.list[0], &second.list[0]), "full, so shared");
        assert!(!Arc::ptr_eq(&first.list[1], &second.list[1]));
        for (blocks, value) in [(&first, 1.0), (&second, 2.0)] {
            let found = blocks.gather(1, 33);
            assert_eq!(found[..rows.len()], rows);
            assert!(found[rows.len()..].iter().all(|found| *found == value));
        }
    }

    #[test]
    fn truncating_within_a_shared_block_leaves_the_other_holder_alone() {
        let (first, rows) = filled(16, 1);
        let mut second = first.clone();
        second.truncate(3);
        second.reserve(3, 1);
        let kv = rows.len() / 32;
        second.write(1, 3, &vec![9.0; kv], &vec![9.0; kv]);
        assert_eq!(first.gather(1, 16), rows);
        assert_eq!(second.gather(1, 3), rows[..3 * 2 * kv]);
    }
}
