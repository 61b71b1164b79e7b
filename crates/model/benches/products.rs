//! How fast x · W is computed for as many rows as a decoding step, a batch of them or a prompt has,
//! in every precision: GFLOP/s on all threads, with weights that lie in cache. What a base gets whose
//! weights come from memory is for `understudy bench serve`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement prints and may stop")]

use std::env;

use understudy_model::{Precision, limit_instructions, product_rates};

const ROWS: [usize; 7] = [1, 4, 8, 16, 32, 96, 512];

/// From the width of SmolLM2-135M to both halves of its gate.
const MAP: (usize, usize) = (576, 3072);

fn main() {
    if let Ok(widest) = env::var("UNDERSTUDY_INSTRUCTIONS") {
        limit_instructions(widest.parse().unwrap()).unwrap();
    }
    println!("rows       {}", ROWS.map(|rows| format!("{rows:>8}")).join(""));
    let precisions = [
        ("f32", Precision::F32),
        ("bf16", Precision::Bf16),
        ("int8", Precision::Int8),
        ("int4", Precision::Int4),
    ];
    for (name, precision) in precisions {
        let rate = |rows| product_rates(precision, rows, MAP).unwrap().0;
        let best = |rows| (0..20).map(|_| rate(rows)).fold(0.0, f64::max);
        println!("{name:10} {}", ROWS.map(|rows| format!("{:>8.0}", best(rows))).join(""));
    }
}
