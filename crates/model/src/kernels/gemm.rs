//! Matrix products into a given place: the one unsafe corner of the crate.

#![expect(unsafe_code, reason = "gemm takes raw pointers; the wrapper checks every bound first")]

use std::{marker::PhantomData, ops::Range};

use gemm::Parallelism;
use understudy_team as team;

/// A matrix inside a slice: element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> View<'a> {
    /// A row-major matrix whose rows lie `row_stride` apart.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// A row-major matrix without gaps.
    pub(crate) fn whole(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::new(data, rows, cols, cols)
    }

    /// The transpose, without moving anything.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Only these columns.
    fn columns(self, columns: Range<usize>) -> Self {
        let first = (columns.start * self.col_stride).min(self.data.len());
        Self { data: &self.data[first..], cols: columns.len(), ..self }
    }

    fn fits(&self) -> bool {
        fits(self.data.len(), (self.rows, self.row_stride), (self.cols, self.col_stride))
    }
}

/// Where a product goes: row-major, rows `row_stride` apart.
#[derive(Debug)]
pub(crate) struct ViewMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a> ViewMut<'a> {
    pub(crate) fn new(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        Self { data, rows, cols, row_stride }
    }

    pub(crate) fn whole(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::new(data, rows, cols, cols)
    }
}

/// What happens to the values already in the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    Replace,
    Add,
}

/// Whether a product may use all threads, or runs inside a task that is already one of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    One,
    All,
}

/// c = a · b · scale, or c += a · b · scale. Panics when shapes disagree or a view leaves its
/// slice; both are mistakes of this crate, not of its caller.
pub(crate) fn gemm<'a>(
    c: ViewMut<'a>,
    a: View<'a>,
    b: View<'a>,
    scale: f32,
    into: Into,
    threads: Threads,
) {
    assert_eq!((c.rows, c.cols, a.cols), (a.rows, b.cols, b.rows), "product of unfit shapes");
    assert!(b.fits(), "an operand leaves its slice");
    let parts = team::threads();
    let job = Job::new(c, a, scale, into);
    let (rows, cols) = (0..job.c.rows, 0..job.c.cols);
    if threads == Threads::One || parts == 1 {
        job.run(rows, cols, b, Parallelism::None);
    } else if rows.len() > SPLIT_UP_TO {
        job.run(rows, cols, b, Parallelism::Rayon(0));
    } else {
        // Vectors run along columns, so parts begin on whole vectors.
        let part = cols.len().div_ceil(parts).next_multiple_of(16);
        team::each(parts, |index| {
            let first = (index * part).min(cols.end);
            let mine = first..(first + part).min(cols.end);
            job.run(rows.clone(), mine.clone(), b.columns(mine), Parallelism::None);
        });
    }
}

/// Up to this many rows it is faster to give each thread its own columns than to let gemm share
/// every block of them.
const SPLIT_UP_TO: usize = 48;

/// A destination and a left operand whose bounds are checked.
struct Job<'a> {
    c: Place<'a>,
    a: View<'a>,
    scale: f32,
    into: Into,
}

/// A destination that several threads write, each its own block.
struct Place<'a> {
    start: *mut f32,
    rows: usize,
    cols: usize,
    row_stride: usize,
    /// The destination stays uniquely borrowed for as long as its place is known.
    _borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: the pointer is only written through `Job::run`, whose callers above give each thread a
// block of rows and columns that no other thread has.
unsafe impl Sync for Place<'_> {}

impl<'a> Job<'a> {
    fn new(c: ViewMut<'a>, a: View<'a>, scale: f32, into: Into) -> Self {
        assert!(a.fits(), "an operand leaves its slice");
        let c_fits = fits(c.data.len(), (c.rows, c.row_stride), (c.cols, 1));
        let is_apart = c.row_stride >= c.cols || c.rows <= 1;
        assert!(c_fits && is_apart, "the destination leaves its slice");
        let (rows, cols, row_stride) = (c.rows, c.cols, c.row_stride);
        let c = Place { start: c.data.as_mut_ptr(), rows, cols, row_stride, _borrow: PhantomData };
        Self { c, a, scale, into }
    }

