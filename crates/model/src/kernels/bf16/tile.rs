//! The inner loop: a few rows times one panel, all sums in registers.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use super::{
    super::{columns::Columns, gemm::Into},
    DEPTH, LINES,
};

/// Columns of a panel: four 512-bit vectors of sums per row.
pub(super) const WIDTH: usize = 64;

/// Rows that are whole tiles of either loop.
pub(super) const ROWS: usize = 12;

/// Sixteen pairs of bf16 in one cache line, so that no load of weights touches two.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u32; 16]);

/// Who multiplies here. Both round operands to bf16 and sum in f32, in an order of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loop {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Loop {
    #[cfg(target_arch = "x86_64")]
    fn here() -> Option<Self> {
        if avx512::is_supported() {
            Some(Self::Avx512)
        } else {
            avx2::is_supported().then_some(Self::Avx2)
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn here() -> Option<Self> {
        None
    }
}

/// Whether one of the loops runs on this processor.
pub(super) fn is_supported() -> bool {
    Loop::here().is_some()
}

/// c (+)= a · w for as many rows of bf16 pairs as c has, `stride` values apart, and one panel's
/// `lines`; c are the panel's columns.
pub(super) fn rows_times_panel(
    (a, stride): (&[u16], usize),
    lines: &[Line],
    c: &mut Columns<'_>,
    into: Into,
) {
    let who = Loop::here().expect("packed weights exist only where a loop runs");
    by(who, (a, stride), lines, c, into);
}

fn by(who: Loop, (a, stride): (&[u16], usize), lines: &[Line], c: &mut Columns<'_>, into: Into) {
    let rows = c.rows;
    assert!(a.len() >= rows * stride && lines.len() * 2 == stride * LINES, "an operand too short");
    let fits = stride.is_multiple_of(2) && stride <= DEPTH && c.width <= WIDTH;
    assert!(fits, "operands of unfit shape");
    #[cfg(target_arch = "x86_64")]
    {
        let mut tile = Tile { a, stride, lines, c, add: into == Into::Add };
        match who {
            Loop::Avx512 => avx512::panel(&mut tile),
            Loop::Avx2 => avx2::panel(&mut tile),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    match who {}
}

/// The operands of a panel's product, whose lengths have been checked.
#[cfg(target_arch = "x86_64")]
struct Tile<'a, 'c> {
    a: &'a [u16],
    stride: usize,
    lines: &'a [Line],
    c: &'a mut Columns<'c>,
    add: bool,
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::{
        super::{Packed, round_rows},
        *,
    };
    use crate::kernels::reference::{assert_near, noise};

    const SHAPES: [(usize, usize, usize); 6] =
        [(1, 64, 64), (2, 3, 5), (3, 70, 33), (5, 71, 63), (7, 16, 1), (40, 70, 50)];

    #[test]
    fn both_loops_agree_with_the_definition() {
        let loops = [(avx2::is_supported(), Loop::Avx2), (avx512::is_supported(), Loop::Avx512)];
        for (_, who) in loops.into_iter().filter(|(runs, _)| *runs) {
            for shape in SHAPES {
                compare(who, shape);
            }
        }
    }

    fn compare(who: Loop, (rows, inputs, outputs): (usize, usize, usize)) {
        let (values, weights) = (noise(rows * inputs, 1), noise(inputs * outputs, 2));
        let packed = Packed::new(&weights, inputs, outputs).expect("one of the loops runs");
        let mut rounded = Vec::new();
        let stride = round_rows(&values, inputs, 0..inputs, &mut rounded);
        let widen = |bits: u16| f32::from_bits(u32::from(bits) << 16);
        let mut expected = noise(rows * outputs, 3);
        let mut found = expected.clone();
        for (at, sum) in expected.iter_mut().enumerate() {
            let (row, output) = (at / outputs, at % outputs);
            let term = |input: usize| {
                widen(rounded[row * stride + input]) * widen(packed.at(input, output))
            };
            *sum += (0..inputs).map(term).sum::<f32>();
        }
        let mut columns = Columns::of(&mut found, (rows, outputs), (0, outputs));
        let lines = packed.panel(0, 0..inputs.div_ceil(2));
        by(who, (&rounded, stride), lines, &mut columns, Into::Add);
        assert_near(&found, &expected, 1e-4);
    }
}
