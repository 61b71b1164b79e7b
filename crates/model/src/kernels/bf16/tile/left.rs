//! The left side of a product, rounded to bf16 as its loop reads it.

use std::ops::Range;

use multiversion::multiversion;

#[cfg(target_arch = "x86_64")]
use super::amx::{INPUTS, SIDE};
use super::{super::round, Loop};

/// Rows of whole pairs of values, the last of them 0 where there are fewer.
#[derive(Debug)]
pub(in super::super) enum Left {
    /// For the matrix unit, bits of bf16 in whole tiles: `[stripes of sixteen rows, stride / 32, 16,
    /// 32]`, zero beyond the last row.
    #[cfg(target_arch = "x86_64")]
    Tiles { stride: usize, values: Vec<u16> },
    /// For the dot product of pairs: bits of bf16.
    #[cfg(target_arch = "x86_64")]
    Pairs { stride: usize, values: Vec<u16> },
    /// For the loop that multiplies f32: the same values, widened here once instead of in every tile.
    #[cfg(target_arch = "x86_64")]
    Wide { stride: usize, values: Vec<f32> },
}

impl Left {
    /// Without rows.
    pub(in super::super) fn new(by: Loop) -> Self {
        match by {
            #[cfg(target_arch = "x86_64")]
            Loop::Amx => Self::Tiles { stride: 0, values: Vec::new() },
            #[cfg(target_arch = "x86_64")]
            Loop::Avx512 => Self::Pairs { stride: 0, values: Vec::new() },
            #[cfg(target_arch = "x86_64")]
            Loop::Avx2 => Self::Wide { stride: 0, values: Vec::new() },
        }
    }

    /// Holds columns `depth` of row-major `from`, `width` values wide, and nothing else.
    pub(in super::super) fn round(&mut self, from: &[f32], width: usize, depth: Range<usize>) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Tiles { stride, values } => *stride = tiles(from, width, depth, values),
            #[cfg(target_arch = "x86_64")]
            Self::Pairs { stride, values } => *stride = rows(from, width, depth, values, to_bits),
            #[cfg(target_arch = "x86_64")]
            Self::Wide { stride, values } => *stride = rows(from, width, depth, values, to_nearest),
        }
    }

    pub(super) fn by(&self) -> Loop {
        match *self {
            #[cfg(target_arch = "x86_64")]
            Self::Tiles { .. } => Loop::Amx,
            #[cfg(target_arch = "x86_64")]
            Self::Pairs { .. } => Loop::Avx512,
            #[cfg(target_arch = "x86_64")]
            Self::Wide { .. } => Loop::Avx2,
        }
    }

    /// How far apart rows lie: an even number.
    pub(super) fn stride(&self) -> usize {
        match *self {
            #[cfg(target_arch = "x86_64")]
            Self::Tiles { stride, .. } | Self::Pairs { stride, .. } | Self::Wide { stride, .. } => {
                stride
            }
        }
    }

    pub(super) fn rows(&self) -> usize {
        let values = match self {
            #[cfg(target_arch = "x86_64")]
            Self::Tiles { values, .. } | Self::Pairs { values, .. } => values.len(),
            #[cfg(target_arch = "x86_64")]
            Self::Wide { values, .. } => values.len(),
        };
        values.checked_div(self.stride()).unwrap_or(0)
    }
}

/// Writes columns `depth` of all rows; returns how far apart they lie.
fn rows<T: Copy + Default>(
    from: &[f32],
    width: usize,
    depth: Range<usize>,
    to: &mut Vec<T>,
    row: impl Fn(&[f32], &mut [T]),
) -> usize {
    let stride = depth.len().next_multiple_of(2);
    to.clear();
    to.resize(from.len() / width * stride, T::default());
    for (from, to) in from.chunks_exact(width).zip(to.chunks_exact_mut(stride)) {
        row(&from[depth.clone()], to);
    }
    stride
}

/// The same in tiles.
#[cfg(target_arch = "x86_64")]
#[multiversion(targets = "simd")]
fn tiles(from: &[f32], width: usize, depth: Range<usize>, to: &mut Vec<u16>) -> usize {
    let (rows, stride) = (from.len() / width, depth.len().next_multiple_of(INPUTS));
    to.clear();
    to.resize(rows.next_multiple_of(SIDE) * stride, 0);
    let stripes = from.chunks(SIDE * width).zip(to.chunks_exact_mut(SIDE * stride));
    for (from, to) in stripes {
        for (row, from) in from.chunks_exact(width).enumerate() {
            let tiles = to.chunks_exact_mut(SIDE * INPUTS);
            for (from, tile) in from[depth.clone()].chunks(INPUTS).zip(tiles) {
                for (from, to) in from.iter().zip(&mut tile[row * INPUTS..]) {
                    *to = round(*from);
                }
            }
        }
    }
    stride
}

#[multiversion(targets = "simd")]
fn to_bits(from: &[f32], to: &mut [u16]) {
    for (from, to) in from.iter().zip(to) {
        *to = round(*from);
    }
}

#[multiversion(targets = "simd")]
fn to_nearest(from: &[f32], to: &mut [f32]) {
    for (from, to) in from.iter().zip(to) {
        *to = f32::from_bits(u32::from(round(*from)) << 16);
    }
}
