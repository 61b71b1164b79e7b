//! The loop over tiles of the processor's matrix unit.

#![expect(unsafe_code, reason = "blocks of the unit are reached through pointers")]

pub(super) use super::super::super::amx::SIDE;
use super::{
    super::super::amx::{AHEAD, Sums, TILE_BYTES, Tiles, bf16_tall, bf16_wide},
    Tile,
};

/// Lines of a pair of inputs: four tiles of sixteen columns.
pub(super) const LINES: usize = 4;

/// Rows of the taller block.
pub(super) const ROWS: usize = 2 * SIDE;

/// Inputs of one tile.
pub(super) const INPUTS: usize = 32;

/// Columns of a panel.
const COLUMNS: usize = LINES * SIDE;

/// All rows of a panel's product; `a` holds whole tiles, sixteen rows by sixteen rows. The caller has
/// checked bounds.
pub(super) fn panel(of: &mut Tile<'_, '_, u16>) {
    let tiles = Tiles::configure();
    let rows = of.c.rows;
    for first in (0..rows).step_by(ROWS) {
        let count = (rows - first).min(ROWS);
        if of.c.width == COLUMNS && count.is_multiple_of(SIDE) {
            let sums = Sums { first: of.c.pointer(first), stride: of.c.stride, add: of.add };
            // SAFETY: the panel's columns are all of the block's, and so are the rows.
            unsafe { block(&tiles, of, (first, count), sums) };
        } else {
            at_the_edge(&tiles, of, (first, count));
        }
    }
}

/// A block of which only some rows or columns are asked for.
fn at_the_edge(tiles: &Tiles, of: &mut Tile<'_, '_, u16>, (first, count): (usize, usize)) {
    let mut whole = [0.0_f32; ROWS * COLUMNS];
    let (rows, width) = (first..first + count, of.c.width);
    if of.add {
        for (to, row) in whole.chunks_exact_mut(COLUMNS).zip(rows.clone()) {
            to[..width].copy_from_slice(of.c.row(row));
        }
    }
    let sums = Sums { first: whole.as_mut_ptr(), stride: COLUMNS, add: of.add };
    // SAFETY: the array is as large as the largest block.
    unsafe { block(tiles, of, (first, count), sums) };
    for (from, row) in whole.chunks_exact(COLUMNS).zip(rows) {
        of.c.row(row).copy_from_slice(&from[..width]);
    }
}

/// # Safety
///
/// `sums` has COLUMNS values in each of as many rows as `count`, rounded up to whole tiles.
unsafe fn block(tiles: &Tiles, of: &Tile<'_, '_, u16>, (first, count): (usize, usize), sums: Sums) {
    let (deep, stripes) = (of.stride / INPUTS, count.div_ceil(SIDE));
    let a = &of.a[first * of.stride..];
    assert!(size_of_val(a) >= stripes * deep * TILE_BYTES, "fewer rows than a block has");
    let (a, w) = (a.as_ptr().cast(), of.lines.as_ptr().cast());
    // SAFETY: `a` holds as many tiles by the line above, and the caller of `panel` has found LINES
    // lines of weights for each pair of inputs; the two halves of a panel are two lines apart.
    unsafe {
        if stripes == 1 {
            bf16_wide(tiles, a, w, deep, sums);
        } else {
            let right = Sums { first: sums.first.wrapping_add(COLUMNS / 2), ..sums };
            if first == 0 {
                bf16_tall::<AHEAD>(tiles, a, w, deep, sums);
            } else {
                bf16_tall::<0>(tiles, a, w, deep, sums);
            }
            bf16_tall::<0>(tiles, a, w.wrapping_byte_add(128), deep, right);
        }
    }
}
