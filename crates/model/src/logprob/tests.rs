use candle_core::Device;

use super::*;
use crate::{
    device::Place,
    kernels::noise,
    linear::{HeadLayout, Precision},
};

const VOCAB: usize = 321;
const WIDTH: usize = 24;

fn fixture(rows: usize) -> (Tensor, Head) {
    let head = noise(VOCAB * WIDTH, 1);
    let hidden: Vec<f32> = noise(rows * WIDTH, 2).iter().map(|value| 4.0 * value).collect();
    let tensor = |values, rows| Tensor::from_vec(values, (rows, WIDTH), &Device::Cpu).unwrap();
    (
        tensor(hidden, rows),
        Head::new(&tensor(head, VOCAB), &Place::new(&Device::Cpu, Precision::F32)).unwrap(),
    )
}

fn values(head: &Head) -> &Tensor {
    match &head.weights {
        HeadLayout::Rows(rows) => rows,
        HeadLayout::Pairs(_) | HeadLayout::Blocks(_) => panic!("the fixture's head is f32"),
    }
}

/// log softmax(hidden · headᵀ / T) of one row, in f64.
fn definition(hidden: &Tensor, head: &Head, row: usize, temperature: f64) -> Vec<f64> {
    let rows = |tensor: &Tensor| tensor.to_vec2::<f32>().unwrap();
    let (hidden, head) = (&rows(hidden)[row], rows(values(head)));
    let dot = |weights: &Vec<f32>| -> f64 {
        hidden.iter().zip(weights).map(|(h, w)| f64::from(*h) * f64::from(*w)).sum()
    };
    let logits: Vec<f64> = head.iter().map(|weights| dot(weights) / temperature).collect();
    let total: f64 = logits.iter().map(|z| z.exp()).sum();
    logits.iter().map(|z| z - total.ln()).collect()
}

/// Several terms on one row, rows out of order, a row without a term, more rows than one chunk.
fn terms(rows: usize) -> Vec<Term> {
    let mut terms: Vec<Term> =
        (0..rows - 1).rev().map(|row| Term { row, target: (row * 7 % VOCAB) as u32 }).collect();
    terms.push(Term { row: 3, target: 300 });
    terms.push(Term { row: 3, target: 320 });
    terms
}

#[test]
fn log_probs_and_entropy_agree_with_the_definition_in_any_chunking() {
    for (rows, temperature) in [(5, 1.0), (300, 0.7)] {
        let (hidden, head) = fixture(rows);
        let terms = terms(rows);
        let found = log_probs(Ops::Fused, &head, &hidden, &terms, temperature).unwrap();
        for (index, term) in terms.iter().enumerate() {
            let expected = definition(&hidden, &head, term.row, f64::from(temperature));
            let entropy: f64 = expected.iter().map(|lp| -lp * lp.exp()).sum();
            let target = expected[term.target as usize];
            assert!((f64::from(found.log_probs[index]) - target).abs() < 2e-5);
            assert!((f64::from(found.entropy[index]) - entropy).abs() < 2e-5);
            let is_greedy = expected.iter().all(|lp| *lp <= target);
            assert_eq!(found.is_greedy[index], is_greedy);
        }
    }
}

#[test]
fn the_gradient_is_the_sum_over_terms_of_coefficient_times_onehot_minus_p() {
    let temperature = 0.7;
    let (hidden, head) = fixture(9);
    let terms = terms(9);
    let coefficients: Vec<f32> = noise(terms.len(), 5);
    for ops in [Ops::Fused, Ops::Portable] {
        let coefficient = |index: usize, _: f32| coefficients[index];
        let (_, gradient) =
            log_probs_grad(ops, &head, &hidden, &terms, temperature, &coefficient).unwrap();
        let weights = values(&head).to_vec2::<f32>().unwrap();
        let mut expected = vec![vec![0.0_f64; WIDTH]; 9];
        for (term, c) in terms.iter().zip(&coefficients) {
            let lp = definition(&hidden, &head, term.row, f64::from(temperature));
            for (token, weights) in weights.iter().enumerate() {
                let onehot = f64::from(u8::from(token == term.target as usize));
                let d = f64::from(*c) * (onehot - lp[token].exp()) / f64::from(temperature);
                for (sum, weight) in expected[term.row].iter_mut().zip(weights) {
                    *sum += d * f64::from(*weight);
                }
            }
        }
        let found = gradient.to_vec2::<f32>().unwrap();
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!((f64::from(*found) - expected).abs() < 1e-5 * expected.abs().max(1.0));
        }
        assert_eq!(found[8], [0.0; WIDTH], "a row without a term gets nothing");
    }
}

#[test]
fn a_coefficient_may_depend_on_its_own_log_probability() {
    let (hidden, head) = fixture(6);
    let terms = terms(6);
    let first = log_probs(Ops::Fused, &head, &hidden, &terms, 1.0).unwrap();
    let by = |_: usize, log_prob: f32| log_prob.exp();
    let known = |index: usize, _: f32| first.log_probs[index].exp();
    let (scores, one_pass) = log_probs_grad(Ops::Fused, &head, &hidden, &terms, 1.0, &by).unwrap();
    let (_, two_pass) = log_probs_grad(Ops::Fused, &head, &hidden, &terms, 1.0, &known).unwrap();
    assert_eq!(scores, first);
    assert_eq!(one_pass.to_vec2::<f32>().unwrap(), two_pass.to_vec2::<f32>().unwrap());
}

#[test]
fn serving_and_training_read_a_row_the_same_way() {
    let (hidden, head) = fixture(6);
    let terms = terms(6);
    let mut logits = Vec::new();
    Ops::Fused.logits(&hidden, &head, &mut logits).unwrap();
    let logits: Vec<&[f32]> = logits.chunks_exact(VOCAB).collect();
    let trained = log_probs(Ops::Fused, &head, &hidden, &terms, 1.3).unwrap();
    for (index, term) in terms.iter().enumerate() {
        let served = token_log_prob(logits[term.row], term.target, 1.3);
        assert!((served.0 - trained.log_probs[index]).abs() < 1e-5);
        assert!((served.1 - trained.entropy[index]).abs() < 1e-5);
    }
}

#[test]
fn no_terms_is_an_empty_answer_and_nan_is_an_answer_of_nan() {
    let (hidden, head) = fixture(2);
    let coefficient = |_: usize, _: f32| 1.0;
    let (scores, gradient) =
        log_probs_grad(Ops::Fused, &head, &hidden, &[], 1.0, &coefficient).unwrap();
    assert_eq!(scores, LogProbs::default());
    assert_eq!(gradient.dims(), hidden.dims());
    let broken = (hidden * f64::NAN).unwrap();
    let scores = log_probs(Ops::Fused, &head, &broken, &terms(2)[..1], 1.0).unwrap();
    assert!(scores.log_probs[0].is_nan() && scores.entropy[0].is_nan());
}
