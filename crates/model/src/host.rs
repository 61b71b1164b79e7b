//! Reading and changing the f32 values of a tensor that lies in main memory.

mod pool;
mod spare;

use std::{cell::Cell, ops::Deref};

use candle_core::{CpuStorage, DType, Device, InplaceOp1, Layout, Storage, StorageRef, Tensor};

pub(crate) use pool::{Pooled, give, scratch};
pub(crate) use spare::{Spare, Zero};

use crate::error::{Result, refuse};

/// The values of a contiguous f32 tensor on the CPU, borrowed.
pub(crate) struct Host<'a> {
    storage: StorageRef<'a>,
    start: usize,
    end: usize,
}

impl<'a> Host<'a> {
    pub(crate) fn of(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            return Err(refuse!(Device, "a kernel needs contiguous rows; got {layout:?}"));
        };
        if !matches!(&*storage, Storage::Cpu(CpuStorage::F32(_))) {
            return Err(refuse!(Device, "a kernel needs f32 values in main memory"));
        }
        Ok(Self { storage, start, end })
    }
}

impl Deref for Host<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.start..self.end],
            // `of` admits nothing else, and a borrowed storage does not change its kind.
            _ => &[],
        }
    }
}

/// A tensor over these values.
pub(crate) fn tensor(values: Vec<f32>, shape: (usize, usize)) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// Keeps the values of a tensor for [`scratch`]. Only an owner whose tensor shares its storage with
/// no other may call this: the other would find nothing.
pub(crate) fn recycle(tensor: Tensor) {
    if tensor.device().is_cpu() && tensor.dtype() == DType::F32 {
        // Values that cannot be taken are simply dropped.
        let _ = tensor.inplace_op1(&Take);
    }
}

/// Lets `change` edit the values of a contiguous f32 tensor on the CPU in place. Whoever holds
/// another tensor over the same storage sees the edit, so only owners of fresh tensors call this.
pub(crate) fn change(tensor: &Tensor, change: impl FnOnce(&mut [f32])) -> Result<()> {
    Ok(tensor.inplace_op1(&Change(Cell::new(Some(change))))?)
}

struct Change<F>(Cell<Option<F>>);

impl<F: FnOnce(&mut [f32])> InplaceOp1 for Change<F> {
    fn name(&self) -> &'static str {
        "change in place"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets())
        else {
            candle_core::bail!("an edit in place needs contiguous f32 values");
        };
        if let Some(change) = self.0.take() {
            change(&mut values[start..end]);
        }
        Ok(())
    }
}

struct Take;

impl InplaceOp1 for Take {
    fn name(&self) -> &'static str {
        "take for another use"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        if let CpuStorage::F32(values) = storage {
            give(std::mem::take(values));
        }
        Ok(())
    }
}
