//! Inputs in eight bits.

use multiversion::multiversion;

use super::BLOCK;

/// Rows of inputs, each block of 32 as signed bytes times a scale: its largest magnitude / 127.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) rows: usize,
    /// Blocks of one row.
    pub(super) blocks: usize,
    /// From −127 to 127, `[rows, blocks, BLOCK]`, zero beyond the last input.
    pub(super) codes: Vec<i8>,
    /// `[rows, blocks]`.
    pub(super) scales: Vec<f32>,
    /// Σ of each block's codes, `[rows, blocks]`.
    pub(super) sums: Vec<i32>,
}

impl Inputs {
    pub(super) fn new(values: &[f32], width: usize, rows: usize) -> Self {
        let blocks = width.div_ceil(BLOCK);
        let mut inputs = Self {
            rows,
            blocks,
            codes: vec![0; rows * blocks * BLOCK],
            scales: vec![0.0; rows * blocks],
            sums: vec![0; rows * blocks],
        };
        if width > 0 {
            round(values, width, &mut inputs);
        }
        inputs
    }
}

#[multiversion(targets = "simd")]
fn round(values: &[f32], width: usize, inputs: &mut Inputs) {
    let blocks = inputs.blocks;
    let rows = values.chunks_exact(width).zip(inputs.codes.chunks_exact_mut(blocks * BLOCK));
    let scales = inputs.scales.chunks_exact_mut(blocks).zip(inputs.sums.chunks_exact_mut(blocks));
    for ((values, codes), (scales, sums)) in rows.zip(scales) {
        let codes = codes.as_chunks_mut::<BLOCK>().0;
        for (((values, codes), scale), sum) in values.chunks(BLOCK).zip(codes).zip(scales).zip(sums)
        {
            let mut block = [0.0_f32; BLOCK];
            block[..values.len()].copy_from_slice(values);
            let mut largest = [0.0_f32; 16];
            for half in block.as_chunks::<16>().0 {
                for (largest, value) in largest.iter_mut().zip(half) {
                    *largest = if value.abs() > *largest { value.abs() } else { *largest };
                }
            }
            let largest = largest.into_iter().fold(0.0_f32, f32::max);
            // Of what is next to nothing there is no inverse; such a block counts as zeros.
            let inverse = 127.0 / largest;
            let inverse = if inverse.is_finite() { inverse } else { 0.0 };
            let mut total = 0;
            for (code, value) in codes.iter_mut().zip(block) {
                // To nearest, ties to even, by pushing the fraction out of the mantissa.
                const ROUND: f32 = 12_582_912.0;
                let whole = (value * inverse + ROUND) - ROUND;
                *code = whole as i8;
                total += i32::from(*code);
            }
            // What is not finite must stay visible in the product.
            let is_finite = values.iter().all(|value| value.is_finite());
            *scale = if is_finite { largest / 127.0 } else { f32::NAN };
            *sum = total;
        }
    }
}
