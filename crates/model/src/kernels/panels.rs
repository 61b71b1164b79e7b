//! Weights in panels: columns in groups of [`width`], each group's rows adjacent.
//!
//! A product walks one panel from start to end, so weights stream from memory in order and need no
//! repacking, neither for one row nor for thousands.

use rayon::prelude::*;

use super::steady;

/// Columns of one panel: those of one tile. A tile that took some columns of a wider panel would
/// jump from line to line, which processors do not foresee: that halved the speed of few rows. The
/// last panel may be narrower.
pub(crate) fn width() -> usize {
    steady::columns_of_a_tile()
}

/// Lays a row-major `[inputs, outputs]` matrix out in panels.
pub(crate) fn pack(plain: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
    let widest = width();
    let mut packed = vec![0.0; plain.len()];
    packed.par_chunks_mut(widest * inputs).enumerate().for_each(|(index, panel)| {
        let first = index * widest;
        let width = panel.len() / inputs;
        for (row, plain) in panel.chunks_exact_mut(width).zip(plain.chunks_exact(outputs)) {
            row.copy_from_slice(&plain[first..first + width]);
        }
    });
    packed
}

/// The transpose of a packed `[inputs, outputs]` matrix, packed as `[outputs, inputs]`.
pub(crate) fn transpose(packed: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
    let widest = width();
    let mut turned = vec![0.0; packed.len()];
    turned.par_chunks_mut(widest * outputs).enumerate().for_each(|(index, panel)| {
        let first = index * widest;
        let to_width = panel.len() / outputs;
        let blocks = packed.chunks(widest * inputs).zip(panel.chunks_mut(widest * to_width));
        for (from, to) in blocks {
            let from_width = from.len() / inputs;
            let from = &from[first * from_width..(first + to_width) * from_width];
            for (column, row) in from.chunks_exact(from_width).enumerate() {
                for (value, to) in row.iter().zip(to.chunks_exact_mut(to_width)) {
                    to[column] = *value;
                }
            }
        }
    });
    turned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::noise;

    const SHAPES: [(usize, usize); 5] = [(1, 1), (3, 64), (70, 65), (128, 192), (65, 200)];

    #[test]
    fn packing_keeps_every_element_and_transposing_twice_changes_nothing() {
        for (inputs, outputs) in SHAPES {
            let plain = noise(inputs * outputs, 1);
            let packed = pack(&plain, inputs, outputs);
            let turned: Vec<f32> = (0..inputs * outputs)
                .map(|at| plain[at % inputs * outputs + at / inputs])
                .collect();
            assert_eq!(transpose(&packed, inputs, outputs), pack(&turned, outputs, inputs));
            let back = transpose(&transpose(&packed, inputs, outputs), outputs, inputs);
            assert_eq!(back, packed);
        }
    }
}
