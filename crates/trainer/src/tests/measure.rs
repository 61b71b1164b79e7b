//! Steps over exact ids do what a stage's steps do.

use serde_json::json;
use understudy_model::{Batch, Term};

use super::fixtures;
use crate::{Drill, Rehearsal, Rehearsed};

fn steps(stage: serde_json::Value, drill: &Drill, budget: usize) -> Vec<Rehearsed> {
    let (base, stage) = (fixtures::base(), fixtures::stage(stage));
    let mut rehearsal = Rehearsal::begin(&base, &stage, &fixtures::lora(), drill, budget).unwrap();
    (0..4).map(|_| rehearsal.step().unwrap()).collect()
}

#[test]
fn every_token_but_the_first_is_imitated_and_becomes_likelier() {
    let rows = [vec![1_u32, 2, 3, 4, 5, 6], vec![9, 8, 7, 6, 5, 4]];
    let stage = json!({"method": "sft", "learning_rate": 0.01});
    let steps = steps(stage, &Drill::Imitate(rows.to_vec()), 4);
    assert_eq!(steps[0].tokens, 12);
    assert!(steps[3].loss < steps[0].loss, "{steps:?}");

    // A fresh adapter changes nothing: the first loss is the base's own.
    let base = fixtures::base();
    let batch = Batch::of(&rows);
    let hidden = base.decoder.hidden(&batch, None).unwrap();
    let next = (0..batch.rows()).filter(|row| row % 6 != 5);
    let terms: Vec<Term> = next.map(|row| Term { row, target: batch.tokens[row + 1] }).collect();
    let seen = base.decoder.log_probs(&hidden, &terms, 1.0).unwrap().log_probs;
    let mean = -seen.iter().map(|lp| f64::from(*lp)).sum::<f64>() / 10.0;
    assert!((steps[0].loss - mean).abs() < 1e-4, "{} is not {mean}", steps[0].loss);
}

#[test]
fn a_pair_starts_undecided_and_is_then_told_apart() {
    let pair = [vec![1, 2, 3, 4, 5], vec![6, 7], vec![8, 9]];
    let stage = json!({"method": "dpo", "learning_rate": 0.01});
    let steps = steps(stage, &Drill::Prefer(vec![pair]), 64);
    assert!((steps[0].loss - 2.0_f64.ln()).abs() < 1e-4, "{}", steps[0].loss);
    assert!(steps[3].loss < steps[0].loss, "{steps:?}");
    assert_eq!(steps[0].tokens, 9);
}
