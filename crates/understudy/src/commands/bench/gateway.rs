//! `understudy bench gateway`: what a gateway costs. The same requests go to a pretended model
//! directly, through nginx, through LiteLLM's proxy and through ours with every exchange captured,
//! one after another in one run.
//!
//! Two loads of each: a constant rate (open loop, each latency counted from when its request was
//! due, so that a stall counts for all who waited), for latency; and as many requests as it takes
//! (closed loop), for requests a second and processor time. What a gateway adds is the difference of
//! its quantiles to those of the direct way.

mod client;
mod model;
mod subject;

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, ensure};
use serde::Serialize;

use super::load::{Load, Watch};
use crate::{cli::BenchGatewayArgs, commands::Exit, output::Out};

use self::{
    client::{Job, Seen},
    model::Model,
    subject::Subject,
};

#[derive(Debug, Serialize)]
struct Report {
    bench: &'static str,
    connections: usize,
    rate: f64,
    seconds: u64,
    stream: bool,
    body_bytes: usize,
    runs: Vec<Run>,
    /// Subjects that were not measured, and why.
    absent: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Run {
    subject: &'static str,
    version: String,
    requests_a_second: f64,
    failed: u64,
    /// Of the gateway's processes; none for the direct way.
    cpu_us_a_request: Option<f64>,
    /// The most it held, or what it holds after the load where the system does not tell.
    rss_bytes: Option<u64>,
    ms_p50: f64,
    ms_p99: f64,
    /// Beside the direct way, at the constant rate.
    added_ms_p50: f64,
    added_ms_p99: f64,
    machine: Load,
}

pub(super) fn run(args: &BenchGatewayArgs, out: Out) -> Result<Exit> {
    ensure!(args.seconds > 0, "--seconds must be at least 1");
    ensure!(args.connections > 0 && args.rate > 0.0, "--connections and --rate must be above 0");
    let model = Model::start(args.stream)?;
    let mut absent = Vec::new();
    let mut subjects = vec![Subject::direct(&model)];
    match find("nginx", args.nginx.clone()) {
        Some(program) => subjects.push(Subject::nginx(&program, &model)?),
        None => absent.push("nginx: not found on PATH; name it with --nginx".to_owned()),
    }
    match &args.litellm {
        Some(program) => subjects.push(Subject::litellm(program, &model)?),
        None => absent.push(
            "LiteLLM: say where its program is with --litellm (pip install 'litellm[proxy]')"
                .to_owned(),
        ),
    }
    subjects.push(Subject::ours(&model)?);
    let job = |url: &str| Job {
        address: url.to_owned(),
        connections: args.connections,
        seconds: Duration::from_secs(args.seconds),
        rate: None,
        body: body(args),
    };
    let mut runs: Vec<Run> = Vec::new();
    for subject in &subjects {
        out.say(format!("measuring {} ({})", subject.name, subject.version));
        let run = measure(args, subject, &job(&subject.address), runs.first())?;
        out.say(run.line());
        runs.push(run);
    }
    let report = Report {
        bench: "gateway",
        connections: args.connections,
        rate: args.rate,
        seconds: args.seconds,
        stream: args.stream,
        body_bytes: body(args).len(),
        runs,
        absent,
    };
    out.either(report.text(), &report)?;
    Ok(Exit::Ok)
}

/// What warming up leaves to be done is done by then.
const SETTLED: Duration = Duration::from_secs(1);

fn measure(
    args: &BenchGatewayArgs,
    subject: &Subject,
    job: &Job,
    direct: Option<&Run>,
) -> Result<Run> {
    // The first requests open connections and warm caches up; they are nobody's figure.
    client::drive(&Job { seconds: Duration::from_secs(1), ..job.clone() })?;
    std::thread::sleep(SETTLED);
    let watch = Watch::begin();
    let whole = subject.cpu_seconds();
    // Before the flood: a rate is steady where nothing is left over from a burst.
    let steady = client::drive(&Job { rate: Some(args.rate), ..job.clone() })?;
    let before = subject.cpu_seconds();
    let most = client::drive(job)?;
    let after = subject.cpu_seconds();
    let since = |before: Option<f64>| after.zip(before).map(|(after, before)| after - before);
    let cpu = since(before);
    let (p50, p99) = (steady.quantile_ms(0.50), steady.quantile_ms(0.99));
    Ok(Run {
        subject: subject.name,
        version: subject.version.clone(),
        requests_a_second: most.done() as f64 / most.seconds,
        failed: most.failed + steady.failed,
        cpu_us_a_request: cpu.map(|cpu| cpu * 1e6 / most.done().max(1) as f64),
        rss_bytes: subject.peak_bytes(),
        ms_p50: p50,
        ms_p99: p99,
        added_ms_p50: direct.map_or(0.0, |direct| p50 - direct.ms_p50),
        added_ms_p99: direct.map_or(0.0, |direct| p99 - direct.ms_p99),
        machine: watch.end_with(since(whole).unwrap_or_default()),
    })
}

/// A chat of an ordinary size, about 1 kB.
fn body(args: &BenchGatewayArgs) -> String {
    let text = "My order has not arrived and the tracking page shows nothing. ".repeat(14);
    serde_json::json!({
        "model": "bench",
        "messages": [
            {"role": "system", "content": "You sort support tickets."},
            {"role": "user", "content": text},
        ],
        "max_tokens": 64,
        "temperature": 0.0,
        "stream": args.stream,
    })
    .to_string()
}

fn find(name: &str, given: Option<PathBuf>) -> Option<PathBuf> {
    if given.is_some() {
        return given;
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

impl Seen {
    fn done(&self) -> usize {
        self.ms.len()
    }

    /// The value that this share of them, in order, does not exceed; 0 without any.
    fn quantile_ms(&self, share: f64) -> f64 {
        let place = (share * self.ms.len() as f64).ceil() as usize;
        self.ms.get(place.max(1) - 1).copied().unwrap_or(0.0)
    }
}

impl Run {
    fn line(&self) -> String {
        let optional = |value: Option<f64>, unit: &str| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0} {unit}"))
        };
        let busy = self.machine.others.filter(|others| *others > 0.1);
        let busy = busy.map_or_else(String::new, |others| {
            format!("; others took {:.0} % of the machine", others * 100.0)
        });
        format!(
            "  {:12} {:>7.0} requests/s  {:>9} a request  {:>9}  p50 {:.2} ms  p99 {:.2} ms  added \
             {:+.2} / {:+.2} ms  {} failed{busy}",
            self.subject,
            self.requests_a_second,
            optional(self.cpu_us_a_request, "µs"),
            optional(self.rss_bytes.map(|bytes| bytes as f64 / 1e6), "MB"),
            self.ms_p50,
            self.ms_p99,
            self.added_ms_p50,
            self.added_ms_p99,
            self.failed,
        )
    }
}

impl Report {
    fn text(&self) -> String {
        let what = if self.stream { "streams" } else { "whole replies" };
        let mut text = format!(
            "{what}, {} connections at most, {} requests/s for latency, {} s each, bodies of {} B\n",
            self.connections, self.rate, self.seconds, self.body_bytes
        );
        for run in &self.runs {
            text.push_str(&run.line());
            text.push('\n');
        }
        for absent in &self.absent {
            text.extend(["  not measured: ", absent, "\n"]);
        }
        text
    }
}

#[cfg(test)]
mod tests;
