use candle_core::quantized::GgmlDType;
use half::f16;

use super::*;
use crate::kernels::reference::noise;

pub(super) const SHAPES: [(usize, usize); 5] = [(32, 1), (64, 33), (70, 100), (576, 96), (5, 7)];

/// a · w with rounded weights but inputs as they are.
fn definition(a: &[f32], w: &Packed, rows: usize) -> Vec<f32> {
    let plain = w.plain();
    let at = |row: usize, output: usize| -> f32 {
        (0..w.inputs).map(|k| a[row * w.inputs + k] * plain[k * w.outputs + output]).sum()
    };
    (0..rows * w.outputs).map(|index| at(index / w.outputs, index % w.outputs)).collect()
}

fn packed(inputs: usize, outputs: usize, bits: Bits) -> (Packed, Vec<f32>) {
    let plain = noise(inputs * outputs, 5);
    let rows = QuantisedRows::round(&plain, inputs, bits);
    (Packed::new(&[rows], bits), plain)
}

#[test]
fn rounded_weights_are_near_the_given_ones() {
    for (inputs, outputs) in SHAPES {
        for (bits, step) in [(Bits::Eight, 1.0 / 127.0), (Bits::Four, 2.0 / 15.0)] {
            let (packed, given) = packed(inputs, outputs, bits);
            let found = packed.plain();
            for (index, given) in given.iter().enumerate() {
                let found = found[index % inputs * outputs + index / inputs];
                assert!((found - given).abs() <= 0.51 * step + 2e-3, "{found} is not {given}");
            }
        }
    }
}

#[test]
fn products_agree_with_the_definition_and_exactly_with_themselves_for_any_number_of_rows() {
    for (inputs, outputs) in SHAPES {
        for bits in [Bits::Eight, Bits::Four] {
            let (packed, _) = packed(inputs, outputs, bits);
            let a = noise(150 * inputs, 1);
            let mut whole = noise(150 * outputs, 2);
            let before = whole.clone();
            product(&mut whole, &a, &packed, 150, Into::Add);
            let expected = definition(&a, &packed, 150);
            let scale = (inputs as f32).sqrt() * 0.01;
            for ((found, before), expected) in whole.iter().zip(&before).zip(&expected) {
                assert!((found - before - expected).abs() < scale, "{found} {before} {expected}");
            }
            for rows in [1, 2, 3, 4, 5, 6, 63, 64] {
                let mut few = before[..rows * outputs].to_vec();
                product(&mut few, &a[..rows * inputs], &packed, rows, Into::Add);
                assert_eq!(few, whole[..rows * outputs], "{rows} rows");
            }
        }
    }
}

#[test]
fn blocks_of_a_file_are_taken_as_they_are() {
    let mut eight: Vec<u8> = f16::from_f32(0.5).to_le_bytes().to_vec();
    eight.extend((0..32).map(|code| (code - 16) as i8 as u8));
    let rows = QuantisedRows::of_gguf(GgmlDType::Q8_0, &eight, (1, 32)).unwrap();
    let expected: Vec<f32> = (0..32).map(|code| (code - 16) as f32 * 0.5).collect();
    assert_eq!(Packed::new(&[rows], Bits::Eight).plain(), expected);

    let mut four: Vec<u8> = f16::from_f32(0.25).to_le_bytes().to_vec();
    four.extend(f16::from_f32(-1.0).to_le_bytes());
    four.extend((0..16).map(|low| low | (15 - low) << 4));
    let rows = QuantisedRows::of_gguf(GgmlDType::Q4_1, &four, (1, 32)).unwrap();
    let codes = (0..16).chain((0..16).rev());
    let expected: Vec<f32> = codes.map(|code| code as f32 * 0.25 - 1.0).collect();
    assert_eq!(Packed::new(&[rows], Bits::Four).plain(), expected);
}

#[test]
fn inputs_next_to_nothing_come_to_nothing() {
    let (packed, _) = packed(64, 3, Bits::Eight);
    for value in [0.0, f32::MIN_POSITIVE / 64.0, -1e-38, -f32::MIN_POSITIVE] {
        let mut c = vec![9.0; 3];
        product(&mut c, &[value; 64], &packed, 1, Into::Replace);
        assert!(c.iter().all(|value| value.abs() < 1e-36), "{c:?}");
        assert!(Inputs::new(&[value; 64], 64, 1).codes.iter().all(|code| *code > i8::MIN));
    }
}

#[test]
fn what_is_not_finite_stays_visible() {
    let (packed, _) = packed(64, 3, Bits::Eight);
    let mut a = noise(64, 1);
    a[40] = f32::NAN;
    let mut c = vec![0.0; 3];
    product(&mut c, &a, &packed, 1, Into::Replace);
    assert!(c.iter().all(|value| value.is_nan()));
    a[40] = f32::INFINITY;
    product(&mut c, &a, &packed, 1, Into::Replace);
    assert!(c.iter().all(|value| !value.is_finite()));
}
