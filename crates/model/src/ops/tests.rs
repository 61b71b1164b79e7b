//! The two implementations against each other, on every operation.

use std::slice::from_ref;

use super::*;
use crate::{
    Batch, Family, LoraSpec, Targets,
    cache::KvDtype,
    device::Place,
    kernels::{bf16::Packed, int8::Bits, noise, quantised::Quantised},
    linear::Precision,
};

const FUSED: Ops = Ops::Fused;
const PORTABLE: Ops = Ops::Portable;
const SHAPE: HeadShape = HeadShape { heads: 4, kv_heads: 2, dim: 16 };
const WIDTH: usize = 128;

fn matrix(rows: usize, cols: usize, seed: u64) -> Tensor {
    Tensor::from_vec(noise(rows * cols, seed), (rows, cols), &Device::Cpu).unwrap()
}

fn place(ops: Ops, precision: Precision) -> Place {
    Place { device: Device::Cpu, ops, precision }
}

fn fresh(tensor: &Tensor) -> Tensor {
    tensor.copy().unwrap()
}

fn assert_same(what: &str, left: &Tensor, right: &Tensor) {
    assert_eq!(left.dims(), right.dims(), "{what}");
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (left, right) = (values(left), values(right));
    let largest = right.iter().fold(1.0_f32, |most, value| most.max(value.abs()));
    let worst = left.iter().zip(&right).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 1e-5 * largest, "{what}: differs by {worst} at size {largest}");
}

fn rotation(rows: usize) -> Rotation {
    let angles = matrix(rows, SHAPE.dim / 2, 50);
    Rotation { cos: angles.cos().unwrap(), sin: angles.sin().unwrap() }
}

#[test]
fn linear_maps() {
    let plain = noise(40 * 70, 2);
    let both = [FUSED, PORTABLE].map(|ops| {
        (ops, Linear::new(plain.clone(), (40, 70), &place(ops, Precision::F32)).unwrap())
    });
    for rows in [1, 2, 3, 9, 300] {
        let (x, y) = (matrix(rows, 40, 1), matrix(rows, 70, 3));
        let [a, b] = both.each_ref().map(|(ops, w)| ops.apply(&x, w).unwrap());
        assert_same("x W", &a, &b);
        let [a, b] = both.each_ref().map(|(ops, w)| ops.add_apply(fresh(&y), &x, w).unwrap());
        assert_same("y + x W", &a, &b);
        let [a, b] = both.each_ref().map(|(ops, w)| ops.apply_transposed(&y, w).unwrap());
        assert_same("y Wt", &a, &b);
    }
}

#[test]
fn elementwise_operations() {
    let (x, dy, onto) = (matrix(7, 64, 1), matrix(7, 64, 2), matrix(7, 64, 3));
    let w = matrix(1, 64, 4).flatten_all().unwrap();
    let both = [FUSED, PORTABLE].map(|ops| ops.rms_norm(&x, &w, 1e-5).unwrap());
    assert_same("norm", &both[0], &both[1]);
    for onto in [Some(&onto), None] {
        let both = [FUSED, PORTABLE]
            .map(|ops| ops.rms_norm_backward(&x, &w, 1e-5, &dy, onto.map(fresh)).unwrap());
        assert_same("norm backward", &both[0], &both[1]);
    }
    let (gate_up, d_act) = (matrix(5, 80, 5), matrix(5, 40, 6));
    let both = [FUSED, PORTABLE].map(|ops| ops.swiglu(&gate_up).unwrap());
    assert_same("swiglu", &both[0], &both[1]);
    let both = [FUSED, PORTABLE].map(|ops| ops.swiglu_backward(fresh(&gate_up), &d_act).unwrap());
    assert_same("swiglu backward", &both[0], &both[1]);
    let (qkv, by) = (matrix(6, WIDTH, 7), rotation(6));
    let both = [FUSED, PORTABLE].map(|ops| ops.rotate(fresh(&qkv), SHAPE, &by).unwrap());
    assert_same("rotate", &both[0], &both[1]);
    let both = [FUSED, PORTABLE].map(|ops| ops.rotate_back(fresh(&qkv), SHAPE, &by).unwrap());
    assert_same("rotate back", &both[0], &both[1]);
}

#[test]
fn attention_of_ragged_sequences_and_branches() {
    let mut batch = Batch::of(&[vec![0; 5], vec![0; 1], vec![0; 70]]);
    batch.branch(&[0; 3], 0);
    batch.branch(&[0; 1], 3);
    batch.branch(&[0; 66], 0);
    let (qkv, d_out) = (matrix(146, WIDTH, 1), matrix(146, 64, 2));
    let both = [FUSED, PORTABLE].map(|ops| ops.attention(&qkv, &batch.spans, SHAPE, None).unwrap());
    assert_same("attention", &both[0].out, &both[1].out);
    assert!(both[0].lse.is_some() && both[1].lse.is_none());
    let backward = |ops: Ops, attended: &Attended| {
        ops.attention_backward(&qkv, attended, &d_out, &batch.spans, SHAPE).unwrap()
    };
    let both = [backward(FUSED, &both[0]), backward(PORTABLE, &both[1])];
    assert_same("attention backward", &both[0], &both[1]);
}

