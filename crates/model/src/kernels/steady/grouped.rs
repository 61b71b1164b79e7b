//! Runs of rows that each have a right side of their own: sequences with different adapters.
//!
//! A row alone is a chain of sums that waits for itself, over numbers that come from memory once. Up
//! to four such rows of one shape are therefore walked together, which changes no sum: every element
//! is the same chain as in [`multiply`].

use std::ops::Range;

use half::f16;

use super::{Held, Panels, Rows, Weight, multiply, tile};
use crate::kernels::{columns::Columns, gemm::Into};

/// How many runs are walked together.
pub(crate) const TOGETHER: usize = 4;

/// Rows of a run that is walked together with others, at most.
const TALLEST: usize = 4;

/// Rows that are walked together at most, were all runs as tall as the tallest of them.
const ROWS: usize = 12;

/// Whether a run of these rows is walked together with others of its shape.
pub(crate) fn is_short(rows: &Range<usize>) -> bool {
    (1..=TALLEST).contains(&rows.len())
}

/// Some adjacent rows of a product, and what they are made of.
#[derive(Debug, Clone)]
pub(crate) struct Run<'a, W = Held<'a>> {
    pub(crate) rows: Range<usize>,
    /// As many rows.
    pub(crate) x: Rows<'a>,
    pub(crate) w: W,
    /// Column of the product that the first one of w belongs to.
    pub(crate) column: usize,
}

/// Runs of a product that is made, or added to, wherever its columns are in cache. Rows that can be
/// walked together are, where they are given one after another.
#[derive(Debug, Default)]
pub(crate) struct Grouped<'a> {
    plain: Vec<Run<'a, Panels<'a>>>,
    half: Vec<Run<'a, Panels<'a, f16>>>,
}

impl<'a> FromIterator<Run<'a>> for Grouped<'a> {
    fn from_iter<I: IntoIterator<Item = Run<'a>>>(runs: I) -> Self {
        let mut all = Self::default();
        for Run { rows, x, w, column } in runs {
            assert_eq!(x.width, w.depth(), "a run of unfit shape");
            match w {
                Held::Plain(w) => all.plain.push(Run { rows, x, w, column }),
                Held::Half(w) => all.half.push(Run { rows, x, w, column }),
            }
        }
        all
    }
}

impl Grouped<'_> {
    /// `c`, which is some columns of rows `first..` of the product, becomes what the runs make of it,
    /// or that is added; rows of no run stay as they are.
    pub(crate) fn multiply(
        &self,
        first: usize,
        columns: Range<usize>,
        c: &mut Columns<'_>,
        into: Into,
    ) {
        assert_eq!(c.width, columns.len(), "columns that are not those of the product");
        multiply_all(&self.plain, first, &columns, c, into);
        multiply_all(&self.half, first, &columns, c, into);
    }
}

fn multiply_all<T: Weight>(
    runs: &[Run<'_, Panels<'_, T>>],
    first: usize,
    columns: &Range<usize>,
    c: &mut Columns<'_>,
    into: Into,
) {
    for alike in runs.chunk_by(Run::goes_with) {
        let mut rest = alike;
        while !rest.is_empty() {
            let (group, tail) = rest.split_at(walked_together(rest));
            multiply_group(group, first, columns, c, into);
            rest = tail;
        }
    }
}

/// How many of these, from the first on, one loop holds the sums of.
fn walked_together<T>(runs: &[Run<'_, Panels<'_, T>>]) -> usize {
    let mut tallest = 0;
    let fits = |(index, run): &(usize, &Run<'_, _>)| {
        tallest = tallest.max(run.rows.len());
        *index < TOGETHER && (index + 1) * tallest <= ROWS
    };
    runs.iter().enumerate().take_while(fits).count().max(1)
}

