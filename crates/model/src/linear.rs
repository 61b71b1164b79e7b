//! A frozen linear map, laid out for whoever multiplies by it.

use std::{ops::Deref, sync::OnceLock};

use candle_core::{DType, Device, Tensor};

use crate::{
    device::Place,
    error::Result,
    host::Host,
    kernels::{
        bf16::Packed,
        int8::{self, Bits},
        panels,
        quantised::Quantised,
    },
    ops::Ops,
};

/// How the frozen maps of a base model are held and multiplied. Norms, attention and every sum are
/// f32 beside all of them; adapters are learnt in f32, and served in f16 beside all but the first
/// ([`Lora::prepare`](crate::Lora::prepare)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Weights and inputs in f32.
    #[default]
    F32,
    /// Weights and inputs of frozen maps rounded to bf16, products summed in f32: half the memory
    /// traffic, and twice the arithmetic or more on processors with a dot product or a matrix unit
    /// for it (AVX-512, AMX). On processors without AVX2 it is the same as `F32`. An accelerator
    /// rounds the products too.
    Bf16,
    /// Weights of every layer's maps in eight bits, in blocks of 32 with one scale, as Q8_0 holds
    /// them; widened for each product, which is then computed as in `Bf16` (where that is not
    /// supported, in f32). The maps take a quarter of the memory of `F32`; the head is held as in
    /// `Bf16`. Made for training: decoding a token would widen every map for one row.
    Q8,
    /// The same in four bits, in blocks of 32 with a scale and a least value, as Q4_1 holds them:
    /// an eighth of the memory of `F32`.
    Q4,
    /// Weights of maps and head in eight bits as in `Q8`, and inputs rounded to eight bits as well,
    /// block by block, for the processor's dot product of bytes. A Q8_0 file's blocks are taken bit
    /// for bit. Made for serving.
    Int8,
    /// The same with the maps in four bits, in blocks of 32 with a scale and a least value, as Q4_1
    /// holds them; the codes of a Q4_0, Q4_1 or Q4_K file are taken as they are, and maps for which
    /// a file spends more bits are held in eight.
    Int4,
}

impl Precision {
    /// What this machine really does when asked for this precision on this device.
    pub fn supported(self, device: &Device) -> Self {
        match self {
            Self::Bf16 if !device.is_cpu() || Packed::is_supported() => Self::Bf16,
            Self::Q8 | Self::Q4 if device.is_cpu() => self,
            Self::Int8 | Self::Int4 if device.is_cpu() && int8::Packed::is_fast() => self,
            _ => Self::F32,
        }
    }

    /// The element type of weights that are multiplied as tensors.
    fn of_tensors(self) -> DType {
        if self == Self::Bf16 { DType::BF16 } else { DType::F32 }
    }
}

/// y = x · W for W `[inputs, outputs]`.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) weights: Layout,
}

#[derive(Debug)]
pub(crate) enum Layout {
    /// Row-major `[inputs, outputs]`, for tensor operations on any device.
    Plain(Tensor),
    /// f32 in panels.
    Panels(Vec<f32>),
    /// bf16 in panels of pairs.
    Pairs(Pairs),
    /// Eight or four bits, widened for each product.
    Quantised(Quantised),
    /// Eight or four bits, multiplied as they are.
    Blocks(int8::Packed),
}

/// Weights in bf16, held or widened for one product.
#[derive(Debug)]
pub(crate) enum Ready<'a> {
    Held(&'a Packed),
    Made(Packed),
}

impl Deref for Ready<'_> {
    type Target = Packed;

    fn deref(&self) -> &Packed {
        match self {
            Self::Held(packed) => packed,
            Self::Made(packed) => packed,
        }
    }
}

/// W for the forward pass, and Wᵀ from the first backward pass on: serving never pays for it.
#[derive(Debug)]
pub(crate) struct Pairs {
    forward: Packed,
    backward: OnceLock<Packed>,
}

impl Pairs {
    pub(crate) fn new(forward: Packed) -> Self {
        Self { forward, backward: OnceLock::new() }
    }

    pub(crate) fn forward(&self) -> &Packed {
        &self.forward
    }

    pub(crate) fn backward(&self) -> &Packed {
        self.backward.get_or_init(|| self.forward.transposed())
    }
}

