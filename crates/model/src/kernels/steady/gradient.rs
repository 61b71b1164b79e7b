//! The gradients of a group of adapters in one pass over the gradient of what they adapt.

use understudy_team as team;

use super::{
    super::{columns::Columns, gemm::Into},
    Rows,
    tile::{self, Left, Right, WIDTH},
};
use crate::host::scratch;

/// Rows in one go: of a wide gradient, as many as the second-level cache holds beside the sums.
const BAND: usize = 32;

/// Maps y += s · u Bᵀ with u = x Aᵀ that share x, and the gradient of y.
#[derive(Debug)]
pub(crate) struct Adapted<'a> {
    pub(crate) dy: Rows<'a>,
    pub(crate) x: Rows<'a>,
    /// `[rows, maps · rank]`.
    pub(crate) u: &'a [f32],
    pub(crate) maps: Vec<Map<'a>>,
    pub(crate) rank: usize,
    pub(crate) scale: f32,
}

/// One map: its columns of y, and B `[outputs, rank]`.
#[derive(Debug)]
pub(crate) struct Map<'a> {
    pub(crate) column: usize,
    pub(crate) outputs: usize,
    pub(crate) b: &'a [f32],
}

/// What [`gradients`] finds.
#[derive(Debug)]
pub(crate) struct Gradients {
    /// s · dy B of every map, `[rows, maps · rank]`.
    pub(crate) du: Vec<f32>,
    sums: Sums,
    /// (first column, outputs) of every map.
    places: Vec<(usize, usize)>,
    width: usize,
    scale: f32,
}

#[derive(Debug)]
struct Sums {
    /// duᵀ x, `[maps · rank, inputs]`.
    a: Vec<f32>,
    /// uᵀ dy, `[rank, dy.width]`: each map's columns with its own u.
    b: Vec<f32>,
}

impl Gradients {
    /// Adds the gradient of the stacked A's, `[maps · rank, inputs]`.
    pub(crate) fn add_a(&self, to: &mut [f32]) {
        add(to, &self.sums.a);
    }

    /// Adds the gradient of one map's B, `[outputs, rank]`.
    pub(crate) fn add_b(&self, map: usize, to: &mut [f32]) {
        let ((column, outputs), rank) = (self.places[map], self.sums.b.len() / self.width);
        for (k, sums) in self.sums.b.chunks_exact(self.width).enumerate() {
            let sums = &sums[column..column + outputs];
            for (to, sum) in to.chunks_exact_mut(rank).zip(sums) {
                to[k] += self.scale * sum;
            }
        }
    }
}

/// Each thread takes a share of the rows; their sums are added in order, so that the same rows give
/// the same gradient.
pub(crate) fn gradients(given: &Adapted<'_>, rows: usize) -> Gradients {
    let stack = given.maps.len() * given.rank;
    let mut du = scratch(rows * stack);
    let share = rows.div_ceil(team::threads()).next_multiple_of(BAND);
    let shares = du.chunks_mut((share * stack).max(1)).enumerate().collect();
    let parts = team::map_items(shares, |(index, du)| {
        let mut sums =
            Sums { a: vec![0.0; stack * given.x.width], b: vec![0.0; given.rank * given.dy.width] };
        for (band, du) in du.chunks_mut(BAND * stack).enumerate() {
            one_band(given, index * share + band * BAND, du, &mut sums);
        }
        sums
    });
    let sums = parts.into_iter().reduce(|mut sums, part| {
        add(&mut sums.a, &part.a);
        add(&mut sums.b, &part.b);
        sums
    });
    let sums = sums.unwrap_or(Sums { a: Vec::new(), b: Vec::new() });
    let places = given.maps.iter().map(|map| (map.column, map.outputs)).collect();
    Gradients { du, sums, places, width: given.dy.width, scale: given.scale }
}

fn one_band(given: &Adapted<'_>, row: usize, du: &mut [f32], sums: &mut Sums) {
    let (dy, x, rank) = (given.dy, given.x, given.rank);
    let stack = given.maps.len() * rank;
    let (rows, u) = (du.len() / stack, &given.u[row * stack..]);
    for (index, map) in given.maps.iter().enumerate() {
        let (at, dy_rows) = (index * rank, &dy.from(row)[map.column..]);
        let left = Left { values: dy_rows, row: dy.stride, step: 1 };
        for first in (0..rank).step_by(WIDTH) {
            let cols = WIDTH.min(rank - first);
            let right = Right { values: &map.b[first..], stride: rank };
            let mut place = Columns::of(du, (rows, stack), (at + first, cols));
            tile::product(left, (right, map.outputs), given.scale, &mut place, Into::Replace);
        }
        let left = Left { values: &u[at..], row: 1, step: stack };
        for first in (0..map.outputs).step_by(WIDTH) {
            let cols = WIDTH.min(map.outputs - first);
            let right = Right { values: &dy_rows[first..], stride: dy.stride };
            let place = (map.column + first, cols);
            let mut place = Columns::of(&mut sums.b, (rank, dy.width), place);
            tile::product(left, (right, rows), 1.0, &mut place, Into::Add);
        }
    }
    let left = Left { values: du, row: 1, step: stack };
    for first in (0..x.width).step_by(WIDTH) {
        let cols = WIDTH.min(x.width - first);
        let right = Right { values: &x.from(row)[first..], stride: x.stride };
        let mut place = Columns::of(&mut sums.a, (stack, x.width), (first, cols));
        tile::product(left, (right, rows), 1.0, &mut place, Into::Add);
    }
}

fn add(to: &mut [f32], values: &[f32]) {
    for (to, value) in to.iter_mut().zip(values) {
        *to += value;
    }
}
