//! What was measured, and ours beside each peer as ratios.

use serde::Serialize;

use super::{super::load::Load, batch::Encoding};
use crate::cli::BenchIngestArgs;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    bench: &'static str,
    clients: usize,
    /// Spans a second that were sent, if not as many as were taken.
    rate: Option<u64>,
    spans_a_batch: usize,
    spans_a_trace: usize,
    runs: Vec<Run>,
    ratios: Vec<Ratio>,
    /// Peers that were not measured, and how they would be.
    absent: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Run {
    pub(super) subject: &'static str,
    pub(super) version: String,
    pub(super) encoding: Encoding,
    pub(super) bytes_a_batch: usize,
    pub(super) seconds: f64,
    pub(super) batches: u64,
    /// Answers by which clients are told to come back.
    pub(super) refused: u64,
    /// Other answers than success, or none.
    pub(super) failed: u64,
    /// The first of those.
    pub(super) failure: Option<String>,
    pub(super) acknowledged_spans_a_second: f64,
    /// Whether what is acknowledged is committed, by what the server promises.
    pub(super) acknowledged_is_durable: bool,
    pub(super) ack_ms_p50: f64,
    pub(super) ack_ms_p99: f64,
    /// Of the server's processes, at most.
    pub(super) rss_bytes: u64,
    /// From the last acknowledgement until every span was in a table or a step.
    pub(super) seconds_to_store_the_rest: f64,
    /// From the first request until then.
    pub(super) stored_spans_a_second: f64,
    /// Acknowledged, and not there a minute after the last that came.
    pub(super) lost: u64,
    pub(super) machine: Load,
}

/// Ours in protobuf beside a peer; above 1 ours is better.
#[derive(Debug, Serialize)]
struct Ratio {
    peer: &'static str,
    /// Our committed spans a second over theirs in their database.
    durable: f64,
    /// The same over what they acknowledge, wherever it lies then.
    acknowledged: f64,
    /// Spans a second until they can be read: our steps, their rows.
    readable: f64,
    ack_p50: f64,
    ack_p99: f64,
    memory: f64,
}

impl Report {
    pub(super) fn of(args: &BenchIngestArgs, runs: Vec<Run>, absent: Vec<String>) -> Self {
        let ours = runs.iter().find(|run| run.is_ours() && run.encoding == Encoding::Protobuf);
        let peers = runs.iter().filter(|run| !run.is_ours());
        let ratios =
            ours.into_iter().flat_map(|ours| peers.clone().map(move |peer| Ratio::of(ours, peer)));
        Self {
            bench: "ingest",
            clients: args.clients,
            rate: args.rate,
            spans_a_batch: args.batch,
            spans_a_trace: args.trace,
            ratios: ratios.collect(),
            runs,
            absent,
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{} clients, {} spans a batch, {} a trace, {}\n",
            self.clients,
            self.spans_a_batch,
            self.spans_a_trace,
            self.rate.map_or("as fast as they are taken".to_owned(), |rate| format!(
                "{rate} spans a second sent"
            ))
        );
        for run in &self.runs {
            text.push_str(&run.text());
        }
        for ratio in &self.ratios {
            text.push_str(&ratio.text());
        }
        for absent in &self.absent {
            text.extend(["  not measured: ", absent, "\n"]);
        }
        text
    }
}

impl Ratio {
    fn of(ours: &Run, peer: &Run) -> Self {
        Self {
            peer: peer.subject,
            durable: ours.acknowledged_spans_a_second / peer.stored_spans_a_second,
            acknowledged: ours.acknowledged_spans_a_second / peer.acknowledged_spans_a_second,
            readable: ours.stored_spans_a_second / peer.stored_spans_a_second,
            ack_p50: peer.ack_ms_p50 / ours.ack_ms_p50,
            ack_p99: peer.ack_ms_p99 / ours.ack_ms_p99,
            memory: peer.rss_bytes as f64 / ours.rss_bytes as f64,
        }
    }

    fn text(&self) -> String {
        format!(
            "  understudy beside {}: {:.1}x durable spans/s, {:.1}x acknowledged, {:.1}x readable; \
             ack p50 {:.1}x, p99 {:.1}x sooner; {:.2}x less memory\n",
            self.peer,
            self.durable,
            self.acknowledged,
            self.readable,
            self.ack_p50,
            self.ack_p99,
            self.memory
        )
    }
}

impl Run {
    fn is_ours(&self) -> bool {
        self.acknowledged_is_durable
    }

    fn text(&self) -> String {
        let what = if self.acknowledged_is_durable { "durable" } else { "acknowledged" };
        let mut lines = vec![format!(
            "  {:10} {:8} {:>9.0} {what} spans/s; ack p50 {:.1} ms, p99 {:.1} ms; {:.0} MB resident; \
             {} batches of {:.0} kB, {} told to wait; all readable after {:.1} s more, {:.0} spans/s",
            self.subject,
            self.encoding,
            self.acknowledged_spans_a_second,
            self.ack_ms_p50,
            self.ack_ms_p99,
            self.rss_bytes as f64 / 1e6,
            self.batches,
            self.bytes_a_batch as f64 / 1e3,
            self.refused,
            self.seconds_to_store_the_rest,
            self.stored_spans_a_second,
        )];
        if self.lost > 0 {
            lines.push(format!("    {} acknowledged spans never came", self.lost));
        }
        if let Some(failure) = &self.failure {
            lines.push(format!("    {} requests failed, the first: {failure}", self.failed));
        }
        lines.join("\n") + "\n"
    }
}
