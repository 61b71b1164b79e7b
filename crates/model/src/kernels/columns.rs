//! A row-major destination whose columns are written by different threads.

#![expect(unsafe_code, reason = "columns of one slice cannot be borrowed apart from each other")]

use std::{marker::PhantomData, ops::Range};

use understudy_team as team;

/// Some adjacent columns of every row of a row-major matrix, borrowed uniquely.
#[derive(Debug)]
pub(crate) struct Columns<'a> {
    start: *mut f32,
    pub(crate) rows: usize,
    /// How far apart rows lie.
    pub(crate) stride: usize,
    pub(crate) width: usize,
    _borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is a unique borrow of its elements, as `&mut [f32]` is.
unsafe impl Send for Columns<'_> {}

impl<'a> Columns<'a> {
    /// Columns `first..first + width` of rows `stride` apart.
    pub(crate) fn of(
        values: &'a mut [f32],
        (rows, stride): (usize, usize),
        (first, width): (usize, usize),
    ) -> Self {
        assert!(rows <= 1 || first + width <= stride, "columns wider than their rows");
        let fits = rows == 0 || (rows - 1) * stride + first + width <= values.len();
        assert!(fits, "columns leave their slice");
        let start = values.as_mut_ptr().wrapping_add(first);
        Self { start, rows, stride, width, _borrow: PhantomData }
    }

    /// One row's part.
    pub(crate) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // SAFETY: `of`, `part` and `bands` have checked that every row's part lies in the slice, and the
        // returned borrow is unique because it borrows the only owner of these columns.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.stride), self.width) }
    }

    /// The same columns in parts of `width`, the last of which may be narrower.
    pub(crate) fn parts(&mut self, width: usize) -> impl Iterator<Item = Columns<'_>> {
        let (start, rows, stride, whole) = (self.start, self.rows, self.stride, self.width);
        (0..whole).step_by(width).map(move |first| Columns {
            start: start.wrapping_add(first),
            rows,
            stride,
            width: width.min(whole - first),
            _borrow: PhantomData,
        })
    }

    /// Some columns of some rows.
    pub(crate) fn part(&mut self, rows: Range<usize>, columns: Range<usize>) -> Columns<'_> {
        let fits = rows.end <= self.rows && columns.end <= self.width;
        assert!(fits && rows.start <= rows.end, "a part beyond its columns");
        Columns {
            start: self.start.wrapping_add(rows.start * self.stride + columns.start),
            rows: rows.len(),
            stride: self.stride,
            width: columns.len(),
            _borrow: PhantomData,
        }
    }

    /// The place of the first element of rows `first..`, which holds while `self` is borrowed.
    pub(crate) fn pointer(&mut self, first: usize) -> *mut f32 {
        assert!(first < self.rows, "row {first} of {}", self.rows);
        self.start.wrapping_add(first * self.stride)
    }
}

/// Calls `each(index, columns)` for bands of `band` columns of row-major `values`, in parallel.
pub(crate) fn for_bands_of_columns(
    values: &mut [f32],
    (rows, width): (usize, usize),
    band: usize,
    each: impl Fn(usize, Columns<'_>) + Sync + Send,
) {
    assert_eq!(values.len(), rows * width, "a matrix of unfit shape");
    let whole = Shared(values.as_mut_ptr());
    team::each(width.div_ceil(band), |index| {
        let first = index * band;
        let columns = Columns {
            start: whole.at(first),
            rows,
            stride: width,
            width: band.min(width - first),
            _borrow: PhantomData,
        };
        each(index, columns);
    });
}

struct Shared(*mut f32);

// SAFETY: the pointer is only used to make bands of columns that do not overlap.
unsafe impl Sync for Shared {}

impl Shared {
    fn at(&self, column: usize) -> *mut f32 {
        self.0.wrapping_add(column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_cover_every_element_once() {
        for (rows, width, band) in [(1, 1, 1), (3, 10, 4), (5, 64, 16), (2, 7, 100), (0, 5, 2)] {
            let mut values = vec![0.0; rows * width];
            for_bands_of_columns(&mut values, (rows, width), band, |index, mut columns| {
                for row in 0..columns.rows {
                    let place = (row * width + index * band..).zip(columns.row(row));
                    place.for_each(|(at, value)| *value += at as f32 + 1.0);
                }
            });
            let expected: Vec<f32> = (0..rows * width).map(|at| at as f32 + 1.0).collect();
            assert_eq!(values, expected);
        }
    }

    #[test]
    fn a_part_is_those_columns_of_those_rows() {
        let mut values = vec![0.0; 5 * 8];
        let mut columns = Columns::of(&mut values, (5, 8), (1, 6));
        let mut part = columns.part(1..4, 2..5);
        assert_eq!((part.rows, part.width), (3, 3));
        (0..3).for_each(|row| part.row(row).fill(1.0));
        for (at, value) in values.into_iter().enumerate() {
            let is_inside = (1..4).contains(&(at / 8)) && (3..6).contains(&(at % 8));
            assert_eq!(value, f32::from(u8::from(is_inside)), "{at}");
        }
    }

    #[test]
    #[should_panic(expected = "a part beyond its columns")]
    fn parts_beyond_their_columns_are_caught() {
        let mut values = vec![0.0; 10];
        Columns::of(&mut values, (2, 5), (0, 3)).part(0..2, 1..4);
    }

    #[test]
    #[should_panic(expected = "columns leave their slice")]
    fn columns_beyond_their_slice_are_caught() {
        let mut values = vec![0.0; 10];
        let _ = Columns::of(&mut values, (3, 4), (0, 4));
    }
}