impl Linear {
    /// Takes row-major values `[inputs, outputs]`.
    pub(crate) fn new(
        plain: Vec<f32>,
        (inputs, outputs): (usize, usize),
        place: &Place,
    ) -> Result<Self> {
        let weights = match (place.ops, place.precision) {
            (Ops::Portable, precision) => {
                let plain = Tensor::from_vec(plain, (inputs, outputs), &place.device)?;
                Layout::Plain(plain.to_dtype(precision.of_tensors())?)
            }
            (Ops::Fused, Precision::Q8) => {
                Layout::Quantised(Quantised::new(&plain, (inputs, outputs), Bits::Eight))
            }
            (Ops::Fused, Precision::Q4) => {
                Layout::Quantised(Quantised::new(&plain, (inputs, outputs), Bits::Four))
            }
            (Ops::Fused, Precision::F32 | Precision::Int8 | Precision::Int4) => {
                Layout::Panels(panels::pack(&plain, inputs, outputs))
            }
            (Ops::Fused, Precision::Bf16) => match Packed::new(&plain, inputs, outputs) {
                Some(packed) => Layout::Pairs(Pairs::new(packed)),
                None => Layout::Panels(panels::pack(&plain, inputs, outputs)),
            },
        };
        Ok(Self { inputs, outputs, weights })
    }

    /// Takes matrices `[outputs, inputs]` in blocks, to be laid side by side.
    pub(crate) fn of_blocks(parts: &[int8::QuantisedRows], bits: Bits) -> Self {
        let packed = int8::Packed::new(parts, bits);
        let (inputs, outputs) = (packed.inputs(), packed.outputs());
        Self { inputs, outputs, weights: Layout::Blocks(packed) }
    }

    /// W in bf16, if products with it are computed in bf16.
    pub(crate) fn forward(&self) -> Option<Ready<'_>> {
        match &self.weights {
            Layout::Pairs(pairs) => Some(Ready::Held(pairs.forward())),
            Layout::Quantised(quantised) => quantised.packed().map(Ready::Made),
            Layout::Plain(_) | Layout::Panels(_) | Layout::Blocks(_) => None,
        }
    }

    /// Wᵀ likewise.
    pub(crate) fn backward(&self) -> Option<Ready<'_>> {
        match &self.weights {
            Layout::Pairs(pairs) => Some(Ready::Held(pairs.backward())),
            Layout::Quantised(quantised) => {
                quantised.packed().map(|packed| Ready::Made(packed.transposed()))
            }
            Layout::Plain(_) | Layout::Panels(_) | Layout::Blocks(_) => None,
        }
    }

    /// Whether products with it are computed in bf16.
    pub(crate) fn is_rounded(&self) -> bool {
        match &self.weights {
            Layout::Pairs(_) => true,
            Layout::Quantised(_) => Packed::is_supported(),
            Layout::Plain(_) | Layout::Panels(_) | Layout::Blocks(_) => false,
        }
    }
}

/// The map from hidden states to scores over the vocabulary.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) vocab: usize,
    pub(crate) hidden: usize,
    pub(crate) weights: HeadLayout,
}

#[derive(Debug)]
pub(crate) enum HeadLayout {
    /// Row-major `[vocab, hidden]`, as an embedding is, with which it may share its values.
    Rows(Tensor),
    /// bf16, as a map from hidden to vocabulary.
    Pairs(Pairs),
    /// Eight bits, likewise.
    Blocks(int8::Packed),
}

impl Head {
    /// Takes a matrix `[vocab, hidden]` in blocks.
    pub(crate) fn of_blocks(rows: &[int8::QuantisedRows]) -> Self {
        let packed = int8::Packed::new(rows, Bits::Eight);
        let (hidden, vocab) = (packed.inputs(), packed.outputs());
        Self { vocab, hidden, weights: HeadLayout::Blocks(packed) }
    }

    /// Takes the row-major matrix `[vocab, hidden]`.
    pub(crate) fn new(rows: &Tensor, place: &Place) -> Result<Self> {
        let (vocab, hidden) = rows.dims2()?;
        let packed = match (place.ops, place.precision) {
            (Ops::Fused, Precision::Bf16 | Precision::Q8 | Precision::Q4) => {
                Packed::new(&Host::of(rows)?, vocab, hidden)
            }
            _ => None,
        };
        let weights = match packed {
            Some(packed) => HeadLayout::Pairs(Pairs::new(packed.transposed())),
            None if place.ops == Ops::Fused => HeadLayout::Rows(rows.clone()),
            None => HeadLayout::Rows(rows.to_dtype(place.precision.of_tensors())?),
        };
        Ok(Self { vocab, hidden, weights })
    }
}
