//! Sentences in, one a line; their vectors out, one JSON array a line. On stderr, how long it took;
//! with `time` as the second argument also how long one text by itself takes.
//!
//! ```sh
//! echo "Where is my order?" |
//!   cargo run --release -p understudy-embedding --example embed -- ~/.cache/understudy/models/all-minilm-l6-v2
//! ```

use std::{
    error::Error,
    io::{self, BufRead, Write},
    path::Path,
    time::{Duration, Instant},
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
    let mut out = io::stdout().lock();
    for vector in vectors {
        writeln!(out, "{}", serde_json::to_string(&vector)?)?;
    }
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    writeln!(
        io::stderr(),
        "loaded in {:.0} ms; {} texts in {:.1} ms",
        millis(loaded),
        texts.len(),
        millis(together)
    )?;
    if std::env::args().nth(2).as_deref() == Some("time") && !texts.is_empty() {
        let mut single: Vec<f64> = Vec::new();
        for text in texts.iter().cycle().take(200) {
            let start = Instant::now();
            encoder.encode(&[text])?;
            single.push(millis(start.elapsed()));
        }
        single.sort_by(f64::total_cmp);
        writeln!(io::stderr(), "one by one p50 {:.2} ms, p95 {:.2} ms", single[100], single[190])?;
    }
    Ok(())
}
