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
    let large = lora(40_000.0);
    large.prepare(Precision::Bf16);
    assert!(matches!(large.turned(), Turned::Plain(_)), "its scale of 2 takes it too far");
}
