//! The inner loop: a few rows times one panel, all sums in registers.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

mod left;

use super::{
    super::{columns::Columns, gemm::Into, instructions::Instructions},
    DEPTH,
};
pub(super) use left::Left;

/// Sixteen pairs of bf16 in one cache line, so that no load of weights touches two.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u32; 16]);

/// Who multiplies here. All round operands to bf16 and sum in f32, in an order of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loop {
    #[cfg(target_arch = "x86_64")]
    Amx,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Loop {
    #[cfg(target_arch = "x86_64")]
    pub(super) fn here() -> Option<Self> {
        if super::super::amx::is_supported() {
            Some(Self::Amx)
        } else if avx512::is_supported() {
            Some(Self::Avx512)
        } else {
            avx2::is_supported().then_some(Self::Avx2)
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    pub(super) fn here() -> Option<Self> {
        None
    }

    pub(super) fn instructions(self) -> Instructions {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => Instructions::Amx,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Instructions::Avx512,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Instructions::Avx2,
        }
    }

    /// Lines of one pair of inputs that a tile multiplies together, which are those of a panel: so
    /// it reads its weights one after another.
    pub(super) fn lines(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => amx::LINES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::LINES,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => 1,
        }
    }

    /// Pairs of inputs that are read for as many inputs; those beyond them are zero.
    pub(super) fn pairs(self, inputs: usize) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => inputs.div_ceil(amx::INPUTS) * amx::INPUTS / 2,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Avx2 => inputs.div_ceil(2),
        }
    }

    /// Rows that are whole tiles.
    pub(super) fn rows(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => amx::ROWS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Avx2 => 12,
        }
    }

    /// Rows that one instruction multiplies.
    pub(super) fn rows_at_once(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx => amx::SIDE,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Avx2 => 1,
        }
    }

    /// Columns of a panel.
    pub(super) fn columns(self) -> usize {
        16 * self.lines()
    }
}

/// c (+)= a · w for as many rows as c has and one panel's `lines`; c are the panel's columns. Whoever
/// has such lines has found the processor to run their loop.
pub(super) fn rows_times_panel(a: &Left, lines: &[Line], c: &mut Columns<'_>, into: Into) {
    let (stride, by) = (a.stride(), a.by());
    assert!(a.rows() >= c.rows && lines.len() * 2 == stride * by.lines(), "an operand too short");
    let fits = stride.is_multiple_of(2) && stride <= DEPTH && c.width <= by.columns();
    assert!(fits, "operands of unfit shape");
    #[cfg(target_arch = "x86_64")]
    {
        let add = into == Into::Add;
        match a {
            Left::Tiles { values, .. } => {
                amx::panel(&mut Tile { a: values, stride, lines, c, add });
            }
            Left::Pairs { values, .. } => {
                avx512::panel(&mut Tile { a: values, stride, lines, c, add });
            }
            Left::Wide { values, .. } => {
                avx2::panel(&mut Tile { a: values, stride, lines, c, add });
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    match by {}
}

/// The operands of a panel's product, whose lengths have been checked.
#[cfg(target_arch = "x86_64")]
struct Tile<'a, 'c, T> {
    a: &'a [T],
    stride: usize,
    lines: &'a [Line],
    c: &'a mut Columns<'c>,
    add: bool,
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::{
        super::{Packed, round},
        *,
    };
    use crate::kernels::reference::{assert_near, noise};

    const SHAPES: [(usize, usize, usize); 7] =
        [(1, 64, 64), (2, 3, 5), (3, 70, 33), (5, 71, 63), (7, 16, 1), (40, 70, 50), (80, 96, 64)];

    #[test]
    fn every_loop_agrees_with_the_definition() {
        let loops = [
            (avx2::is_supported(), Loop::Avx2),
            (avx512::is_supported(), Loop::Avx512),
            (crate::kernels::amx::is_supported(), Loop::Amx),
        ];
        for (_, who) in loops.into_iter().filter(|(runs, _)| *runs) {
            for shape in SHAPES {
                compare(who, shape);
            }
        }
    }

    fn compare(who: Loop, (rows, inputs, outputs): (usize, usize, usize)) {
        let (values, weights) = (noise(rows * inputs, 1), noise(inputs * outputs, 2));
        let packed = Packed::fill(who, inputs, outputs, |input, first, line| {
            for (value, from) in line.iter_mut().zip(&weights[input * outputs + first..]) {
                *value = round(*from);
            }
        });
        let mut rounded = Left::new(who);
        rounded.round(&values, inputs, 0..inputs);
        let widen = |bits: u16| f32::from_bits(u32::from(bits) << 16);
        let mut expected = noise(rows * outputs, 3);
        let mut found = expected.clone();
        for (at, sum) in expected.iter_mut().enumerate() {
            let (row, output) = (at / outputs, at % outputs);
            let term = |input: usize| {
                widen(round(values[row * inputs + input])) * widen(packed.at(input, output))
            };
            *sum += (0..inputs).map(term).sum::<f32>();
        }
        let mut columns = Columns::of(&mut found, (rows, outputs), (0, outputs));
        for (panel, mut columns) in columns.parts(who.columns()).enumerate() {
            let lines = packed.panel(panel, &(0..inputs));
            rows_times_panel(&rounded, lines, &mut columns, Into::Add);
        }
        assert_near(&found, &expected, 1e-4);
    }
}
