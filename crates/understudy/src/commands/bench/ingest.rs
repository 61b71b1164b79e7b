//! `understudy bench ingest`: spans a second that are durable when they are acknowledged, how long
//! that takes, and what the server holds in memory meanwhile, in both encodings of OTLP.
//!
//! The server is a process of its own, as `understudy serve` starts it, with a data directory that
//! is gone afterwards; clients keep one connection each and send the next batch after the last was
//! acknowledged. Every batch has ids of its own, so none is a redelivery.

mod batch;
mod server;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Serialize;
use serde_json::Value;

use self::{
    batch::{Batch, Encoding},
    server::Served,
};
use crate::{cli::BenchIngestArgs, commands::Exit, output::Out};

/// How long the server may take to read what it has taken.
const PATIENCE: Duration = Duration::from_mins(10);

#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    clients: usize,
    spans_a_batch: usize,
    runs: Vec<Run>,
}

#[derive(Debug, Serialize)]
struct Run {
    encoding: Encoding,
    bytes_a_batch: usize,
    seconds: f64,
    batches: u64,
    /// Answers other than success, by which clients are told to come back.
    refused: u64,
    durable_spans_a_second: f64,
    ack_ms_p50: f64,
    ack_ms_p99: f64,
    /// Of the server, at most.
    rss_bytes: u64,
    /// From the last acknowledgement until every span was a step.
    seconds_to_read_the_rest: f64,
    /// Of the server, from the first request until then.
    steps_a_second: f64,
}

pub(super) fn run(args: &BenchIngestArgs, out: Out) -> Result<Exit> {
    ensure!(args.seconds > 0, "--seconds must be at least 1");
    ensure!(args.clients > 0 && args.batch > 0, "--clients and --batch must be at least 1");
    let mut runs = Vec::new();
    for encoding in [Encoding::Protobuf, Encoding::Json] {
        runs.push(measure(args, encoding)?);
    }
    let report = Report { bench: "ingest", clients: args.clients, spans_a_batch: args.batch, runs };
    out.either(report.text(), &report)?;
    Ok(Exit::Ok)
}

/// What one client saw.
#[derive(Debug, Default)]
struct Seen {
    ack_ms: Vec<f64>,
    refused: u64,
}

fn measure(args: &BenchIngestArgs, encoding: Encoding) -> Result<Run> {
    let server = Served::start()?;
    let batch = Batch::new(encoding, args.batch);
    let next = AtomicU64::new(0);
    let begun = Instant::now();
    let end = begun + Duration::from_secs(args.seconds);
    let seen: Vec<Seen> = thread::scope(|scope| {
        let clients: Vec<_> = (0..args.clients)
            .map(|_| scope.spawn(|| send(&server, batch.clone(), &next, end)))
            .collect();
        let mut seen = Vec::with_capacity(clients.len());
        for client in clients {
            seen.push(client.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        Ok::<_, anyhow::Error>(seen)
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let mut ack_ms: Vec<f64> = seen.iter().flat_map(|seen| seen.ack_ms.iter().copied()).collect();
    ack_ms.sort_by(f64::total_cmp);
    ensure!(!ack_ms.is_empty(), "the server acknowledged nothing in {} s", args.seconds);
    let spans = ack_ms.len() * args.batch;
    let acknowledged = Instant::now();
    server.wait_for_steps(spans as u64, PATIENCE)?;
    Ok(Run {
        encoding,
        bytes_a_batch: batch.bytes().len(),
        seconds,
        batches: ack_ms.len() as u64,
        refused: seen.iter().map(|seen| seen.refused).sum(),
        durable_spans_a_second: spans as f64 / seconds,
        ack_ms_p50: quantile(&ack_ms, 0.50),
        ack_ms_p99: quantile(&ack_ms, 0.99),
        rss_bytes: server.peak_bytes()?,
        seconds_to_read_the_rest: acknowledged.elapsed().as_secs_f64(),
        steps_a_second: spans as f64 / begun.elapsed().as_secs_f64(),
    })
}

fn send(server: &Served, mut batch: Batch, next: &AtomicU64, end: Instant) -> Result<Seen> {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let url = server.url("/v1/traces");
    let mut seen = Seen::default();
    while Instant::now() < end {
        batch.number(next.fetch_add(1, Ordering::Relaxed));
        let begun = Instant::now();
        let response = agent
            .post(&url)
            .header("content-type", batch.encoding().content_type())
            .send(batch.bytes())
            .context("failed to reach the server")?;
        match response.status().as_u16() {
            200 => seen.ack_ms.push(begun.elapsed().as_secs_f64() * 1e3),
            429 | 503 => {
                seen.refused += 1;
                thread::sleep(Duration::from_millis(100));
            }
            other => bail!("the server answered {other}"),
        }
        let mut body = response.into_body();
        body.read_to_vec().context("failed to read the server's answer")?;
    }
    Ok(seen)
}

/// The value that this share of them, in order, does not exceed.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = (share * sorted.len() as f64).ceil() as usize;
    sorted[place.clamp(1, sorted.len()) - 1]
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!("{} clients, {} spans a batch\n", self.clients, self.spans_a_batch);
        for run in &self.runs {
            text.push_str(&run.text());
        }
        text
    }
}

impl Run {
    fn text(&self) -> String {
        let name: Value = serde_json::json!(self.encoding);
        format!(
            "  {:9} {:>9.0} durable spans/s; ack p50 {:.1} ms, p99 {:.1} ms; {:.0} MB resident; {} \
             batches of {:.0} kB, {} told to wait; read after {:.1} s more, {:.0} steps/s\n",
            name.as_str().unwrap_or_default(),
            self.durable_spans_a_second,
            self.ack_ms_p50,
            self.ack_ms_p99,
            self.rss_bytes as f64 / 1e6,
            self.batches,
            self.bytes_a_batch as f64 / 1e3,
            self.refused,
            self.seconds_to_read_the_rest,
            self.steps_a_second,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(
            [0.0, 0.5, 0.51, 0.99, 1.0].map(|q| quantile(&sorted, q)),
            [1.0, 2.0, 3.0, 4.0, 4.0]
        );
    }
}
