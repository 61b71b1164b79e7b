//! `understudy bench ingest`: spans a second that are durable when they are acknowledged, how long
//! that takes, and what the server holds in memory meanwhile, in both encodings of OTLP; and beside
//! it Phoenix and MLflow with the same bodies, in the encoding they read.
//!
//! Each server is a process of its own with a data directory that is gone afterwards; clients keep
//! one connection each and send the next batch after the last was acknowledged, or, at a given rate,
//! when it is due; then a delay counts from that time. Every batch has ids of its own, so none is a
//! redelivery.

mod batch;
mod peer;
mod report;
mod server;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};

use self::{
    batch::{Batch, Encoding, Shape},
    peer::{Peer, Product},
    report::{Report, Run},
    server::Served,
};
use super::load::Watch;
use crate::{cli::BenchIngestArgs, commands::Exit, output::Out};

/// How long a server may take to store or read what it has taken.
const PATIENCE: Duration = Duration::from_mins(10);
/// A server that stores nothing more for so long has lost the rest.
const STALLED: Duration = Duration::from_mins(1);
/// A peer that does not answer for so long is not waited for.
const SILENCE: Duration = Duration::from_mins(2);

pub(super) fn run(args: &BenchIngestArgs, out: Out) -> Result<Exit> {
    ensure!(args.seconds > 0, "--seconds must be at least 1");
    ensure!(args.clients > 0 && args.batch > 0, "--clients and --batch must be at least 1");
    ensure!(
        (1..=args.batch).contains(&args.trace) && args.batch <= 1 << 16,
        "--trace must be from 1 to --batch, and --batch at most 65536"
    );
    ensure!(args.rate != Some(0), "--rate must be at least 1");
    let shape = Shape { spans: args.batch, a_trace: args.trace };
    let asked = [(Product::Phoenix, &args.phoenix), (Product::Mlflow, &args.mlflow)];
    let mut runs = Vec::new();
    let mut absent = Vec::new();
    for encoding in [Encoding::Protobuf, Encoding::Json] {
        out.say(format!("measuring understudy, {encoding}"));
        let served = Server::Ours(Served::start()?);
        runs.push(measure(args, &served, Batch::new(encoding, shape))?);
    }
    for (product, python) in asked {
        let Some(python) = python else {
            absent.push(format!("{0}: name a Python that has it with --{0}", product.name()));
            continue;
        };
        let peer = Server::Peer(Peer::start(product, python)?);
        out.say(format!("measuring {} {}", product.name(), peer.version()));
        runs.push(measure(args, &peer, Batch::new(Encoding::Protobuf, shape))?);
    }
    let report = Report::of(args, runs, absent);
    out.either(report.text(), &report)?;
    Ok(Exit::Ok)
}

/// Who is measured.
enum Server {
    Ours(Served),
    Peer(Peer),
}

impl Server {
    fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => "understudy",
            Self::Peer(peer) => peer.product().name(),
        }
    }

    fn version(&self) -> String {
        match self {
            Self::Ours(_) => env!("CARGO_PKG_VERSION").to_owned(),
            Self::Peer(peer) => peer.version().to_owned(),
        }
    }

    fn url(&self) -> String {
        match self {
            Self::Ours(served) => served.url("/v1/traces"),
            Self::Peer(peer) => peer.url(),
        }
    }

    fn header(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Ours(_) => None,
            Self::Peer(peer) => peer.header(),
        }
    }

    /// How many of the spans of one batch it keeps as something that can be read: ours makes steps
    /// of calls, the peers have rows of all spans.
    fn kept(&self, shape: Shape) -> u64 {
        let kept = match self {
            Self::Ours(_) => shape.calls(),
            Self::Peer(_) => shape.spans,
        };
        kept as u64
    }

    fn stored(&self) -> Result<u64> {
        match self {
            Self::Ours(served) => served.steps(),
            Self::Peer(peer) => peer.stored(),
        }
    }

    fn peak_bytes(&self) -> Result<u64> {
        match self {
            Self::Ours(served) => served.peak_bytes(),
            Self::Peer(peer) => Ok(peer.peak_bytes()),
        }
    }

    /// Ours is expected to take whatever it is sent; of a peer it is a figure.
    fn may_fail(&self) -> bool {
        matches!(self, Self::Peer(_))
    }

    fn last_words(&self) -> String {
        match self {
            Self::Ours(_) => "see above".to_owned(),
            Self::Peer(peer) => peer.last_words(),
        }
    }
}

/// What one client saw.
#[derive(Debug, Default)]
struct Seen {
    ack_ms: Vec<f64>,
    refused: u64,
    failed: u64,
    failure: Option<String>,
}

