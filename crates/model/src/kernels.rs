//! Fused loops over f32 slices for the CPU.
//!
//! Each is compiled for several instruction sets and picks one at run time; each is tested against
//! a plain scalar reference and, where it is a gradient, against finite differences.

#[cfg(target_arch = "x86_64")]
mod amx;
pub(crate) mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
pub(crate) mod bf16;
pub(crate) mod columns;
pub(crate) mod gemm;
pub(crate) mod instructions;
pub(crate) mod int8;
pub(crate) mod norm;
pub(crate) mod panels;
pub(crate) mod quantised;
pub(crate) mod rope;
mod simd;
pub(crate) mod softmax;
pub(crate) mod steady;
pub(crate) mod swiglu;

use understudy_team as team;

/// Elements below which splitting work over threads costs more than it saves.
const PARALLEL_FROM: usize = 1 << 14;

/// Calls `each(first row, rows of out)` for bands of rows, in parallel when there are many.
pub(crate) fn for_row_bands(
    out: &mut [f32],
    width: usize,
    each: impl Fn(usize, &mut [f32]) + Sync + Send,
) {
    if width == 0 || out.is_empty() {
        return;
    }
    if out.len() < PARALLEL_FROM || team::threads() == 1 {
        return each(0, out);
    }
    let rows = out.len() / width;
    let band = (PARALLEL_FROM / 2 / width).max(1).min(rows);
    team::each_chunk(out, band * width, |index, part| each(index * band, part));
}

#[cfg(test)]
pub(crate) use reference::{assert_near, noise};

#[cfg(test)]
mod reference;