/// Runs that go together, or one.
fn multiply_group<T: Weight>(
    group: &[Run<'_, Panels<'_, T>>],
    first: usize,
    columns: &Range<usize>,
    c: &mut Columns<'_>,
    into: Into,
) {
    let Some(Run { w, column, .. }) = group.first() else { return };
    let (start, end) = (columns.start.max(*column), columns.end.min(column + w.width));
    if start >= end {
        return;
    }
    let (here, there) = (start - column..end - column, start - columns.start..end - columns.start);
    let inside = first..first + c.rows;
    let is_inside = |run: &Run<'_, _>| inside.start <= run.rows.start && run.rows.end <= inside.end;
    if w.are_whole_panels(&here) && group.iter().all(is_inside) {
        let mut c = c.part(0..c.rows, there.clone());
        let done = match group.iter().map(|run| run.rows.len()).max() {
            Some(1) => walk_all::<T, 1>(group, first, &here, &mut c, into),
            Some(2) => walk_all::<T, 2>(group, first, &here, &mut c, into),
            Some(3) => walk_all::<T, 3>(group, first, &here, &mut c, into),
            Some(4) => walk_all::<T, 4>(group, first, &here, &mut c, into),
            _ => false,
        };
        if done {
            return;
        }
    }
    for run in group {
        let rows = run.rows.start.max(inside.start)..run.rows.end.min(inside.end);
        if rows.is_empty() {
            continue;
        }
        let x = Rows { values: run.x.from(rows.start - run.rows.start), ..run.x };
        let mut c = c.part(rows.start - first..rows.end - first, there.clone());
        multiply(x, (run.w, here.clone()), &mut c, into);
    }
}

/// Runs of up to R rows walked together; false where no loop is made for that.
fn walk_all<T: Weight, const R: usize>(
    group: &[Run<'_, Panels<'_, T>>],
    first: usize,
    columns: &Range<usize>,
    c: &mut Columns<'_>,
    into: Into,
) -> bool {
    match group {
        [a] if R == 1 => walk::<T, 1, R>([a], first, columns, c, into),
        [a, b] => walk::<T, 2, R>([a, b], first, columns, c, into),
        [a, b, d] => walk::<T, 3, R>([a, b, d], first, columns, c, into),
        [a, b, d, e] => walk::<T, 4, R>([a, b, d, e], first, columns, c, into),
        _ => false,
    }
}

fn walk<T: Weight, const G: usize, const R: usize>(
    runs: [&Run<'_, Panels<'_, T>>; G],
    first: usize,
    columns: &Range<usize>,
    c: &mut Columns<'_>,
    into: Into,
) -> bool {
    let (depth, panel) = (runs[0].w.depth, runs[0].w.panel);
    let w = runs.map(|run| &run.w.values[columns.start * depth..columns.end * depth]);
    let places = runs.map(|run| run.rows.start - first..run.rows.end - first);
    tile::alone::<T, G, R>((runs.map(|run| run.x), w), panel, (c, places), into)
}

