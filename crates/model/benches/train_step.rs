//! One step of supervised fine-tuning, 8 sequences of 256 tokens, in every precision: tokens per
//! second, peak memory, and how near the step comes to what its products alone must take.
//!
//! Uses SmolLM2-135M where `UNDERSTUDY_TEST_BASE` or the user's cache has it, else random weights
//! of the same shape. Each precision runs in a process of its own, so that peaks are its own.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement prints and may stop")]

use std::{env, fs, path::PathBuf, process::Command, time::Instant};

use mimalloc::MiMalloc;
use understudy_model::{
    AdapterRun, BaseModel, Batch, Device, Family, KvCache, KvDtype, Lora, LoraSpec, ModelConfig,
    Precision, Targets, Term, limit_instructions, product_rates,
};

/// What the program allocates by, which asks for large pages.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const SEQUENCES: usize = 8;
const LENGTH: usize = 256;
const STEPS: usize = 6;

/// What the products of a rank 16 step come to for one token: twice every weight of the maps and
/// the head, forward and backward, with the adapters and attention over 256 tokens.
const MFLOP_PER_TOKEN: f64 = 606.0;

fn main() {
    if let Ok(widest) = env::var("UNDERSTUDY_INSTRUCTIONS") {
        limit_instructions(widest.parse().unwrap()).unwrap();
    }
    match env::var("UNDERSTUDY_BENCH_PRECISION").as_deref() {
        Ok("f32") => measure(Precision::F32),
        Ok("bf16") => measure(Precision::Bf16),
        Ok("q8") => measure(Precision::Q8),
        Ok("q4") => measure(Precision::Q4),
        Ok("int8") => measure(Precision::Int8),
        Ok("int4") => measure(Precision::Int4),
        _ => {
            for precision in ["f32", "bf16", "q8"] {
                let this = env::current_exe().unwrap();
                let run = Command::new(this).env("UNDERSTUDY_BENCH_PRECISION", precision).status();
                assert!(run.unwrap().success());
            }
        }
    }
}

fn measure(precision: Precision) {
    let (model, name) = base(precision);
    let used = precision.supported(&Device::Cpu);
    println!("{name}, {precision:?} asked, {used:?} used; loaded at {:.2} GB", peak_gb());
    let serving = env::args().any(|arg| arg == "serve");
    if serving {
        return serve(&model);
    }
    let best = train(&model);
    let rate = rates(precision);
    let floor = MFLOP_PER_TOKEN / rate * 1e-3;
    println!(
        "{precision:?}: {best:.0} tokens/s, peak {:.2} GB; products alone at {rate:.0} GFLOP/s: \
         {:.0} tokens/s, of which this is {:.0} %",
        peak_gb(),
        1.0 / floor,
        100.0 * best * floor
    );
}

/// One of rank 16 on every linear map, whose B is not zero.
fn adapter(model: &BaseModel, seed: u64) -> Lora {
    let rank = env::var("UNDERSTUDY_BENCH_RANK").map_or(16, |rank| rank.parse().unwrap());
    let spec = LoraSpec::new(rank, 2.0 * rank as f32, Targets::AllLinear);
    let mut lora = Lora::init(model.decoder.config(), &spec, seed).unwrap();
    for (index, value) in lora.values_mut().iter_mut().enumerate() {
        *value += ((index * 7919 % 1000) as f32 / 1000.0 - 0.5) * 0.01;
    }
    lora
}

