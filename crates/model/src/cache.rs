//! Keys and values of one sequence, kept between decoding steps.

use candle_core::{DType, Device, Tensor};

use crate::{
    config::ModelConfig,
    error::{Result, refuse},
};

const FIRST_CAPACITY: usize = 64;

/// What attention remembers of one sequence. It belongs to one adapter generation: keys computed
/// under other weights mean nothing.
#[derive(Debug)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    len: usize,
    capacity: usize,
    width: usize,
    device: Device,
}

/// Keys and values of one layer, each `[capacity, kv_dim]`, of which the first `len` rows count.
#[derive(Debug)]
struct LayerCache {
    keys: Tensor,
    values: Tensor,
}

impl KvCache {
    /// An empty cache; it grows as tokens arrive.
    pub fn new(config: &ModelConfig, device: &Device) -> Result<Self> {
        Self::with_capacity(config, device, FIRST_CAPACITY)
    }

    /// An empty cache with room for `capacity` tokens.
    pub fn with_capacity(config: &ModelConfig, device: &Device, capacity: usize) -> Result<Self> {
        let capacity = capacity.max(1);
        let width = config.kv_dim();
        let layers = (0..config.layers)
            .map(|_| LayerCache::new(capacity, width, device))
            .collect::<Result<_>>()?;
        Ok(Self { layers, len: 0, capacity, width, device: device.clone() })
    }

    /// How many tokens are cached.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes held, counting room not yet used.
    pub fn bytes(&self) -> usize {
        2 * self.layers.len() * self.capacity * self.width * DType::F32.size_in_bytes()
    }

    /// Forgets everything after the first `len` tokens.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// An independent copy, so that several completions can continue one prompt.
    pub fn fork(&self) -> Result<Self> {
        let layers = self.layers.iter().map(LayerCache::copy).collect::<Result<_>>()?;
        let (len, capacity, width) = (self.len, self.capacity, self.width);
        Ok(Self { layers, len, capacity, width, device: self.device.clone() })
    }

    /// Makes room for `extra` more tokens, at least doubling when it must grow.
    pub(crate) fn reserve(&mut self, extra: usize) -> Result<()> {
        let needed = self.len + extra;
        if needed <= self.capacity {
            return Ok(());
        }
        let capacity = needed.max(2 * self.capacity);
        for layer in &mut self.layers {
            layer.grow(self.len, capacity, self.width, &self.device)?;
        }
        self.capacity = capacity;
        Ok(())
    }

    /// Counts rows already written after the counted ones, so that a step that fails halfway leaves
    /// the cache as it was.
    pub(crate) fn advance(&mut self, rows: usize) {
        self.len += rows;
    }

    /// Keys and values of a layer, each `[capacity, kv_dim]`.
    pub(crate) fn tensors(&self, layer: usize) -> Result<(&Tensor, &Tensor)> {
        let layer = self.layers.get(layer).ok_or_else(|| {
            refuse!(Batch, "the cache has no layer {layer}; it belongs to another model")
        })?;
        Ok((&layer.keys, &layer.values))
    }
}

impl LayerCache {
    fn new(capacity: usize, width: usize, device: &Device) -> Result<Self> {
        let keys = Tensor::zeros((capacity, width), DType::F32, device)?;
        let values = Tensor::zeros((capacity, width), DType::F32, device)?;
        Ok(Self { keys, values })
    }

    fn copy(&self) -> Result<Self> {
        Ok(Self { keys: self.keys.copy()?, values: self.values.copy()? })
    }

    fn grow(&mut self, len: usize, capacity: usize, width: usize, device: &Device) -> Result<()> {
        let grown = Self::new(capacity, width, device)?;
        if len > 0 {
            grown.keys.slice_set(&self.keys.narrow(0, 0, len)?, 0, 0)?;
            grown.values.slice_set(&self.values.narrow(0, 0, len)?, 0, 0)?;
        }
        *self = grown;
        Ok(())
    }
}
