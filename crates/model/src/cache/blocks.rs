//! A cache in main memory: blocks of a few tokens, laid out as the decoding kernel reads them.

use std::{mem, sync::Arc};

use half::f16;

use super::KvDtype;
use crate::{
    config::ModelConfig,
    error::{Result, refuse},
    host::{Pooled, give, scratch},
    kernels::steady::Weight,
};

/// Tokens of one block: one vector of scores.
pub const BLOCK: usize = 16;

/// A block and everyone who holds it.
pub(super) type Shared = Arc<Block>;

/// Keys and values of one sequence. Blocks that are full are never written again and may be shared.
#[derive(Debug, Clone)]
pub(crate) struct Blocks {
    list: Vec<Shared>,
    dtype: KvDtype,
    layers: usize,
    kv_heads: usize,
    dim: usize,
}

/// [`BLOCK`] tokens of every layer and key/value head: keys `[dim, BLOCK]`, so that one vector holds
/// the same component of all of them, then values `[BLOCK, dim]`. Tokens not yet written hold
/// whatever was there before.
#[derive(Debug)]
pub(super) enum Block {
    Plain(Vec<f32>),
    Half(Vec<f16>),
}

impl Block {
    fn new(dtype: KvDtype, len: usize) -> Self {
        match dtype {
            KvDtype::F32 => Self::Plain(scratch(len)),
            KvDtype::F16 => Self::Half(scratch(len)),
        }
    }

    fn dtype(&self) -> KvDtype {
        match self {
            Self::Plain(_) => KvDtype::F32,
            Self::Half(_) => KvDtype::F16,
        }
    }
}

