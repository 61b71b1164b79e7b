//! What the loops with sums in registers have in common, whatever the registers' width: queries come
//! to them in groups, for each number of which they are compiled.

/// Queries whose sums are held at once, so that each key and value is loaded once for all of them:
/// they fill 15 of 16 registers of 256 bits, or 28 of 32 of 512.
pub(super) const AT_ONCE: usize = 6;

/// Values that are blended together at least: a cache line in f32.
pub(super) const LINE: usize = 16;

/// Whether sixteen values of this type from a multiple of sixteen on begin a cache line, which is
/// called for then. Places within a block are as if it began with a line: where it does not, a line
/// too few is called for at one end.
pub(super) const fn begins_line<T>(at: usize) -> bool {
    (at * size_of::<T>()).is_multiple_of(64)
}

/// How many blocks ahead of the one being read the next are called for: their pieces of one layer
/// and head are too short for the processor to foresee.
pub(super) const AHEAD: usize = 4;

/// A module's `score` and `blend` over its `score_group` and `blend_group`, which only processors may
/// run that its `is_supported` is true of.
macro_rules! in_groups {
    () => {
        /// False where the processor cannot; nothing is written then.
        pub(super) fn score<T: Weight>(
            queries: &[f32],
            blocks: &[&[T]],
            dim: usize,
            scores: &mut [f32],
        ) -> bool {
            if !is_supported() {
                return false;
            }
            let padded = blocks.len() * BLOCK;
            let groups = queries.chunks(AT_ONCE * dim).zip(scores.chunks_mut(AT_ONCE * padded));
            for (queries, scores) in groups {
                // SAFETY: the processor has the instructions.
                unsafe {
                    match queries.len() / dim {
                        1 => score_group::<T, 1>(queries, blocks, dim, scores),
                        2 => score_group::<T, 2>(queries, blocks, dim, scores),
                        3 => score_group::<T, 3>(queries, blocks, dim, scores),
                        4 => score_group::<T, 4>(queries, blocks, dim, scores),
                        5 => score_group::<T, 5>(queries, blocks, dim, scores),
                        _ => score_group::<T, AT_ONCE>(queries, blocks, dim, scores),
                    }
                }
            }
            true
        }

        /// False where the processor cannot, or the width is no multiple of a cache line; nothing is
        /// written then.
        pub(super) fn blend<T: Weight>(
            weights: &[f32],
            blocks: &[&[T]],
            (dim, context): (usize, usize),
            out: &mut [f32],
        ) -> bool {
            if !is_supported() || !dim.is_multiple_of(LINE) {
                return false;
            }
            let padded = blocks.len() * BLOCK;
            let groups = weights.chunks(AT_ONCE * padded).zip(out.chunks_mut(AT_ONCE * dim));
            for (weights, out) in groups {
                // SAFETY: the processor has the instructions.
                unsafe {
                    match out.len() / dim {
                        1 => blend_group::<T, 1>(weights, blocks, (dim, context), out),
                        2 => blend_group::<T, 2>(weights, blocks, (dim, context), out),
                        3 => blend_group::<T, 3>(weights, blocks, (dim, context), out),
                        4 => blend_group::<T, 4>(weights, blocks, (dim, context), out),
                        5 => blend_group::<T, 5>(weights, blocks, (dim, context), out),
                        _ => blend_group::<T, AT_ONCE>(weights, blocks, (dim, context), out),
                    }
                }
            }
            true
        }
    };
}
pub(super) use in_groups;