/// Tokens per second of the best of some whole steps: forward, loss and its gradient, backward.
fn train(model: &BaseModel) -> f64 {
    let decoder = &model.decoder;
    let lora = adapter(model, 1);
    let vocab = decoder.config().vocab as u32;
    let sequence = |seed: usize| -> Vec<u32> {
        (0..LENGTH)
            .map(|at| ((seed * LENGTH + at) as u32).wrapping_mul(2_654_435_761) % vocab)
            .collect()
    };
    let batch = Batch::of(&(0..SEQUENCES).map(sequence).collect::<Vec<_>>());
    let next = batch.spans.iter().flat_map(|span| span.rows().skip(1));
    let terms: Vec<Term> =
        next.map(|row| Term { row: row - 1, target: batch.tokens[row] }).collect();
    let coefficients = vec![-1.0 / terms.len() as f32; terms.len()];
    let mut best = 0.0_f64;
    for step in 0..STEPS {
        let (faults, cpu) = (faults(), cpu_seconds());
        let start = Instant::now();
        let (hidden, tape) = decoder.train_forward(&batch, Some(&lora)).unwrap();
        let forward = start.elapsed().as_secs_f64();
        let (scores, d_hidden) =
            decoder.log_probs_grad(&hidden, &terms, &coefficients, 1.0).unwrap();
        let head = start.elapsed().as_secs_f64();
        let mut grads = lora.zero_grads();
        decoder.backward(tape, &d_hidden, &lora, &mut grads).unwrap();
        let whole = start.elapsed().as_secs_f64();
        let rate = (SEQUENCES * LENGTH) as f64 / whole;
        best = best.max(rate);
        let loss = -scores.log_probs.iter().sum::<f32>() / terms.len() as f32;
        let norm = grads.values().iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let cpu = cpu_seconds() - cpu;
        println!(
            "  step {step}: {rate:.0} tokens/s; {cpu:.2} s of processors; forward {forward:.3}, head {:.3}, backward {:.3} s; \
             loss {loss:.5}, gradient {norm:.5}; {} page faults",
            head - forward,
            whole - head,
            self::faults() - faults
        );
    }
    best
}

/// Prefill of 512 tokens, and decoding for several batch sizes.
fn serve(model: &BaseModel) {
    let decoder = &model.decoder;
    let tokens: Vec<u32> = (0..512).map(|at| at * 37 % 300).collect();
    let cache = || decoder.cache_in(kv_dtype(model)).unwrap();
    let mut best = f64::MAX;
    for _ in 0..5 {
        let batch = Batch::of(&[&tokens]);
        let start = Instant::now();
        decoder.infer(&batch, &mut [&mut cache()], &AdapterRun::whole(&batch, None)).unwrap();
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("  prefill of 512: {:.0} tokens/s", 512.0 / best);
    let adapters: Vec<Lora> = (0..adapters()).map(|seed| adapter(model, seed)).collect();
    for lora in &adapters {
        lora.prepare(model.precision);
    }
    for lanes in lanes() {
        let mut caches: Vec<KvCache> = (0..lanes).map(|_| cache()).collect();
        let mut caches: Vec<&mut KvCache> = caches.iter_mut().collect();
        let steps = env::var("UNDERSTUDY_BENCH_STEPS").map_or(24, |steps| steps.parse().unwrap());
        let (mut best, mut best_head) = (f64::MAX, f64::MAX);
        for step in 0..steps {
            let mut batch = Batch::default();
            for cache in &caches {
                let new = if step == 0 { &tokens[..128] } else { &tokens[step..=step] };
                batch.push(new, cache.len());
            }
            let runs = runs(&batch, &adapters);
            let start = Instant::now();
            let hidden = decoder.infer(&batch, &mut caches, &runs).unwrap();
            let maps = start.elapsed().as_secs_f64();
            if step > 0 {
                decoder.logits(&hidden).unwrap();
                best = best.min(start.elapsed().as_secs_f64());
                best_head = best_head.min(start.elapsed().as_secs_f64() - maps);
            }
        }
        let (rate, head) = (lanes as f64 / best, best_head * 1e3);
        println!(
            "  decode {lanes}: {rate:.0} tokens/s, {:.1} ms a step, head {head:.1}",
            best * 1e3
        );
    }
}

/// Sequences share adapters evenly, if there are any, those of one adapter side by side and at once,
/// as the engine sorts them.
fn runs<'a>(batch: &Batch, adapters: &'a [Lora]) -> Vec<AdapterRun<'a>> {
    let lanes = batch.spans.len();
    if adapters.is_empty() {
        return AdapterRun::whole(batch, None);
    }
    let parts = adapters.len().min(lanes);
    let run = |part: usize| {
        let spans = &batch.spans[part * lanes / parts..(part + 1) * lanes / parts];
        let rows = spans[0].start..spans[spans.len() - 1].rows().end;
        AdapterRun { rows, lora: Some(&adapters[part]) }
    };
    (0..parts).map(run).collect()
}