impl Clone for Block {
    fn clone(&self) -> Self {
        match self {
            Self::Plain(values) => Self::Plain(copy(values)),
            Self::Half(values) => Self::Half(copy(values)),
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        match self {
            Self::Plain(values) => give(mem::take(values)),
            Self::Half(values) => give(mem::take(values)),
        }
    }
}

fn copy<T: Pooled>(values: &[T]) -> Vec<T> {
    let mut copy = scratch(values.len());
    copy.copy_from_slice(values);
    copy
}

/// One layer's part of every block of a sequence, each `[kv_heads, 2 · BLOCK · dim]`.
#[derive(Debug, Clone)]
pub(crate) enum LayerBlocks<'a> {
    Plain(Vec<&'a [f32]>),
    Half(Vec<&'a [f16]>),
}

impl Blocks {
    pub(crate) fn new(config: &ModelConfig, dtype: KvDtype) -> Self {
        let (layers, kv_heads, dim) = (config.layers, config.kv_heads, config.head_dim);
        Self { list: Vec::new(), dtype, layers, kv_heads, dim }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.list.len() * self.layers * self.layer_len() * self.dtype.bytes()
    }

    pub(super) fn shared(&self, count: usize) -> &[Shared] {
        &self.list[..count]
    }

    pub(super) fn begin_with(&mut self, blocks: impl Iterator<Item = Shared>) -> Result<()> {
        self.list = blocks.collect();
        if self.list.iter().all(|block| block.dtype() == self.dtype) {
            return Ok(());
        }
        Err(refuse!(
            Batch,
            "a cache of {:?} does not begin with blocks of another type",
            self.dtype
        ))
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.list.truncate(len.div_ceil(BLOCK));
    }

    /// Makes the places of tokens `len..len + extra` exist and belong to this sequence alone.
    pub(crate) fn reserve(&mut self, len: usize, extra: usize) {
        let (size, dtype) = (self.layers * self.layer_len(), self.dtype);
        if !len.is_multiple_of(BLOCK)
            && let Some(last) = self.list.get_mut(len / BLOCK)
        {
            Arc::make_mut(last);
        }
        // Blocks beyond the counted tokens are of a step that failed, or were there to be shared.
        self.list.truncate(len.div_ceil(BLOCK));
        let wanted = (len + extra).div_ceil(BLOCK);
        self.list.resize_with(wanted, || Arc::new(Block::new(dtype, size)));
    }

    /// Writes one token's keys and values, each `[kv_heads · dim]`, of one layer. Its place must
    /// have been reserved.
    pub(crate) fn write(&mut self, layer: usize, token: usize, keys: &[f32], values: &[f32]) {
        let (len, dim) = (self.layer_len(), self.dim);
        let block = Arc::get_mut(&mut self.list[token / BLOCK]);
        let (lane, part) = (token % BLOCK, layer * len..(layer + 1) * len);
        match block.expect("a reserved place belongs to one sequence") {
            Block::Plain(block) => write(&mut block[part], (lane, dim), keys, values),
            Block::Half(block) => write(&mut block[part], (lane, dim), keys, values),
        }
    }

    /// The blocks of one layer, in order.
    pub(crate) fn layer(&self, layer: usize) -> LayerBlocks<'_> {
        let (len, list) = (self.layer_len(), self.list.iter());
        let part = layer * len..(layer + 1) * len;
        match self.dtype {
            KvDtype::F32 => LayerBlocks::Plain(
                list.filter_map(|block| match &**block {
                    Block::Plain(values) => Some(&values[part.clone()]),
                    Block::Half(_) => None,
                })
                .collect(),
            ),
            KvDtype::F16 => LayerBlocks::Half(
                list.filter_map(|block| match &**block {
                    Block::Half(values) => Some(&values[part.clone()]),
                    Block::Plain(_) => None,
                })
                .collect(),
            ),
        }
    }

    /// Keys and values of the first `tokens`, one row `[kv_heads · dim, kv_heads · dim]` each.
    #[cfg(test)]
    pub(crate) fn gather(&self, layer: usize, tokens: usize) -> Vec<f32> {
        let (dim, kv_dim) = (self.dim, self.kv_heads * self.dim);
        let mut rows = scratch(tokens * 2 * kv_dim);
        let blocks: Vec<Vec<f32>> = match self.layer(layer) {
            LayerBlocks::Plain(blocks) => blocks.iter().map(|block| block.to_vec()).collect(),
            LayerBlocks::Half(blocks) => blocks
                .iter()
                .map(|block| block.iter().map(|value| value.wide()).collect())
                .collect(),
        };
        for (block, rows) in blocks.iter().zip(rows.chunks_mut(BLOCK * 2 * kv_dim)) {
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

/// Writes one token's keys and values as lane `lane` of one layer of a block.
fn write<T: Weight>(layer: &mut [T], (lane, dim): (usize, usize), keys: &[f32], values: &[f32]) {
    let mut rounded = vec![T::default(); dim];
    let given = keys.chunks_exact(dim).zip(values.chunks_exact(dim));
    for (head, (key, value)) in layer.chunks_exact_mut(2 * BLOCK * dim).zip(given) {
        let (to_keys, to_values) = head.split_at_mut(BLOCK * dim);
        round(key, &mut rounded);
        for (place, value) in to_keys[lane..].iter_mut().step_by(BLOCK).zip(&rounded) {
            *place = *value;
        }
        round(value, &mut to_values[lane * dim..(lane + 1) * dim]);
    }
}

/// To nearest; what is finite and beyond the largest number becomes that.
fn round<T: Weight>(values: &[f32], to: &mut [T]) {
    if T::round(values, to) {
        return;
    }
    let largest = f16::MAX.to_f32();
    let within =
        |value: &f32| if value.is_finite() { value.clamp(-largest, largest) } else { *value };
    T::round(&values.iter().map(within).collect::<Vec<f32>>(), to);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Family, kernels::noise};

    const DTYPES: [KvDtype; 2] = [KvDtype::F32, KvDtype::F16];

    /// Blocks of some tokens, and the rows as these hold them.
    fn filled(tokens: usize, dtype: KvDtype) -> (Blocks, Vec<f32>) {
        let config = ModelConfig::tiny(Family::Llama);
        let kv = config.kv_dim();
        let mut rows = noise(tokens * 2 * kv, 1);
        if dtype == KvDtype::F16 {
            rows = rows.into_iter().map(|value| f16::from_f32(value).to_f32()).collect();
        }
        let mut blocks = Blocks::new(&config, dtype);
        for (token, row) in rows.chunks_exact(2 * kv).enumerate() {
            blocks.reserve(token, 1);
            blocks.write(1, token, &row[..kv], &row[kv..]);
        }
        (blocks, rows)
    }

    #[test]
    fn what_is_written_token_by_token_is_gathered_as_rows() {
        for (tokens, dtype) in [1, 15, 16, 17, 40].into_iter().zip(DTYPES.into_iter().cycle()) {
            let (blocks, rows) = filled(tokens, dtype);
            assert_eq!(blocks.gather(1, tokens), rows);
            assert_eq!(blocks.bytes() % dtype.bytes(), 0);
        }
    }

    #[test]
    fn half_as_many_bytes_hold_the_largest_number_for_whatever_is_larger() {
        let ((plain, _), (mut half, _)) = (filled(17, KvDtype::F32), filled(17, KvDtype::F16));
        assert_eq!(plain.bytes(), 2 * half.bytes());
        let kv = half.kv_heads * half.dim;
        let (mut keys, mut values) = (vec![-1e9; kv], vec![1e-3; kv]);
        (keys[0], values[0]) = (f32::INFINITY, f32::NAN);
        half.reserve(17, 1);
        half.write(1, 17, &keys, &values);
        let found = &half.gather(1, 18)[17 * 2 * kv..];
        assert_eq!((found[0], found[1]), (f32::INFINITY, -65504.0));
        assert!(found[kv].is_nan() && (found[kv + 1] - 1e-3).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn a_cache_begins_with_no_blocks_of_another_type() {
        let (half, _) = filled(16, KvDtype::F16);
        for (dtype, fits) in [(KvDtype::F32, false), (KvDtype::F16, true)] {
            let mut other = Blocks::new(&ModelConfig::tiny(Family::Llama), dtype);
            assert_eq!(other.begin_with(half.shared(1).iter().cloned()).is_ok(), fits);
        }
    }

    #[test]
    fn a_clone_shares_full_blocks_and_writes_to_its_own() {
        DTYPES.into_iter().for_each(clone_and_write);
    }

    fn clone_and_write(dtype: KvDtype) {
        let (mut first, rows) = filled(20, dtype);
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
        let (first, rows) = filled(16, KvDtype::F32);
        let mut second = first.clone();
        second.truncate(3);
        second.reserve(3, 1);
        let kv = rows.len() / 32;
        second.write(1, 3, &vec![9.0; kv], &vec![9.0; kv]);
        assert_eq!(first.gather(1, 16), rows);
        assert_eq!(second.gather(1, 3), rows[..3 * 2 * kv]);
    }
}
