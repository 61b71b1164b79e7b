//! How fast a decoding step reads its adapters, everything else of the step left out: eight sequences,
//! each with an adapter of its own, or sixteen that share six, as while generations are swapped. In
//! gigabytes a second, beside what plain reading gets.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement prints and may stop")]

use std::{env, hint::black_box, thread, time::Instant};

use mimalloc::MiMalloc;
use understudy_model::{
    Family, Lora, LoraSpec, ModelConfig, Module, Precision, Targets, adapters_time,
    limit_instructions,
};

/// What the program allocates by, which asks for large pages.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// (sequences of a step, adapters they share).
const EACH_ITS_OWN: (usize, usize) = (8, 8);
const SHARED: (usize, usize) = (16, 6);

/// What all adapters together take in sixteen bits, at least: more than any cache holds of it.
const BYTES: usize = 600 << 20;

fn main() {
    if let Ok(widest) = env::var("UNDERSTUDY_INSTRUCTIONS") {
        limit_instructions(widest.parse().unwrap()).unwrap();
    }
    println!("{:20} {:>9} {:6.1} GB/s", "reading alone", "", read_rate());
    let config = smollm2();
    let q_and_v = Targets::Modules(vec![Module::Q, Module::V]);
    let every_map = Targets::AllLinear;
    for (name, rank, targets, step) in [
        ("rank 16, every map", 16, every_map.clone(), EACH_ITS_OWN),
        ("rank 16, shared", 16, every_map.clone(), SHARED),
        ("rank 8, every map", 8, every_map, EACH_ITS_OWN),
        ("rank 8, q and v", 8, q_and_v, EACH_ITS_OWN),
    ] {
        let (lanes, of) = step;
        let spec = LoraSpec::new(rank, 16.0, targets);
        let one = Lora::init(&config, &spec, 0).unwrap();
        let values = one.values().len();
        let count = BYTES.div_ceil(2 * values).next_multiple_of(of).min(64 * of);
        let adapters: Vec<Lora> = (0..count).map(|_| one.clone()).collect();
        for lora in &adapters {
            lora.prepare(Precision::Bf16);
        }
        let time = adapters_time(&config, &adapters, (lanes, of)).unwrap();
        let read = (2 * values * of) as f64;
        println!("{name:20} {:6.2} ms {:6.1} GB/s", time * 1e3, read / time / 1e9);
    }
}

/// Gigabytes a second that all threads together read.
fn read_rate() -> f64 {
    let threads = thread::available_parallelism().unwrap().get();
    let values = vec![1_u64; BYTES / 8];
    let read = |part: &[u64]| black_box(part.iter().fold(0, |sum, one| sum ^ one));
    let once = || {
        let begun = Instant::now();
        thread::scope(|scope| {
            values.chunks(values.len().div_ceil(threads)).for_each(|part| {
                scope.spawn(move || read(part));
            });
        });
        BYTES as f64 / begun.elapsed().as_secs_f64() / 1e9
    };
    (0..7).map(|_| once()).fold(0.0, f64::max)
}

/// The shape of SmolLM2-135M.
fn smollm2() -> ModelConfig {
    ModelConfig {
        vocab: 49_152,
        hidden: 576,
        intermediate: 1536,
        layers: 30,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        ..ModelConfig::tiny(Family::Llama)
    }
}
