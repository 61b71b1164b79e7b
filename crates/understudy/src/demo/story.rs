//! What happened, as a short story and as data. Every figure was measured in this run.

use std::{collections::BTreeMap, fmt::Write as _, sync::PoisonError, time::Duration};

use anyhow::Result;
use serde::Serialize;
use understudy_ident::AdapterVersion;
use understudy_journal::Query;
use understudy_manifest::{EvalReport, SubjectReport, Verdict};
use understudy_registry::{ReleaseRecord, ReleaseState, Target};
use understudy_trajectory::Arm;

use super::Demo;
use crate::{commands::audit, worker::peak_memory};

/// What the frontier model would cost: a list price, in US dollars per million tokens. The only
/// figures here that are assumed, together with the machine's hour.
const TEACHER_INPUT: f64 = 2.5;
const TEACHER_OUTPUT: f64 = 10.0;
const MACHINE_HOUR: f64 = 0.08;
/// Requests share the machine during an evaluation.
const IN_FLIGHT: f64 = 16.0;

#[derive(Debug, Serialize)]
pub(super) struct Story {
    seconds_total: f64,
    seconds: BTreeMap<&'static str, f64>,
    exchanges: u64,
    outcomes: u64,
    pending_outcomes: u64,
    failed_requests: u64,
    subjects: Vec<Row>,
    verdict: Option<Verdict>,
    /// Candidate minus base on the primary scorer, with its 95 % interval.
    difference: Option<[f64; 3]>,
    minimum_detectable: Option<f64>,
    releases: Vec<Release>,
    serving: Option<Target>,
    poisoned_refused: Option<String>,
    audit: Vec<String>,
    audit_whole: bool,
    peak_memory_server_bytes: u64,
    peak_memory_trainer_bytes: u64,
    data_dir: String,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    scores: BTreeMap<String, f64>,
    latency_ms_p50: f64,
    cost_usd_per_thousand: f64,
}

#[derive(Debug, Serialize)]
struct Release {
    candidate: AdapterVersion,
    forced: bool,
    state: ReleaseState,
    because: String,
    /// Requests of all arms from the start of the release to its end.
    requests: u64,
    canary_requests: u64,
    seconds: f64,
}

impl Story {
    pub(super) fn gather(demo: &Demo<'_>, total: Duration) -> Result<Self> {
        let registry = &demo.stores.registry;
        let task = &demo.world.recipe.task;
        let counts = demo.stores.journal.counts()?;
        let versions = registry.versions(task)?;
        let mut reports = Vec::new();
        for version in &versions {
            reports.extend(registry.reports(&version.record.version)?.into_iter().next_back());
        }
        let first = reports.first().map(|record| &record.report);
        let refused = reports.iter().find(|record| !record.report.decision.passed);
        let primary = first.and_then(|report| report.comparisons.first());
        let releases = registry.releases(task)?;
        let trainer = versions.iter().filter_map(|v| v.record.lineage.adapter());
        let trainer = trainer.flat_map(|lineage| &lineage.stages);
        let seconds = demo.seconds.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Self {
            seconds_total: total.as_secs_f64(),
            seconds,
            exchanges: counts.steps,
            outcomes: counts.outcomes,
            pending_outcomes: counts.pending_outcomes,
            failed_requests: failed(demo)?,
            subjects: first.map(rows).unwrap_or_default(),
            verdict: primary.map(|primary| primary.verdict),
            difference: primary.map(|p| [p.difference, p.low, p.high]),
            minimum_detectable: primary.map(|primary| primary.minimum_detectable),
            releases: releases.iter().map(|r| release(demo, r)).collect::<Result<_>>()?,
            serving: registry.stable(task)?,
            poisoned_refused: refused.map(|record| {
                let checks = record.report.decision.checks.iter();
                let failed = checks.filter(|check| !check.passed);
                failed.map(|check| check.detail.clone()).collect::<Vec<_>>().join("; ")
            }),
            audit: registry.audit(Some(task))?.iter().map(audit::line).collect(),
            audit_whole: registry.verify_audit(None).is_ok(),
            peak_memory_server_bytes: peak_memory(),
            peak_memory_trainer_bytes: trainer.map(|s| s.peak_memory_bytes).max().unwrap_or(0),
            data_dir: demo.stores.data.root().display().to_string(),
        })
    }

    /// Whether the loop did what it is for: the good candidate serves, nothing failed, and the
    /// poisoned one was stopped twice.
    pub(super) fn went_well(&self, short: bool) -> bool {
        let promoted = self.releases.iter().any(|release| release.state == ReleaseState::Promoted);
        let stopped = self.poisoned_refused.is_some()
            && self
                .releases
                .iter()
                .any(|release| release.forced && release.state == ReleaseState::RolledBack);
        promoted && self.failed_requests == 0 && self.audit_whole && (short || stopped)
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::from("\nWhat happened\n");
        self.table(&mut text);
        self.releases(&mut text);
        text.push_str("\nAudit trail\n");
        for line in &self.audit {
            line_into(&mut text, line);
        }
        let whole = if self.audit_whole { "whole" } else { "BROKEN" };
        let spent: Vec<String> = self
            .seconds
            .iter()
            .filter(|(_, seconds)| **seconds >= 0.5)
            .map(|(what, seconds)| format!("{what} {seconds:.0} s"))
            .collect();
        for line in [
            format!("the hash chain is {whole}"),
            String::new(),
            format!(
                "{} exchanges, {} outcomes, {} failed requests; {:.0} s in all ({})",
                self.exchanges,
                self.outcomes,
                self.failed_requests,
                self.seconds_total,
                spent.join(", ")
            ),
            format!(
                "peak memory: {:.2} GB serving, {:.2} GB training",
                self.peak_memory_server_bytes as f64 / 1e9,
                self.peak_memory_trainer_bytes as f64 / 1e9
            ),
            format!("everything is in {}:", self.data_dir),
            "journal.db (what arrived), datasets/, adapters/, suites/, runs/ (reports, metrics),"
                .to_owned(),
            "registry.db (versions, releases, audit), runs.db (what each run has done)".to_owned(),
        ] {
            line_into(&mut text, &line);
        }
        text
    }

    fn table(&self, text: &mut String) {
        let header = format!(
            "{:<20} {:>8} {:>9} {:>8} {:>11} {:>11} {:>14}",
            "sealed suite",
            "intent",
            "field F1",
            "JSON ok",
            "all right",
            "p50 latency",
            "$ per 1,000"
        );
        line_into(text, &header);
        for row in &self.subjects {
            let score = |name: &str| row.scores.get(name).copied().unwrap_or(f64::NAN);
            let line = format!(
                "{:<20} {:>8.3} {:>9.3} {:>8.3} {:>11.3} {:>8.0} ms {:>14.4}",
                row.name,
                score("field:intent"),
                score("field_f1"),
                score("json_valid"),
                score("json_equal"),
                row.latency_ms_p50,
                row.cost_usd_per_thousand
            );
            line_into(text, &line);
        }
        if let (Some(verdict), Some([difference, low, high]), Some(mde)) =
            (self.verdict, self.difference, self.minimum_detectable)
        {
            let verdict = verdict.as_str();
            let line = format!(
                "verdict: {verdict}, field F1 {difference:+.3} [{low:+.3}, {high:+.3}] over the base; \
                 the suite can tell differences from {mde:.3}"
            );
            line_into(text, &line);
        }
        let note = format!(
            "latency is with {IN_FLIGHT:.0} requests in flight; the expert is a script in this process, so its \
             latency is not a frontier model's.\n  Costs assume ${TEACHER_INPUT} and ${TEACHER_OUTPUT} per million \
             tokens in and out for the expert, ${MACHINE_HOUR} an hour for this machine."
        );
        line_into(text, &note);
    }

    fn releases(&self, text: &mut String) {
        text.push_str("\nReleases\n");
        for release in &self.releases {
            let forced = if release.forced { " (forced past the gate)" } else { "" };
            let line = format!(
                "{}{forced}: {} after {} requests, {} of them to the canary, in {:.0} s\n    {}",
                release.candidate,
                release.state.as_str(),
                release.requests,
                release.canary_requests,
                release.seconds,
                release.because
            );
            line_into(text, &line);
        }
        if let Some(why) = &self.poisoned_refused {
            line_into(text, &format!("the gate refused the poisoned version: {why}"));
        }
        if let Some(serving) = &self.serving {
            line_into(text, &format!("serving now: {serving}"));
        }
    }
}