#[test]
fn attention_over_caches() {
    let config = ModelConfig::tiny(Family::Llama);
    let mut batch = Batch::default();
    batch.push(&[0; 3], 4);
    batch.push(&[0; 1], 2);
    let (before, qkv) = (matrix(6, WIDTH, 1), matrix(4, WIDTH, 2));
    let filled = [Batch::of(&[[0; 4]]), Batch::of(&[[0; 2]])];
    let both = [FUSED, PORTABLE].map(|ops| {
        let mut caches = [(); 2].map(|()| match ops {
            FUSED => KvCache::new(&config, &Device::Cpu, KvDtype::F32).unwrap(),
            PORTABLE => KvCache::on_tensors(&config, &Device::Cpu).unwrap(),
        });
        for ((cache, batch), start) in caches.iter_mut().zip(&filled).zip([0, 4]) {
            let rows = before.narrow(0, start, batch.rows()).unwrap();
            cache.reserve(batch.rows()).unwrap();
            ops.store(&rows, &batch.spans, SHAPE, (&mut [&mut *cache], 1)).unwrap();
            cache.advance(batch.rows());
        }
        let [first, second] = &mut caches;
        first.reserve(3).unwrap();
        second.reserve(1).unwrap();
        let mut refs = [first, second];
        ops.store(&qkv, &batch.spans, SHAPE, (&mut refs, 1)).unwrap();
        ops.attention(&qkv, &batch.spans, SHAPE, Some((&refs, 1))).unwrap().out
    });
    assert_same("attention over caches", &both[0], &both[1]);
}

#[test]
fn adapters_forward_and_backward() {
    let config = ModelConfig::tiny(Family::Llama);
    let targets = Targets::names(&["q_proj", "v_proj", "down_proj"]).unwrap();
    let spec = LoraSpec::new(4, 6.0, targets);
    let mut lora = Lora::init(&config, &spec, 1).unwrap();
    let values = noise(lora.layout().len(), 9);
    lora.values_mut().copy_from_slice(&values);
    for rows in [1, 3, 12, 40] {
        let (x, y) = (matrix(rows, 64, 1), matrix(rows, WIDTH, 2));
        let runs = [AdapterRun { rows: 0..rows, lora: Some(&lora) }];
        let both =
            [FUSED, PORTABLE].map(|ops| ops.adapt(fresh(&y), &x, (1, Group::Qkv), &runs).unwrap());
        assert_same("adapt", &both[0].0, &both[1].0);
        let u = both[0].1.as_ref().unwrap();
        assert_same("u", u, both[1].1.as_ref().unwrap());

        let (dy, slots) = (matrix(rows, WIDTH, 3), lora.slots(1, Group::Qkv));
        let plain = noise(64 * WIDTH, 4);
        let both = [FUSED, PORTABLE].map(|ops| {
            let layout = place(ops, Precision::F32);
            let w = &Linear::new(plain.clone(), (64, WIDTH), &layout).unwrap();
            let mut grads = lora.zero_grads();
            let du = ops.lora_grads((&dy, &x, u, w), &lora, slots, &mut grads).unwrap();
            let dx = ops.apply_transposed_adapted((&dy, &du), w, &lora, slots).unwrap();
            let len = grads.values().len();
            (dx, Tensor::from_slice(grads.values(), (1, len), &Device::Cpu).unwrap())
        });
        assert_same("dx", &both[0].0, &both[1].0);
        assert_same("gradients", &both[0].1, &both[1].1);
    }
}

#[test]
fn several_adapters_in_one_batch() {
    let config = ModelConfig::tiny(Family::Llama);
    let loras = [1, 2, 3].map(|seed| {
        let mut lora =
            Lora::init(&config, &LoraSpec { rank: 4, ..LoraSpec::standard() }, seed).unwrap();
        let values = noise(lora.layout().len(), seed);
        lora.values_mut().copy_from_slice(&values);
        lora
    });
    let (x, y) = (matrix(64, 64, 1), matrix(64, WIDTH, 2));
    let runs = [
        AdapterRun { rows: 0..1, lora: Some(&loras[0]) },
        AdapterRun { rows: 1..5, lora: None },
        AdapterRun { rows: 5..24, lora: Some(&loras[1]) },
        AdapterRun { rows: 24..24, lora: Some(&loras[0]) },
        AdapterRun { rows: 24..64, lora: Some(&loras[2]) },
    ];
    let both =
        [FUSED, PORTABLE].map(|ops| ops.adapt(fresh(&y), &x, (0, Group::Qkv), &runs).unwrap().0);
    assert_same("mixed", &both[0], &both[1]);
    for run in runs.iter().filter(|run| !run.rows.is_empty()) {
        let rows = |tensor: &Tensor| tensor.narrow(0, run.rows.start, run.rows.len()).unwrap();
        let alone = AdapterRun { rows: 0..run.rows.len(), lora: run.lora };
        let (alone, _) =
            FUSED.adapt(fresh(&rows(&y)), &rows(&x), (0, Group::Qkv), from_ref(&alone)).unwrap();
        assert_same("alone", &rows(&both[0]), &alone);
    }
}