fn measure(args: &BenchIngestArgs, server: &Server, batch: Batch) -> Result<Run> {
    let kept = server.kept(batch.shape());
    let before = warm_up(server, &batch, kept)?;
    let next = AtomicU64::new(1);
    let watch = Watch::begin();
    let begun = Instant::now();
    let plan = Plan::new(args, begun);
    let mut seen: Vec<Seen> = thread::scope(|scope| {
        let clients: Vec<_> = (0..args.clients)
            .map(|_| scope.spawn(|| send(server, batch.clone(), &next, &plan)))
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
    let failure = seen.iter_mut().find_map(|seen| seen.failure.take());
    if ack_ms.is_empty() {
        let why = failure.unwrap_or_else(|| "it told every client to wait".to_owned());
        bail!("{} acknowledged nothing in {} s: {why}", server.name(), args.seconds);
    }
    let batches = ack_ms.len() as u64;
    let spans = batches * args.batch as u64;
    let wanted = before + batches * kept;
    let stored = wait(server, wanted)?;
    ensure!(
        server.may_fail() || stored >= wanted,
        "the server made {stored} steps of {wanted} acknowledged calls in {STALLED:?}"
    );
    let until_stored = begun.elapsed().as_secs_f64();
    // Of what was acknowledged; a batch that failed may have been stored in part.
    let lost = wanted.saturating_sub(stored) * args.batch as u64 / kept;
    Ok(Run {
        subject: server.name(),
        version: server.version(),
        encoding: batch.encoding(),
        bytes_a_batch: batch.bytes().len(),
        seconds,
        batches,
        refused: seen.iter().map(|seen| seen.refused).sum(),
        failed: seen.iter().map(|seen| seen.failed).sum(),
        failure,
        acknowledged_spans_a_second: spans as f64 / seconds,
        acknowledged_is_durable: !server.may_fail(),
        ack_ms_p50: quantile(&ack_ms, 0.50),
        ack_ms_p99: quantile(&ack_ms, 0.99),
        rss_bytes: server.peak_bytes()?,
        seconds_to_store_the_rest: until_stored - seconds,
        stored_spans_a_second: (spans - lost) as f64 / until_stored,
        lost,
        machine: watch.end(),
    })
}

/// One batch, which is nobody's figure: servers import and prepare with the first request. Tells how
/// much is stored after it.
fn warm_up(server: &Server, batch: &Batch, kept: u64) -> Result<u64> {
    let mut batch = batch.clone();
    batch.number(0);
    let mut seen = Seen::default();
    post(&agent(), server, &batch, Instant::now(), &mut seen)?;
    let name = server.name();
    if seen.ack_ms.is_empty() {
        let why = seen.failure.unwrap_or_else(|| "it says to come back later".to_owned());
        bail!("{name} refuses what it is sent: {why}; it said: {}", server.last_words());
    }
    let stored = wait(server, kept)?;
    ensure!(stored >= kept, "{name} acknowledged {kept} spans and stored {stored}");
    Ok(stored)
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(SILENCE))
        .build()
        .into()
}

/// When batches are sent.
struct Plan {
    begun: Instant,
    end: Instant,
    /// From one batch to the next; none when each follows an acknowledgement.
    every: Option<Duration>,
}

impl Plan {
    fn new(args: &BenchIngestArgs, begun: Instant) -> Self {
        let every = |rate| Duration::from_secs_f64(args.batch as f64 / rate as f64);
        let end = begun + Duration::from_secs(args.seconds);
        Self { begun, end, every: args.rate.map(every) }
    }

    /// When the nth batch is due, counted from one.
    fn due(&self, nth: u64) -> Instant {
        match self.every {
            Some(every) => self.begun + every.mul_f64((nth - 1) as f64),
            None => Instant::now(),
        }
    }
}

fn send(server: &Server, mut batch: Batch, next: &AtomicU64, plan: &Plan) -> Result<Seen> {
    let agent = agent();
    let mut seen = Seen::default();
    loop {
        let nth = next.fetch_add(1, Ordering::Relaxed);
        let due = plan.due(nth);
        if due >= plan.end {
            return Ok(seen);
        }
        batch.number(nth);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        post(&agent, server, &batch, due, &mut seen)?;
    }
}

fn post(
    agent: &ureq::Agent,
    server: &Server,
    batch: &Batch,
    due: Instant,
    seen: &mut Seen,
) -> Result<()> {
    let mut request =
        agent.post(server.url()).header("content-type", batch.encoding().content_type());
    if let Some((name, value)) = server.header() {
        request = request.header(name, value);
    }
    let answered = request.send(batch.bytes()).context("failed to reach the server");
    let problem = match answered {
        Ok(response) => {
            let status = response.status().as_u16();
            let body = response.into_body().read_to_string();
            match status {
                200 => {
                    seen.ack_ms.push(due.elapsed().as_secs_f64() * 1e3);
                    return Ok(());
                }
                429 | 503 => {
                    seen.refused += 1;
                    thread::sleep(Duration::from_millis(100));
                    return Ok(());
                }
                other => {
                    let body: String = body.unwrap_or_default().chars().take(300).collect();
                    anyhow!("{} answered {other}: {body}", server.name())
                }
            }
        }
        Err(why) => why,
    };
    if !server.may_fail() {
        return Err(problem);
    }
    seen.failed += 1;
    seen.failure.get_or_insert_with(|| format!("{problem:#}"));
    thread::sleep(Duration::from_millis(100));
    Ok(())
}

/// Waits until so much is stored, or nothing more comes; tells how much there is.
fn wait(server: &Server, wanted: u64) -> Result<u64> {
    let begun = Instant::now();
    let (mut most, mut grown) = (0, begun);
    loop {
        let stored = server.stored()?;
        if stored > most {
            (most, grown) = (stored, Instant::now());
        }
        if stored >= wanted || grown.elapsed() > STALLED || begun.elapsed() > PATIENCE {
            return Ok(stored);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// The value that this share of them, in order, does not exceed.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = (share * sorted.len() as f64).ceil() as usize;
    sorted[place.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_a_rate_batches_are_due_however_late_the_last_one_was() {
        let begun = Instant::now();
        let every = Some(Duration::from_millis(20));
        let plan = Plan { begun, end: begun + Duration::from_secs(1), every };
        assert_eq!(
            [1, 2, 51].map(|nth| plan.due(nth) - begun).map(|due| due.as_millis()),
            [0, 20, 1000]
        );
    }

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(
            [0.0, 0.5, 0.51, 0.99, 1.0].map(|q| quantile(&sorted, q)),
            [1.0, 2.0, 3.0, 4.0, 4.0]
        );
    }
}