fn line_into(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    writeln!(text, "  {line}").ok();
}

fn rows(report: &EvalReport) -> Vec<Row> {
    report.subjects.iter().map(|subject| row(subject, report.cases)).collect()
}

fn row(subject: &SubjectReport, cases: u64) -> Row {
    let cases = cases.max(1) as f64;
    let per_case = |tokens: u64| tokens as f64 / cases;
    let cost = match subject.name.as_str() {
        "nearest example" => 0.0,
        "teacher" => {
            let input = per_case(subject.prompt_tokens) * TEACHER_INPUT;
            let output = per_case(subject.completion_tokens) * TEACHER_OUTPUT;
            (input + output) / 1e6
        }
        _ => subject.latency_ms_p50 / IN_FLIGHT / 3.6e6 * MACHINE_HOUR,
    };
    Row {
        name: subject.name.clone(),
        scores: subject.scores.iter().map(|(name, score)| (name.clone(), score.mean)).collect(),
        latency_ms_p50: subject.latency_ms_p50,
        cost_usd_per_thousand: cost * 1000.0,
    }
}

fn release(demo: &Demo<'_>, record: &ReleaseRecord) -> Result<Release> {
    let query = Query { task: Some(record.task.clone()), ..Query::default() };
    let trajectories = demo.stores.journal.trajectories(&query)?;
    let steps = trajectories.iter().flat_map(|trajectory| &trajectory.steps).map(|j| &j.step);
    let during: Vec<_> =
        steps.filter(|step| record.started_at <= step.at && step.at <= record.changed_at).collect();
    let canary = during.iter().filter(|step| {
        step.assignment.as_ref().is_some_and(|assignment| assignment.arm == Arm::Canary)
    });
    let span = record.changed_at.as_millisecond() - record.started_at.as_millisecond();
    Ok(Release {
        candidate: record.candidate.clone(),
        forced: record.forced.is_some(),
        state: record.state,
        because: record.changed_because.clone(),
        requests: during.len() as u64,
        canary_requests: canary.count() as u64,
        seconds: span as f64 / 1e3,
    })
}

/// Requests that ended in an error, by the journal, or that users saw fail.
fn failed(demo: &Demo<'_>) -> Result<u64> {
    let query = Query { task: Some(demo.world.recipe.task.clone()), ..Query::default() };
    let trajectories = demo.stores.journal.trajectories(&query)?;
    let steps = trajectories.iter().flat_map(|trajectory| &trajectory.steps);
    let recorded = steps.filter(|judged| judged.step.error.is_some()).count() as u64;
    let seen = demo.tally.failed.load(std::sync::atomic::Ordering::Relaxed);
    Ok(recorded.max(seen))
}
