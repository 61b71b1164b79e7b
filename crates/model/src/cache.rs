//! Keys and values of one sequence, kept between decoding steps.

mod blocks;
mod tensors;

use candle_core::{Device, Tensor};
use half::f16;

pub use blocks::BLOCK;
pub(crate) use blocks::{Blocks, LayerBlocks};
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

/// The element type of keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvDtype {
    F32,
    /// Half as much to keep and to read at every step, with eleven bits that count: eight times finer
    /// than bf16. What is beyond its largest number, 65504, becomes that.
    F16,
}

impl KvDtype {
    /// Of one value.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::F16 => size_of::<f16>(),
        }
    }
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
    pub(crate) fn new(config: &ModelConfig, device: &Device, dtype: KvDtype) -> Result<Self> {
        if device.is_cpu() {
            return Ok(Self { store: Store::Blocks(Blocks::new(config, dtype)), len: 0 });
        }
        if dtype != KvDtype::F32 {
            return Err(refuse!(Device, "keys and values are kept in f32 on an accelerator"));
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

    /// An empty cache, begun with blocks of another one of the same model and element type, whose
    /// tokens were read under the same weights.
    pub fn begun_with(mut self, blocks: Vec<KvBlock>) -> Result<Self> {
        self.len = blocks.len() * BLOCK;
        match &mut self.store {
            Store::Blocks(own) => own.begin_with(blocks.into_iter().map(|block| block.0))?,
            Store::Tensors(_) if self.len == 0 => {}
            Store::Tensors(_) => {
                return Err(refuse!(Device, "a cache of tensors does not begin with blocks"));
            }
        }
        Ok(self)
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
