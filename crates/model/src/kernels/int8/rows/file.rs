//! Blocks of GGUF files, code by code.
//!
//! Q8_0 and Q4_1 are what products hold, bit for bit. Q4_0 is Q4_1 with a least value of −8 scales.
//! Q4_K keeps its codes too: the scale and least value of each 32 inputs are products of two numbers
//! in the file, rounded to half precision here (by less than one part in 2,000). Layouts are those of
//! ggml's `block_*` structs.

use candle_core::quantized::GgmlDType;
use half::f16;

use super::{BLOCK, Bits, QuantisedRows};

/// Inputs of a block of Q4_K, eight of ours.
const SUPER: usize = 8 * BLOCK;

impl QuantisedRows {
    /// In how many bits products hold a tensor of this type; none for plain numbers. Types between
    /// four and eight bits are rounded to eight.
    pub(crate) fn bits_of(dtype: GgmlDType) -> Option<Bits> {
        use GgmlDType as T;
        match dtype {
            T::F32 | T::F16 | T::BF16 => None,
            T::Q4_0 | T::Q4_1 | T::Q4K | T::Q2K | T::Q3K => Some(Bits::Four),
            T::Q5_0 | T::Q5_1 | T::Q8_0 | T::Q8_1 | T::Q5K | T::Q6K | T::Q8K => Some(Bits::Eight),
        }
    }

    /// Takes the codes of a GGUF tensor as they are; none for types that have to be rounded, when
    /// there are too few or too many bytes, or when rows are no whole blocks.
    pub(crate) fn of_gguf(
        dtype: GgmlDType,
        bytes: &[u8],
        (rows, inputs): (usize, usize),
    ) -> Option<Self> {
        let (bits, read): (Bits, fn(&mut Self, &[u8])) = match dtype {
            GgmlDType::Q8_0 => (Bits::Eight, Self::q8_0),
            GgmlDType::Q4_0 => (Bits::Four, Self::q4_0),
            GgmlDType::Q4_1 => (Bits::Four, Self::q4_1),
            GgmlDType::Q4K => (Bits::Four, Self::q4_k),
            _ => return None,
        };
        let (width, size) = (dtype.block_size(), dtype.type_size());
        if !inputs.is_multiple_of(width) || bytes.len() != rows * inputs / width * size {
            return None;
        }
        let codes = Vec::with_capacity(rows * inputs);
        let mut read_so_far =
            Self { bits, rows, inputs, codes, scales: Vec::new(), least: Vec::new() };
        bytes.chunks_exact(size).for_each(|block| read(&mut read_so_far, block));
        Some(read_so_far)
    }

    /// A scale and 32 signed bytes.
    fn q8_0(&mut self, block: &[u8]) {
        self.scales.push(half(block).to_bits());
        self.codes.extend(block[2..].iter().map(|code| code ^ 0x80));
    }

    /// A scale and 32 codes of four bits, held 8 higher.
    fn q4_0(&mut self, block: &[u8]) {
        let scale = half(block);
        self.scales.push(scale.to_bits());
        self.least.push(f16::from_f32(-8.0 * scale.to_f32()).to_bits());
        self.nibbles(&block[2..]);
    }

    /// A scale, a least value and 32 codes of four bits.
    fn q4_1(&mut self, block: &[u8]) {
        self.scales.push(half(block).to_bits());
        self.least.push(half(&block[2..]).to_bits());
        self.nibbles(&block[4..]);
    }

    /// A scale of scales, a scale of least values, eight of each in six bits, and 256 codes.
    fn q4_k(&mut self, block: &[u8]) {
        let (of_scales, of_least) = (half(block).to_f32(), half(&block[2..]).to_f32());
        for part in 0..SUPER / BLOCK {
            let (scale, least) = six_bits(&block[4..16], part);
            self.scales.push(f16::from_f32(of_scales * f32::from(scale)).to_bits());
            self.least.push(f16::from_f32(-of_least * f32::from(least)).to_bits());
        }
        for both in block[16..].chunks_exact(BLOCK) {
            self.codes.extend(both.iter().map(|both| both & 15));
            self.codes.extend(both.iter().map(|both| both >> 4));
        }
    }

    /// 32 codes in 16 bytes: the lower halves come first.
    fn nibbles(&mut self, bytes: &[u8]) {
        self.codes.extend(bytes.iter().map(|both| both & 15));
        self.codes.extend(bytes.iter().map(|both| both >> 4));
    }
}

fn half(bytes: &[u8]) -> f16 {
    f16::from_le_bytes([bytes[0], bytes[1]])
}

/// Scale and least value of one part of a Q4_K block: the first four are the lower six bits of their
/// bytes, the others lie in four bits of the last four bytes and the upper two of the first eight.
fn six_bits(packed: &[u8], part: usize) -> (u8, u8) {
    if part < 4 {
        return (packed[part] & 63, packed[part + 4] & 63);
    }
    let low = packed[part + 4];
    ((low & 15) | packed[part - 4] >> 6 << 4, (low >> 4) | packed[part] >> 6 << 4)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, quantized::QTensor};

    use super::*;
    use crate::kernels::{int8::Packed, noise};

    /// What candle makes of the same file bytes.
    fn quantised(dtype: GgmlDType, rows: usize, inputs: usize) -> (Vec<u8>, Vec<f32>) {
        let plain = Tensor::from_vec(noise(rows * inputs, 5), (rows, inputs), &Device::Cpu);
        let tensor = QTensor::quantize(&plain.unwrap(), dtype).unwrap();
        let values = tensor.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap();
        (tensor.data().unwrap().into_owned(), values.to_vec1().unwrap())
    }

    #[test]
    fn every_type_that_is_taken_as_it_is_means_what_candle_reads() {
        for (dtype, tolerance) in [
            (GgmlDType::Q8_0, 0.0),
            (GgmlDType::Q4_0, 0.0),
            (GgmlDType::Q4_1, 1e-6),
            (GgmlDType::Q4K, 1.5e-3),
        ] {
            let (rows, inputs) = (40, 512);
            let (bytes, expected) = quantised(dtype, rows, inputs);
            let taken = QuantisedRows::of_gguf(dtype, &bytes, (rows, inputs)).unwrap();
            assert_eq!(QuantisedRows::bits_of(dtype), Some(taken.bits));
            let (bits, found) = (taken.bits, Packed::new(&[taken], taken_bits(dtype)).plain());
            assert_eq!(bits, taken_bits(dtype));
            for (index, expected) in expected.iter().enumerate() {
                let found = found[index % inputs * rows + index / inputs];
                assert!((found - expected).abs() <= tolerance, "{dtype:?}: {found} {expected}");
            }
        }
    }

    fn taken_bits(dtype: GgmlDType) -> Bits {
        QuantisedRows::bits_of(dtype).unwrap()
    }

    #[test]
    fn bytes_of_another_shape_are_not_taken() {
        let (bytes, _) = quantised(GgmlDType::Q4K, 2, 256);
        let of = |dtype, shape| QuantisedRows::of_gguf(dtype, &bytes, shape);
        assert!(of(GgmlDType::Q4K, (2, 256)).is_some());
        assert!(of(GgmlDType::Q4K, (4, 128)).is_none());
        assert!(of(GgmlDType::Q4K, (1, 256)).is_none());
        assert!(of(GgmlDType::Q8_0, (2, 256)).is_none());
        assert!(of(GgmlDType::Q6K, (2, 256)).is_none());
    }
}
