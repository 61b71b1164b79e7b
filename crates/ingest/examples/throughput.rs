//! How fast telemetry is read, on one core:
//!
//! ```text
//! cargo run --release -p understudy-ingest --example throughput -- 2500
//! ```
//!
//! That many copies of one captured agent run (four spans of 1.7 kB as JSON), each with ids of its
//! own, are decoded request by request and assembled as one bag.
#![allow(clippy::print_stdout, reason = "an example's output is for whoever runs it")]

use std::{env, error::Error, fs, path::Path, time::Instant};

use understudy_ingest::telemetry::{Encoding, Payload, assemble, decode};

fn main() -> Result<(), Box<dyn Error>> {
    let copies: usize = env::args().nth(1).ok_or("say how many copies")?.parse()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/telemetry/tests/captures");
    let capture: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(folder.join("genai_json_lg.json"))?)?;
    let requests = capture["requests"].as_array().ok_or("the capture has no requests")?;
    let bodies: Vec<String> = (0..copies)
        .flat_map(|copy| requests.iter().map(move |request| renamed(&request["body"], copy)))
        .collect();
    let bytes: usize = bodies.iter().map(String::len).sum();
    let start = Instant::now();
    let mut items = Vec::new();
    for body in &bodies {
        items.extend(decode(&Payload::OtlpTraces(Encoding::Json), body.as_bytes())?.items);
    }
    let decoded = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let assembled = assemble(&items);
    let put_together = start.elapsed().as_secs_f64();
    println!(
        "{} spans, {:.1} MB: decoded at {:.0} spans/s, assembled into {} conversations at {:.0} spans/s",
        items.len(),
        bytes as f64 / 1e6,
        items.len() as f64 / decoded,
        assembled.conversations.len(),
        items.len() as f64 / put_together
    );
    Ok(())
}

fn renamed(body: &serde_json::Value, copy: usize) -> String {
    let text = body.to_string();
    let trace = body.pointer("/resourceSpans/0/scopeSpans/0/spans/0/traceId");
    let trace = trace.and_then(serde_json::Value::as_str).unwrap_or_default();
    text.replace(trace, &format!("{:032x}", copy + 1))
        .replace("\"th-1\"", &format!("\"th-{copy}\""))
        .replace("chatcmpl-", &format!("chatcmpl-{copy}-"))
        .replace("call_", &format!("call_{copy}_"))
}
