//! The inner loop: a few rows times one panel, by whichever instructions the processor has.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
#[cfg(target_arch = "x86_64")]
mod narrow;

use half::f16;

use super::{
    super::{columns::Columns, gemm::Into, instructions::Instructions},
    BLOCK, Bits, Panel, WIDTH,
    inputs::Inputs,
};

/// Sixty-four bytes in one cache line: four inputs of sixteen outputs.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u8; 64]);

impl Default for Line {
    fn default() -> Self {
        Self([0; 64])
    }
}

/// Who multiplies here. All of them sum the products of a block exactly and add its scaled sum to
/// those of the blocks before; the fast ones round alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loop {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Plain,
}

impl Loop {
    fn here() -> Self {
        #[cfg(target_arch = "x86_64")]
        if avx512::is_supported() {
            return Self::Avx512;
        } else if avx_vnni::is_supported() {
            return Self::AvxVnni;
        } else if avx2::is_supported() {
            return Self::Avx2;
        }
        Self::Plain
    }
}

/// What the loop that runs here is made of.
pub(super) fn instructions() -> Instructions {
    match Loop::here() {
        #[cfg(target_arch = "x86_64")]
        Loop::Avx512 => Instructions::Avx512,
        #[cfg(target_arch = "x86_64")]
        Loop::AvxVnni => Instructions::AvxVnni,
        #[cfg(target_arch = "x86_64")]
        Loop::Avx2 => Instructions::Avx2,
        Loop::Plain => Instructions::Plain,
    }
}

/// c (+)= a · w for as many rows as c has; c are the panel's columns.
pub(super) fn rows_times_panel(a: &Inputs, w: Panel<'_>, c: &mut Columns<'_>, into: Into) {
    by(Loop::here(), a, w, c, into);
}

fn by(who: Loop, a: &Inputs, w: Panel<'_>, c: &mut Columns<'_>, into: Into) {
    assert!(c.width <= WIDTH && c.rows == a.rows, "a product of unfit shape");
    assert_eq!(w.lines.len(), a.blocks * w.bits.lines(), "a panel of unfit depth");
    assert_eq!(w.scales.len(), a.blocks * w.bits.scales() * WIDTH, "a panel of unfit depth");
    let add = into == Into::Add;
    match who {
        #[cfg(target_arch = "x86_64")]
        Loop::Avx512 => avx512::panel(a, w, c, add),
        #[cfg(target_arch = "x86_64")]
        Loop::AvxVnni => avx_vnni::panel(a, w, c, add),
        #[cfg(target_arch = "x86_64")]
        Loop::Avx2 => avx2::panel(a, w, c, add),
        Loop::Plain => plain(a, w, c, add),
    }
}

/// The same, one value at a time: the reference, and what other processors run.
fn plain(a: &Inputs, w: Panel<'_>, c: &mut Columns<'_>, add: bool) {
    for row in 0..a.rows {
        let mut sums = [0.0_f32; WIDTH];
        for block in 0..a.blocks {
            let at = row * a.blocks + block;
            let codes = &a.codes[at * BLOCK..(at + 1) * BLOCK];
            for (output, sum) in sums.iter_mut().enumerate() {
                let products = codes.iter().enumerate().map(|(input, code)| {
                    i32::from(w.code(block * BLOCK + input, output)) * i32::from(*code)
                });
                let (scale, least) = w.scale(block, output);
                let exact: i32 = products.sum();
                *sum += match w.bits {
                    Bits::Eight => (exact - 128 * a.sums[at]) as f32 * a.scales[at] * scale,
                    Bits::Four => (exact as f32 * scale + a.sums[at] as f32 * least) * a.scales[at],
                };
            }
        }
        for (place, sum) in c.row(row).iter_mut().zip(sums) {
            *place = if add { *place + sum } else { sum };
        }
    }
}

