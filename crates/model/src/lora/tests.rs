use super::*;
use crate::{Family, Targets};

fn lora(largest: f32) -> Lora {
    let spec = LoraSpec::new(5, 10.0, Targets::AllLinear);
    let mut lora = Lora::init(&ModelConfig::tiny(Family::Llama), &spec, 3).unwrap();
    for (n, value) in lora.values_mut().iter_mut().enumerate() {
        *value += (n as f32).sin() * 0.1;
    }
    lora.values_mut()[0] = largest;
    lora
}

/// Everything that products read, in f32.
fn held(lora: &Lora) -> Vec<f32> {
    let wide = |held| match held {
        Held::Plain(rows) => rows.values.to_vec(),
        Held::Half(rows) => rows.values.iter().map(|value| value.to_f32()).collect(),
    };
    let slots = lora.layout().slots();
    let groups = lora.layout().groups().filter(|group| !group.is_empty());
    groups
        .flat_map(|group| wide(lora.a_turned(group)))
        .chain(slots.iter().flat_map(|slot| wide(lora.b_turned(slot))))
        .collect()
}

#[test]
fn beside_a_rounded_base_products_read_sixteen_bits_and_beside_f32_all() {
    let [exact, plain, half] = [(); 3].map(|()| lora(0.5));
    plain.prepare(Precision::F32);
    half.prepare(Precision::Bf16);
    assert_eq!(held(&plain), held(&exact));
    let (exact, rounded) = (held(&exact), held(&half));
    assert_ne!(exact, rounded);
    for (exact, rounded) in exact.iter().zip(&rounded) {
        assert!((exact - rounded).abs() <= exact.abs() / 2048.0 + 3e-8, "{exact} {rounded}");
    }
    assert!(half.bytes() < plain.bytes());
}

#[test]
fn what_sixteen_bits_cannot_hold_stays_in_f32() {
    let is_plain = |at: usize, value: f32| {
        let mut lora = lora(0.5);
        lora.values_mut()[at] = value;
        lora.prepare(Precision::Bf16);
        !lora.is_rounded()
    };
    let last = lora(0.5).values().len() - 1;
    assert!(!is_plain(0, 40_000.0) && !is_plain(last, 30_000.0));
    assert!(is_plain(0, 70_000.0) && is_plain(0, f32::NEG_INFINITY));
    assert!(is_plain(last, 40_000.0), "the scale of 2 is in B");
}

#[test]
fn norms_are_those_of_the_values_as_they_are_now() {
    let mut lora = lora(0.5);
    let of = |lora: &Lora| lora.inventory()[0].norm_a;
    let before = of(&lora);
    lora.values_mut()[0] = 3.0;
    assert!((of(&lora).powi(2) - before.powi(2) - 8.75).abs() < 1e-4);
}
