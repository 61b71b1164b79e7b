//! Keys and values of one sequence, kept between decoding steps.

mod blocks;
mod tensors;

use candle_core::{Device, Tensor};

pub use blocks::BLOCK;
pub(crate) use blocks::Blocks;
use tensors::Tensors;

use crate::{
    config::ModelConfig,
    error::{Result, refuse},
};

/// What attention remembers of one sequence. It belongs to one adapter generation: keys computed
/// under other weights mean nothing.
///
/// On the CPU it is a list of blocks of a few tokens, which several sequences that begin alike
/// share: a fork copies no full block, and a block lives as long as its last holder.
#[derive(Debug)]
pub struct KvCache {
    store: Store,
    len: usize,
}

/// A full block of a cache, which any number of caches may hold.
#[derive(Debug, Clone)]
pub struct KvBlock(blocks::Shared);

#[derive(Debug)]
enum Store {
    Blocks(Blocks),
    Tensors(Tensors),
}

impl KvCache {
    /// An empty cache; it grows as tokens arrive.
    pub fn new(config: &ModelConfig, device: &Device) -> Result<Self> {
        if device.is_cpu() {
            return Ok(Self { store: Store::Blocks(Blocks::new(config)), len: 0 });
        }
        Self::on_tensors(config, device)
    }

    /// The form for tensor operations, on any device.
    pub(crate) fn on_tensors(config: &ModelConfig, device: &Device) -> Result<Self> {
        Ok(Self { store: Store::Tensors(Tensors::new(config, device)?), len: 0 })
    }

    /// How many tokens are cached.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What one token takes, keys and values of all layers.
    pub fn token_bytes(config: &ModelConfig) -> usize {
        2 * config.layers * config.kv_dim() * size_of::<f32>()
    }

    /// Bytes held, counting room not yet used and blocks that others hold too.
    pub fn bytes(&self) -> usize {
        match &self.store {
            Store::Blocks(blocks) => blocks.bytes(),
            Store::Tensors(tensors) => tensors.bytes(),
        }
    }

    /// Forgets everything after the first `len` tokens.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        if let Store::Blocks(blocks) = &mut self.store {
            blocks.truncate(self.len);
        }
    }

    /// A cache of the same tokens that goes on independently.
    pub fn fork(&self) -> Result<Self> {
        let store = match &self.store {
            Store::Blocks(blocks) => Store::Blocks(blocks.clone()),
            Store::Tensors(tensors) => Store::Tensors(tensors.copy()?),
        };
        Ok(Self { store, len: self.len })
    }

    /// The blocks that are full, in order. A cache of tensors has none.
    pub fn full_blocks(&self) -> impl Iterator<Item = KvBlock> {
        let list = match &self.store {
            Store::Blocks(blocks) => blocks.shared(self.len / BLOCK),
            Store::Tensors(_) => &[],
        };
        list.iter().cloned().map(KvBlock)
    }

    /// A cache that begins with blocks of another one, of the same model and under the same weights.
    pub fn of_blocks(config: &ModelConfig, device: &Device, blocks: Vec<KvBlock>) -> Result<Self> {
        let mut cache = Self::new(config, device)?;
        cache.len = blocks.len() * BLOCK;
        match &mut cache.store {
            Store::Blocks(own) => own.begin_with(blocks.into_iter().map(|block| block.0)),
            Store::Tensors(_) if cache.len == 0 => {}
            Store::Tensors(_) => {
                return Err(refuse!(Device, "a cache of tensors does not begin with blocks"));
            }
        }
        Ok(cache)
    }

    /// Makes room for `extra` more tokens that nobody else sees.
    pub(crate) fn reserve(&mut self, extra: usize) -> Result<()> {
        match &mut self.store {
            Store::Blocks(blocks) => {
                blocks.reserve(self.len, extra);
                Ok(())
            }
            Store::Tensors(tensors) => tensors.reserve(self.len, extra),
        }
    }

    /// Counts rows already written after the counted ones, so that a step that fails halfway leaves
    /// the cache as it was.
    pub(crate) fn advance(&mut self, rows: usize) {
        self.len += rows;
    }

    pub(crate) fn blocks(&self) -> Result<&Blocks> {
        match &self.store {
            Store::Blocks(blocks) => Ok(blocks),
            Store::Tensors(_) => Err(refuse!(Device, "a kernel needs a cache in main memory")),
        }
    }

    pub(crate) fn blocks_mut(&mut self) -> Result<&mut Blocks> {
        match &mut self.store {
            Store::Blocks(blocks) => Ok(blocks),
            Store::Tensors(_) => Err(refuse!(Device, "a kernel needs a cache in main memory")),
        }
    }

    /// Keys and values of a layer, each `[capacity, kv_dim]`.
    pub(crate) fn tensors(&self, layer: usize) -> Result<(&Tensor, &Tensor)> {
        match &self.store {
            Store::Tensors(tensors) => tensors.layer(layer),
            Store::Blocks(_) => Err(refuse!(Device, "tensor operations need a cache of tensors")),
        }
    }
}
