//! The gated activation: silu(gate) · up.

use multiversion::multiversion;

use super::{
    for_row_bands,
    simd::{LANES, sigmoid},
};

/// Rows `[gate, up]` of `gate_up` to rows of `out`, half as wide.
pub(crate) fn swiglu(gate_up: &[f32], width: usize, out: &mut [f32]) {
    for_row_bands(out, width, |first, out| {
        forward(&gate_up[2 * first * width..][..2 * out.len()], width, out);
    });
}

/// Replaces `[gate, up]` by their gradients, given the gradient of the activation.
pub(crate) fn swiglu_backward(gate_up: &mut [f32], width: usize, d_act: &[f32]) {
    for_row_bands(gate_up, 2 * width, |first, gate_up| {
        backward(gate_up, width, &d_act[first * width..][..gate_up.len() / 2]);
    });
}

#[multiversion(targets = "simd")]
fn forward(gate_up: &[f32], width: usize, out: &mut [f32]) {
    for (row, out) in gate_up.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
        let (gate, up) = row.split_at(width);
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            *out = gate * sigmoid(*gate) * up;
        }
    }
}

#[multiversion(targets = "simd")]
fn backward(gate_up: &mut [f32], width: usize, d_act: &[f32]) {
    for (row, d_act) in gate_up.chunks_exact_mut(2 * width).zip(d_act.chunks_exact(width)) {
        let (gate, up) = row.split_at_mut(width);
        // Copies in and out of whole lanes tell the compiler that nothing overlaps; without them
        // it computes one value at a time.
        let (gates, gate_rest) = gate.as_chunks_mut::<LANES>();
        let (ups, up_rest) = up.as_chunks_mut::<LANES>();
        let (ds, d_rest) = d_act.as_chunks::<LANES>();
        for ((gate, up), d) in gates.iter_mut().zip(ups).zip(ds) {
            let (mut g, mut u) = (*gate, *up);
            for ((g, u), d) in g.iter_mut().zip(&mut u).zip(d) {
                (*g, *u) = gradient(*g, *u, *d);
            }
            (*gate, *up) = (g, u);
        }
        for ((g, u), d) in gate_rest.iter_mut().zip(up_rest).zip(d_rest) {
            (*g, *u) = gradient(*g, *u, *d);
        }
    }
}

/// The gradients of silu(g) · u times d: silu'(g) = σ(g) (1 + g (1 − σ(g))).
#[expect(clippy::inline_always, reason = "inlined into a multiversioned loop it is vector code")]
#[inline(always)]
fn gradient(g: f32, u: f32, d: f32) -> (f32, f32) {
    let s = sigmoid(g);
    (d * u * s * (1.0 + g * (1.0 - s)), d * g * s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{assert_near, differences, noise};

    fn definition(x: &[f64], width: usize) -> Vec<f64> {
        let rows = x.chunks_exact(2 * width).map(|row| {
            let (gate, up) = row.split_at(width);
            gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect::<Vec<f64>>()
        });
        rows.flatten().collect()
    }

    #[test]
    fn forward_and_backward_agree_with_the_definition() {
        for (rows, width) in [(1, 1), (3, 7), (2, 40)] {
            let mut x: Vec<f32> = noise(rows * width * 2, 1).iter().map(|x| 4.0 * x).collect();
            let d_act = noise(rows * width, 2);
            let wide: Vec<f64> = x.iter().copied().map(f64::from).collect();
            let expected: Vec<f32> = definition(&wide, width).iter().map(|y| *y as f32).collect();
            let mut out = vec![0.0; rows * width];
            swiglu(&x, width, &mut out);
            assert_near(&out, &expected, 1e-5);
            let gradient = differences(&x, &d_act, |x| definition(x, width));
            swiglu_backward(&mut x, width, &d_act);
            assert_near(&x, &gradient, 1e-5);
        }
    }
}
