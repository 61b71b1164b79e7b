//! Sentences in, one a line; their vectors out, one JSON array a line. On stderr, how long it took.
//!
//! ```sh
//! echo "Where is my order?" |
//!   cargo run --release -p understudy-embedding --example embed -- ~/.cache/understudy/models/all-minilm-l6-v2
//! ```

use std::{
    error::Error,
    io::{self, BufRead, Write},
    path::Path,
    time::Instant,
};

use understudy_embedding::SentenceEncoder;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args().nth(1).ok_or("give the model's directory")?;
    let start = Instant::now();
    let encoder = SentenceEncoder::load(Path::new(&directory))?;
    let loaded = start.elapsed();
    let lines: Vec<String> = io::stdin().lock().lines().collect::<Result<_, _>>()?;
    let texts: Vec<&str> = lines.iter().map(String::as_str).collect();
    let start = Instant::now();
    let vectors = encoder.encode(&texts)?;
    let together = start.elapsed();
    let mut single: Vec<f64> = Vec::new();
    for text in texts.iter().cycle().take(200) {
        let start = Instant::now();
        encoder.encode(&[text])?;
        single.push(start.elapsed().as_secs_f64() * 1e3);
    }
    single.sort_by(f64::total_cmp);
    let mut out = io::stdout().lock();
    for vector in vectors {
        writeln!(out, "{}", serde_json::to_string(&vector)?)?;
    }
    let at = |share: f64| single.get((single.len() as f64 * share) as usize).copied();
    writeln!(
        io::stderr(),
        "loaded in {:.0} ms; {} texts in {:.1} ms; one by one p50 {:.2} ms, p95 {:.2} ms",
        loaded.as_secs_f64() * 1e3,
        texts.len(),
        together.as_secs_f64() * 1e3,
        at(0.5).unwrap_or(0.0),
        at(0.95).unwrap_or(0.0),
    )?;
    Ok(())
}