    /// Computes one block of the product: these rows of a times b, which has these columns.
    fn run(&self, rows: Range<usize>, cols: Range<usize>, b: View<'_>, parallelism: Parallelism) {
        if rows.is_empty() || cols.is_empty() {
            return;
        }
        assert!(rows.end <= self.c.rows && cols.end <= self.c.cols, "a block leaves its product");
        assert_eq!((cols.len(), self.a.cols), (b.cols, b.rows), "a block of unfit shape");
        assert!(b.fits(), "an operand leaves its slice");
        let (c, a) = (&self.c, self.a);
        // SAFETY: every element gemm reads or writes lies at i * row_stride + j * col_stride with
        // i < rows and j < cols, which `fits` keeps within its slice; the block lies within them.
        // The destination is a unique borrow, its rows do not overlap and blocks are disjoint, so
        // no two writes meet and no operand aliases them.
        unsafe {
            gemm::gemm(
                rows.len(),
                cols.len(),
                a.cols,
                c.start.add(rows.start * c.row_stride + cols.start),
                1,
                c.row_stride as isize,
                self.into == Into::Add,
                a.data.as_ptr().wrapping_add(rows.start * a.row_stride),
                a.col_stride as isize,
                a.row_stride as isize,
                b.data.as_ptr(),
                b.col_stride as isize,
                b.row_stride as isize,
                1.0_f32,
                self.scale,
                false,
                false,
                false,
                parallelism,
            );
        }
    }
}

fn fits(
    len: usize,
    (rows, row_stride): (usize, usize),
    (cols, col_stride): (usize, usize),
) -> bool {
    if rows == 0 || cols == 0 {
        return true;
    }
    let last = (rows - 1).checked_mul(row_stride).zip((cols - 1).checked_mul(col_stride));
    last.and_then(|(row, col)| row.checked_add(col)).is_some_and(|last| last < len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference::{assert_near, noise};

    fn naive(c: &mut [f32], stride: usize, a: View<'_>, b: View<'_>, scale: f32, into: Into) {
        for i in 0..a.rows {
            for j in 0..b.cols {
                let at =
                    |v: &View<'_>, i: usize, j: usize| v.data[i * v.row_stride + j * v.col_stride];
                let sum: f32 = (0..a.cols).map(|k| at(&a, i, k) * at(&b, k, j)).sum();
                let old = if into == Into::Add { c[i * stride + j] } else { 0.0 };
                c[i * stride + j] = old + scale * sum;
            }
        }
    }

    #[test]
    fn products_agree_with_the_definition_for_all_layouts() {
        for (m, k, n) in [(1, 1, 1), (3, 5, 7), (1, 64, 96), (17, 33, 9), (64, 16, 100), (5, 0, 4)]
        {
            for into in [Into::Replace, Into::Add] {
                for threads in [Threads::One, Threads::All] {
                    check((m, k, n), into, threads);
                }
            }
        }
    }

    fn check((m, k, n): (usize, usize, usize), into: Into, threads: Threads) {
        let (a, b) = (noise(m * k + 3 * m, 1), noise(n * k + 5 * (k + n), 2));
        let views = [
            (View::new(&a, m, k, k + 3), View::new(&b, k, n, n + 5)),
            (View::whole(&a, k, m).t(), View::new(&b, n, k, k + 5).t()),
        ];
        for (a, b) in views {
            let (mut c, stride) = (noise(m * (n + 2), 3), n + 2);
            let mut expected = c.clone();
            naive(&mut expected, stride, a, b, 0.5, into);
            gemm(ViewMut::new(&mut c, m, n, stride), a, b, 0.5, into, threads);
            assert_near(&c, &expected, 1e-4);
        }
    }

    #[test]
    #[should_panic(expected = "leaves its slice")]
    fn an_operand_that_is_too_short_is_caught() {
        let (mut c, a) = (vec![0.0; 4], vec![0.0; 3]);
        let view = View::whole(&a, 2, 2);
        gemm(ViewMut::whole(&mut c, 2, 2), view, view, 1.0, Into::Replace, Threads::One);
    }

    #[test]
    #[should_panic(expected = "leaves its slice")]
    fn a_destination_whose_rows_overlap_is_caught() {
        let (mut c, a) = (vec![0.0; 4], vec![0.0; 4]);
        let view = View::whole(&a, 2, 2);
        gemm(ViewMut::new(&mut c, 2, 2, 1), view, view, 1.0, Into::Replace, Threads::One);
    }

    #[test]
    #[should_panic(expected = "unfit shapes")]
    fn shapes_that_do_not_meet_are_caught() {
        let (mut c, a) = (vec![0.0; 4], vec![0.0; 6]);
        let (left, right) = (View::whole(&a, 2, 3), View::whole(&a, 2, 3));
        gemm(ViewMut::whole(&mut c, 2, 2), left, right, 1.0, Into::Replace, Threads::One);
    }
}