impl<T> Run<'_, Panels<'_, T>> {
    fn goes_with(&self, other: &Self) -> bool {
        let shape = |run: &Self| (run.column, (run.w.depth, run.w.width, run.w.panel));
        is_short(&self.rows) && is_short(&other.rows) && shape(self) == shape(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{panels, reference::noise};

    /// (inner, columns): narrower than a vector, ragged, a whole panel, several and a rest.
    const SHAPES: [(usize, usize); 6] = [(9, 8), (33, 24), (5, 48), (16, 64), (8, 200), (1, 1)];

    /// A product `[rows, inner]` times a right side for each run, and some columns beside it.
    struct Given {
        inner: usize,
        cols: usize,
        x: Vec<f32>,
        plain: Vec<Vec<f32>>,
        half: Vec<Vec<f16>>,
    }

    impl Given {
        fn new(rows: usize, runs: usize, (inner, cols): (usize, usize)) -> Self {
            let w = noise(runs * inner * cols, 2);
            let pack = |w| panels::pack(w, inner, cols);
            let plain: Vec<Vec<f32>> = w.chunks(inner * cols).map(pack).collect();
            let round = |w: &Vec<f32>| w.iter().map(|value| f16::from_f32(*value)).collect();
            let half = plain.iter().map(round).collect();
            Self { inner, cols, x: noise(rows * inner, 1), plain, half }
        }

        /// Both precisions by turns, so that some neighbours differ in theirs.
        fn run(&self, index: usize, rows: Range<usize>) -> Run<'_> {
            let w = if index % 6 == 5 {
                Held::Plain(Panels::packed(&self.plain[index], self.cols))
            } else {
                Held::Half(Panels::packed(&self.half[index], self.cols))
            };
            Run {
                x: Rows::whole(&self.x[rows.start * self.inner..], self.inner),
                rows,
                w,
                column: 3,
            }
        }

        /// The same by one product for each row.
        fn one_by_one(&self, runs: &[Run<'_>], c: &mut [f32], into: Into) {
            let stride = self.cols + 7;
            for run in runs {
                for row in run.rows.clone() {
                    let mut c = Columns::of(&mut c[row * stride..], (1, stride), (3, self.cols));
                    let x = Rows { values: run.x.from(row - run.rows.start), ..run.x };
                    match run.w {
                        Held::Plain(w) => multiply(x, (w, 0..self.cols), &mut c, into),
                        Held::Half(w) => multiply(x, (w, 0..self.cols), &mut c, into),
                    }
                }
            }
        }
    }

    fn assert_bits(found: &[f32], expected: &[f32], what: &str) {
        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits();
        assert!(found.iter().zip(expected).all(same), "{what}");
    }

    #[test]
    fn rows_walked_together_are_bit_for_bit_those_multiplied_alone() {
        for (shape, into) in SHAPES.into_iter().flat_map(|s| [(s, Into::Replace), (s, Into::Add)]) {
            // Singles, a run of three in their midst, and rows of nobody.
            for count in 1..=2 * TOGETHER + 3 {
                let rows = |at: usize| match at {
                    0..7 => at..at + 1,
                    7 => 7..10,
                    _ => at + 4..at + 5,
                };
                let (all, stride) = (rows(count - 1).end + 1, shape.1 + 7);
                let given = Given::new(all, count, shape);
                let runs: Vec<Run<'_>> = (0..count).map(|at| given.run(at, rows(at))).collect();
                let mut found = noise(all * stride, 3);
                let mut expected = found.clone();
                given.one_by_one(&runs, &mut expected, into);
                let mut c = Columns::of(&mut found, (all, stride), (0, stride));
                runs.into_iter().collect::<Grouped<'_>>().multiply(0, 0..stride, &mut c, into);
                assert_bits(&found, &expected, &format!("{count} of {shape:?}"));
            }
        }
    }

    #[test]
    fn short_runs_walked_together_are_bit_for_bit_those_multiplied_alone() {
        let heights: [&[usize]; 8] = [
            &[2, 2],
            &[2, 1, 2, 1, 2],
            &[3, 3, 3, 3],
            &[4, 4],
            &[4, 1, 3],
            &[1, 4, 2, 5, 3, 4],
            &[1, 1, 1, 4, 4, 4, 4],
            &[2, 9, 2],
        ];
        let into = [Into::Replace, Into::Add];
        for ((shape, heights), into) in SHAPES
            .into_iter()
            .flat_map(|s| heights.map(|h| (s, h)))
            .flat_map(|g| into.map(|i| (g, i)))
        {
            let (all, stride) = (heights.iter().sum(), shape.1 + 7);
            let given = Given::new(all, heights.len(), shape);
            let starts = heights.iter().scan(0, |end, height| {
                *end += height;
                Some(*end - height..*end)
            });
            let runs: Vec<Run<'_>> =
                starts.enumerate().map(|(at, rows)| given.run(at, rows)).collect();
            let mut found = noise(all * stride, 3);
            let mut expected = found.clone();
            given.one_by_one(&runs, &mut expected, into);
            let mut c = Columns::of(&mut found, (all, stride), (0, stride));
            runs.into_iter().collect::<Grouped<'_>>().multiply(0, 0..stride, &mut c, into);
            assert_bits(&found, &expected, &format!("{heights:?} of {shape:?}"));
        }
    }

    #[test]
    fn bands_of_rows_and_of_columns_give_the_same_bits() {
        let (shape, rows) = ((16, 200), 11);
        let (given, stride) = (Given::new(rows, rows - 2, shape), shape.1 + 7);
        let of = |at: usize| if at == 0 { 0..3 } else { at + 2..at + 3 };
        let runs: Vec<Run<'_>> = (0..rows - 2).map(|at| given.run(at, of(at))).collect();
        let mut expected = vec![0.5; rows * stride];
        given.one_by_one(&runs, &mut expected, Into::Add);
        let grouped: Grouped<'_> = runs.into_iter().collect();
        for (band, width) in [(1, stride), (2, 67), (4, 5), (rows, 131), (rows, 1)] {
            let mut found = vec![0.5; rows * stride];
            for first in (0..rows).step_by(band) {
                for column in (0..stride).step_by(width) {
                    let columns = column..(column + width).min(stride);
                    let height = band.min(rows - first);
                    let place = (column, columns.len());
                    let mut c = Columns::of(&mut found[first * stride..], (height, stride), place);
                    grouped.multiply(first, columns, &mut c, Into::Add);
                }
            }
            assert_bits(&found, &expected, &format!("bands of {band} rows, {width} columns"));
        }
    }

    #[test]
    #[should_panic(expected = "a run of unfit shape")]
    fn a_run_that_does_not_fit_its_right_side_is_caught() {
        let w = Held::Plain(Panels::packed(&[0.0; 12], 4));
        let run = Run { rows: 0..1, x: Rows::whole(&[0.0; 2], 2), w, column: 0 };
        let _: Grouped<'_> = [run].into_iter().collect();
    }
}