#[test]
fn the_head_forward_and_backward() {
    let head = Head::new(&matrix(320, 64, 2), &place(FUSED, Precision::F32)).unwrap();
    for rows in [1, 6, 40] {
        let hidden = matrix(rows, 64, 1);
        let both = [FUSED, PORTABLE].map(|ops| {
            let mut logits = vec![3.0; 5];
            ops.logits(&hidden, &head, &mut logits).unwrap();
            let d_hidden = ops.logits_backward(&logits, &head).unwrap();
            (Tensor::from_vec(logits, (rows, 320), &Device::Cpu).unwrap(), d_hidden)
        });
        assert_same("logits", &both[0].0, &both[1].0);
        assert_same("d_hidden", &both[0].1, &both[1].1);
    }
}

#[test]
fn an_adapter_fused_with_rounded_weights_acts_as_after_them() {
    let config = ModelConfig::tiny(Family::Llama);
    for targets in [Targets::AllLinear, Targets::names(&["q_proj", "v_proj"]).unwrap()] {
        let spec = LoraSpec::new(5, 6.0, targets);
        let mut lora = Lora::init(&config, &spec, 1).unwrap();
        let values = noise(lora.layout().len(), 9);
        lora.values_mut().copy_from_slice(&values);
        let plain = noise(64 * WIDTH, 4);
        let [w, exact] = [Precision::Bf16, Precision::F32].map(|precision| {
            Linear::new(plain.clone(), (64, WIDTH), &place(FUSED, precision)).unwrap()
        });
        let rows = 70;
        let (x, y, dy) = (matrix(rows, 64, 1), matrix(rows, WIDTH, 2), matrix(rows, WIDTH, 3));
        let (place, slots) = ((1, Group::Qkv), lora.slots(1, Group::Qkv));
        let runs = [AdapterRun { rows: 0..rows, lora: Some(&lora) }];
        let (found, u) = FUSED.apply_adapted(&x, (&w, None), place, &runs).unwrap();
        let (expected, expected_u) =
            FUSED.adapt(FUSED.apply(&x, &w).unwrap(), &x, place, &runs).unwrap();
        let (u, expected_u) = (u.unwrap(), expected_u.unwrap());
        assert_same("y", &found, &expected);
        assert_same("u", &u, &expected_u);
        let (found, _) = FUSED.add_apply_adapted(fresh(&y), (&x, &w), place, &runs).unwrap();
        assert_same("added", &found, &(expected + &y).unwrap());

        let [narrow, general] = [&w, &exact].map(|w| {
            let mut grads = lora.zero_grads();
            let du = FUSED.lora_grads((&dy, &x, &u, w), &lora, slots, &mut grads).unwrap();
            let len = grads.values().len();
            (du, Tensor::from_slice(grads.values(), (1, len), &Device::Cpu).unwrap())
        });
        assert_same("du", &narrow.0, &general.0);
        assert_same("gradients", &narrow.1, &general.1);
        let du = &general.0;
        let found = FUSED.apply_transposed_adapted((&dy, du), &w, &lora, slots).unwrap();
        let zeros = FUSED.apply_transposed(&dy, &w).unwrap();
        let expected = fused::add_lora_input(zeros, du, &lora, slots).unwrap();
        assert_same("dx", &found, &expected);
    }
}

#[test]
fn quantised_weights_act_as_their_dequantised_values() {
    let plain = noise(70 * 100, 4);
    let new = |values: &[f32], precision| {
        Linear::new(values.to_vec(), (70, 100), &place(FUSED, precision)).unwrap()
    };
    let same = if Packed::is_supported() { Precision::Bf16 } else { Precision::F32 };
    for (precision, bits) in [(Precision::Q8, Bits::Eight), (Precision::Q4, Bits::Four)] {
        let held = Quantised::new(&plain, (70, 100), bits).plain();
        let (quantised, widened) = (new(&plain, precision), new(&held, same));
        for rows in [1, 9, 80] {
            let (x, y) = (matrix(rows, 70, 1), matrix(rows, 100, 3));
            let [a, b] = [&quantised, &widened].map(|w| FUSED.apply(&x, w).unwrap());
            assert_same("x W", &a, &b);
            let [a, b] = [&quantised, &widened].map(|w| FUSED.add_apply(fresh(&y), &x, w).unwrap());
            assert_same("y + x W", &a, &b);
            let [a, b] = [&quantised, &widened].map(|w| FUSED.apply_transposed(&y, w).unwrap());
            assert_same("y Wt", &a, &b);
        }
    }
}
