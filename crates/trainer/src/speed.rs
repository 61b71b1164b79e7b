//! How fast this machine trains, measured on one pass: what a plan needs to say how long.

use std::time::{Duration, Instant};

use understudy_manifest::{Objective, Turns};
use understudy_model::{BaseModel, Batch, Lora, LoraSpec, Term};

use crate::{
    error::Result,
    plan::Cost,
    rows::{Example, Row},
};

/// Rows as they are common in training.
const ROW: usize = 128;

/// Operations of one imitation step over `tokens` tokens with a standard adapter.
pub fn pass_flops(base: &BaseModel, tokens: usize) -> Result<f64> {
    let config = base.decoder.config();
    let adapter_values = Lora::init(config, &LoraSpec::standard(), 0)?.values().len();
    let objective = Objective::Sft { turns: Turns::All };
    let cost = Cost { config, adapter_values, objective: &objective };
    let example = Example::imitate(vec![Row::new(&[0], &[0; ROW - 1])]);
    Ok(cost.example_flops(&example, 1.0) * (tokens / ROW).max(1) as f64)
}

/// Runs such a pass, forward and backward, and throws the gradient away.
pub fn time_pass(base: &BaseModel, tokens: usize) -> Result<Duration> {
    let config = base.decoder.config();
    let lora = Lora::init(config, &LoraSpec::standard(), 0)?;
    let id = |at: usize| ((at * 7919) % config.vocab) as u32;
    let rows: Vec<Vec<u32>> = (0..(tokens / ROW).max(1))
        .map(|row| (0..ROW).map(|at| id(row * ROW + at)).collect())
        .collect();
    let batch = Batch::of(&rows);
    let terms: Vec<Term> = (0..batch.rows()).map(|row| Term { row, target: id(row + 1) }).collect();
    let coefficients = vec![-1.0 / terms.len() as f32; terms.len()];
    let mut grads = lora.zero_grads();
    let begun = Instant::now();
    let (hidden, tape) = base.decoder.train_forward(&batch, Some(&lora))?;
    let (_, d_hidden) = base.decoder.log_probs_grad(&hidden, &terms, &coefficients, 1.0)?;
    base.decoder.backward(tape, &d_hidden, &lora, &mut grads)?;
    Ok(begun.elapsed())
}