/// Batch sizes to decode at, or the one that `UNDERSTUDY_BENCH_LANES` names.
fn lanes() -> Vec<usize> {
    match env::var("UNDERSTUDY_BENCH_LANES") {
        Ok(one) => vec![one.parse().unwrap()],
        Err(_) => vec![1, 2, 4, 8, 16, 32],
    }
}

/// In what keys and values are kept: what `UNDERSTUDY_BENCH_KV` says, or what the engine does.
fn kv_dtype(model: &BaseModel) -> KvDtype {
    match env::var("UNDERSTUDY_BENCH_KV").as_deref() {
        Ok("f32") => KvDtype::F32,
        Ok("f16") => KvDtype::F16,
        _ if model.precision == Precision::F32 => KvDtype::F32,
        _ => KvDtype::F16,
    }
}

/// How many adapters, of the rank that `UNDERSTUDY_BENCH_RANK` says or 16, sequences decode with: what `UNDERSTUDY_BENCH_ADAPTERS` says, or none.
fn adapters() -> u64 {
    env::var("UNDERSTUDY_BENCH_ADAPTERS").map_or(0, |count| count.parse().unwrap())
}

/// GFLOP/s over the four maps of a layer, forward and backward, each weighed by its work.
fn rates(precision: Precision) -> f64 {
    let (mut work, mut time) = (0.0, 0.0);
    for shape in [(576, 960), (576, 576), (576, 3072), (1536, 576)] {
        let (forward, backward) = product_rates(precision, SEQUENCES * LENGTH, shape).unwrap();
        println!(
            "  {} x {}: {forward:.0} forward, {backward:.0} backward GFLOP/s",
            shape.0, shape.1
        );
        let flop = (shape.0 * shape.1) as f64;
        work += 2.0 * flop;
        time += flop / forward + flop / backward;
    }
    work / time
}

fn base(precision: Precision) -> (BaseModel, String) {
    let named = env::var_os("UNDERSTUDY_TEST_BASE").map(PathBuf::from);
    let pulled = env::var_os("HOME").map(|home| {
        let models = PathBuf::from(home).join(".cache/understudy/models");
        models.join("smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf")
    });
    let found = named.or(pulled).filter(|path| path.is_file());
    if let Some(path) = found {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return (BaseModel::load_with(&path, &Device::Cpu, precision).unwrap(), name);
    }
    let config = ModelConfig {
        vocab: 49152,
        hidden: 576,
        intermediate: 1536,
        layers: 30,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        ..ModelConfig::tiny(Family::Llama)
    };
    let model = BaseModel::random_with(config, 1, &Device::Cpu, precision).unwrap();
    (model, "random weights".to_owned())
}

/// The most memory this process ever held, where the system says.
fn peak_gb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e6
}

/// Pages this process touched for the first time, where the system says.
fn faults() -> u64 {
    stat(7)
}

/// Processor time of all threads, which other processes disturb less than they do the clock.
fn cpu_seconds() -> f64 {
    (stat(11) + stat(12)) as f64 / 100.0
}

/// A field after the name in Linux's account of this process.
fn stat(field: usize) -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    fields.split_whitespace().nth(field).and_then(|count| count.parse().ok()).unwrap_or(0)
}
