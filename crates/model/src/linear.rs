//! A frozen linear map, laid out for whoever multiplies by it.

use candle_core::{Device, Tensor};

use crate::{error::Result, kernels::panels, ops::Ops};

/// y = x · W for W `[inputs, outputs]`.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// In panels for the fused kernels, else row-major `[inputs, outputs]`.
    pub(crate) values: Tensor,
}

impl Linear {
    /// Takes row-major values `[inputs, outputs]`.
    pub(crate) fn new(
        plain: Vec<f32>,
        (inputs, outputs): (usize, usize),
        ops: Ops,
        device: &Device,
    ) -> Result<Self> {
        let values = match ops {
            Ops::Fused => panels::pack(&plain, inputs, outputs),
            Ops::Portable => plain,
        };
        let values = Tensor::from_vec(values, (inputs, outputs), device)?;
        Ok(Self { inputs, outputs, values })
    }
}
