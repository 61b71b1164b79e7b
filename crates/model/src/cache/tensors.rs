//! A cache as tensors on any device, for tensor operations.

use candle_core::{DType, Device, Tensor};

use crate::{
    config::ModelConfig,
    error::{Result, refuse},
};

const FIRST_CAPACITY: usize = 64;

#[derive(Debug)]
pub(super) struct Tensors {
    layers: Vec<LayerCache>,
    capacity: usize,
    width: usize,
    device: Device,
}

/// Keys and values of one layer, each `[capacity, kv_dim]`.
#[derive(Debug)]
struct LayerCache {
    keys: Tensor,
    values: Tensor,
}

impl Tensors {
    pub(super) fn new(config: &ModelConfig, device: &Device) -> Result<Self> {
        let (capacity, width) = (FIRST_CAPACITY, config.kv_dim());
        let layers = (0..config.layers)
            .map(|_| LayerCache::new(capacity, width, device))
            .collect::<Result<_>>()?;
        Ok(Self { layers, capacity, width, device: device.clone() })
    }

    pub(super) fn bytes(&self) -> usize {
        2 * self.layers.len() * self.capacity * self.width * DType::F32.size_in_bytes()
    }

    pub(super) fn copy(&self) -> Result<Self> {
        let layers = self.layers.iter().map(LayerCache::copy).collect::<Result<_>>()?;
        let (capacity, width) = (self.capacity, self.width);
        Ok(Self { layers, capacity, width, device: self.device.clone() })
    }

    /// Makes room for `extra` tokens after `len`, at least doubling when it must grow.
    pub(super) fn reserve(&mut self, len: usize, extra: usize) -> Result<()> {
        let needed = len + extra;
        if needed <= self.capacity {
            return Ok(());
        }
        let capacity = needed.max(2 * self.capacity);
        for layer in &mut self.layers {
            layer.grow(len, capacity, self.width, &self.device)?;
        }
        self.capacity = capacity;
        Ok(())
    }

    pub(super) fn layer(&self, layer: usize) -> Result<(&Tensor, &Tensor)> {
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