impl Panel<'_> {
    /// One weight's code.
    fn code(&self, input: usize, output: usize) -> u8 {
        let (block, group) = (input / BLOCK, input % BLOCK / 4);
        let lines = &self.lines[block * self.bits.lines()..];
        let (half, lane) = (output / 16, output % 16 * 4 + input % 4);
        match self.bits {
            Bits::Eight => lines[2 * group + half].0[lane],
            Bits::Four => lines[2 * (group % 4) + half].0[lane] >> (group / 4 * 4) & 15,
        }
    }

    /// Scale and least value of a block.
    fn scale(&self, block: usize, output: usize) -> (f32, f32) {
        let scales = &self.scales[block * self.bits.scales() * WIDTH..];
        let at = |index: usize| f16::from_bits(scales[index]).to_f32();
        match self.bits {
            Bits::Eight => (at(output), 0.0),
            Bits::Four => (at(output), at(WIDTH + output)),
        }
    }

    pub(super) fn weight(&self, input: usize, output: usize) -> f32 {
        let (scale, least) = self.scale(input / BLOCK, output);
        let code = f32::from(self.code(input, output));
        match self.bits {
            Bits::Eight => (code - 128.0) * scale,
            Bits::Four => code * scale + least,
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::GgmlDType;

    use super::*;
    use crate::kernels::{
        int8::{Packed, QuantisedRows, tests::SHAPES},
        reference::{assert_near, noise},
    };

    /// What every loop that runs here finds for one panel.
    fn found(inputs: usize, outputs: usize, bits: Bits, rows: usize) -> Vec<(Loop, Vec<f32>)> {
        let weights = noise(inputs * outputs, 5);
        let packed = Packed::new(&[QuantisedRows::round(&weights, inputs, bits)], bits);
        let a = Inputs::new(&noise(rows * inputs, 1), inputs, rows);
        let width = outputs.min(WIDTH);
        let product = |who| {
            let mut c = noise(rows * width, 2);
            let mut columns = Columns::of(&mut c, (rows, width), (0, width));
            by(who, &a, packed.panel(0), &mut columns, Into::Add);
            (who, c)
        };
        loops().map(product).collect()
    }

    /// The plain one, and then the fast ones that run here.
    fn loops() -> impl Iterator<Item = Loop> {
        let mut loops = vec![Loop::Plain];
        #[cfg(target_arch = "x86_64")]
        {
            loops.extend(avx2::is_supported().then_some(Loop::Avx2));
            loops.extend(avx_vnni::is_supported().then_some(Loop::AvxVnni));
            loops.extend(avx512::is_supported().then_some(Loop::Avx512));
        }
        loops.into_iter()
    }

    #[test]
    fn every_loop_agrees_with_the_plain_one_and_the_fast_ones_exactly() {
        for (inputs, outputs) in SHAPES {
            for bits in [Bits::Eight, Bits::Four] {
                (1..8).for_each(|rows| compare(&found(inputs, outputs, bits, rows)));
            }
        }
    }

    fn compare(all: &[(Loop, Vec<f32>)]) {
        let [(_, plain), fast @ ..] = all else { unreachable!("the plain loop runs anywhere") };
        for (_, fast) in fast {
            assert_near(fast, plain, 1e-5);
        }
        assert!(fast.windows(2).all(|two| two[0].1 == two[1].1), "{all:?}");
    }

    /// A file may hold −128, which rounding never gives.
    #[test]
    fn every_loop_reads_any_byte_of_a_file_alike() {
        let scale = f16::from_f32(0.01).to_le_bytes();
        let codes = |at: usize| if at.is_multiple_of(3) { 0x80 } else { (at * 37 % 256) as u8 };
        let block =
            |block: usize| scale.into_iter().chain((0..32).map(move |at| codes(32 * block + at)));
        let bytes: Vec<u8> = (0..2 * WIDTH).flat_map(block).collect();
        let rows = QuantisedRows::of_gguf(GgmlDType::Q8_0, &bytes, (WIDTH, 64)).unwrap();
        let packed = Packed::new(&[rows], Bits::Eight);
        for values in [[1.0; 64 * 5], [-1.0; 64 * 5]] {
            let a = Inputs::new(&values, 64, 5);
            let all: Vec<(Loop, Vec<f32>)> = loops()
                .map(|who| {
                    let mut c = vec![0.0; 5 * WIDTH];
                    let mut columns = Columns::of(&mut c, (5, WIDTH), (0, WIDTH));
                    by(who, &a, packed.panel(0), &mut columns, Into::Replace);
                    (who, c)
                })
                .collect();
            compare(&all);
        }
    }

    #[test]
    fn the_largest_codes_do_not_overflow() {
        for bits in [Bits::Eight, Bits::Four] {
            // Half of each block at one end of the scale and half at the other, on both sides.
            let ends = |n: usize| if n % 32 < 16 { 1.0 } else { -1.0 };
            let weights: Vec<f32> = (0..64 * 32).map(|n| -ends(n)).collect();
            let packed = Packed::new(&[QuantisedRows::round(&weights, 64, bits)], bits);
            let values: Vec<f32> = (0..64).map(ends).collect();
            let a = Inputs::new(&values, 64, 1);
            let mut c = vec![0.0; 32];
            let mut columns = Columns::of(&mut c, (1, 32), (0, 32));
            rows_times_panel(&a, packed.panel(0), &mut columns, Into::Replace);
            assert_near(&c, &[-64.0; 32], 0.05);
            let values = vec![1.0; 64];
            let a = Inputs::new(&values, 64, 1);
            let packed = Packed::new(&[QuantisedRows::round(&vec![1.0; 64 * 32], 64, bits)], bits);
            let mut columns = Columns::of(&mut c, (1, 32), (0, 32));
            rows_times_panel(&a, packed.panel(0), &mut columns, Into::Replace);
            assert_near(&c, &[64.0; 32], 0.05);
        }
    }
}
