//! A frozen f32 map for encoders that are no decoder.

use crate::kernels::{gemm::Into, panels, steady};

/// y = x · W for W `[inputs, outputs]` in f32, packed once: products read it in order, repack
/// nothing, and give a row the same bits whoever its neighbours are.
#[derive(Debug)]
pub struct PackedMap {
    inputs: usize,
    outputs: usize,
    panels: Vec<f32>,
}

impl PackedMap {
    /// Takes row-major values `[inputs, outputs]`. Panics when they are more or fewer than that.
    pub fn new(plain: &[f32], inputs: usize, outputs: usize) -> Self {
        assert_eq!(plain.len(), inputs * outputs, "a map of unfit shape");
        Self { inputs, outputs, panels: panels::pack(plain, inputs, outputs) }
    }

    /// Writes x · W over `out`, for row-major `x` `[rows, inputs]` and `out` `[rows, outputs]`, on
    /// all threads. Panics when they disagree about the rows.
    pub fn multiply(&self, x: &[f32], out: &mut [f32]) {
        let rows = x.len().checked_div(self.inputs).unwrap_or(0);
        assert_eq!((x.len(), out.len()), (rows * self.inputs, rows * self.outputs), "unfit rows");
        steady::times_panels(out, x, &self.panels, rows, Into::Replace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{assert_near, noise};

    #[test]
    fn products_agree_with_the_definition_and_with_a_row_alone() {
        for (rows, inputs, outputs) in [(1, 3, 5), (7, 64, 130), (70, 33, 64), (0, 4, 4)] {
            let (x, w) = (noise(rows * inputs, 1), noise(inputs * outputs, 2));
            let (map, mut out) = (PackedMap::new(&w, inputs, outputs), vec![9.0; rows * outputs]);
            map.multiply(&x, &mut out);
            let sum = |row: usize, column: usize| -> f32 {
                (0..inputs).map(|k| x[row * inputs + k] * w[k * outputs + column]).sum()
            };
            let expected: Vec<f32> =
                (0..rows * outputs).map(|at| sum(at / outputs, at % outputs)).collect();
            assert_near(&out, &expected, 1e-4);
            for (x, together) in x.chunks(inputs).zip(out.chunks(outputs)) {
                let mut alone = vec![0.0; outputs];
                map.multiply(x, &mut alone);
                assert_eq!(alone, together);
            }
        }
    }
}
