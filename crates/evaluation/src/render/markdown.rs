//! A summary for a pull request: the verdict first, then what it rests on.

use understudy_manifest::{Comparison, EvalReport, SubjectReport};

use super::Document;
use crate::{
    CaseDiff, Change,
    table::{SLICE_HEADER, attempt_lines, judge_lines, milliseconds, reuse_warning, slice_row},
};

/// More lost cases are counted and not listed.
const LISTED: usize = 20;

pub(super) fn markdown(document: Document<'_>) -> String {
    let Document { report, cases } = document;
    let passed = if report.decision.passed { "passed" } else { "**failed**" };
    let mut lines = vec![
        format!("## {}: gate {passed}", cell(&report.suite)),
        String::new(),
        format!("{} cases ({}), seed {}", report.cases, report.suite_digest.short(), report.seed),
        String::new(),
    ];
    lines.extend(reuse_warning(report).into_iter().flat_map(|text| [text, String::new()]));
    lines.extend(subjects(report));
    lines.push(String::new());
    lines.extend(comparisons(report));
    lines.push(String::new());
    let notes = report.notes.iter().map(|note| format!("note: {note}")).collect();
    let others = [attempt_lines(report), judge_lines(report), notes].concat();
    lines.extend(others.iter().flat_map(|text| [cell(text), String::new()]));
    lines.push("| condition | | |\n|---|---|---|".to_owned());
    lines.extend(report.decision.checks.iter().map(|check| {
        let mark = if check.passed { "ok" } else { "**fail**" };
        format!("| {} | {mark} | {} |", cell(&check.name), cell(&check.detail))
    }));
    lines.extend(slices(report));
    lines.extend(lost(cases));
    lines.push(String::new());
    lines.join("\n")
}

fn subjects(report: &EvalReport) -> Vec<String> {
    let scorers: Vec<&str> = report.comparisons.iter().map(|c| c.scorer.as_str()).collect();
    let names: Vec<String> = scorers.iter().map(|scorer| cell(scorer)).collect();
    let names = names.join(" | ");
    let rules = "---:|".repeat(scorers.len() + 3);
    let mut lines = vec![format!("| subject | {names} | ms p50 | ms p95 | errors |\n|---|{rules}")];
    lines.extend(report.subjects.iter().map(|subject| {
        let score = |scorer: &&str| figure(subject, scorer);
        let scores: String = scorers.iter().map(score).collect();
        let (p50, p95) =
            (milliseconds(subject.latency_ms_p50), milliseconds(subject.latency_ms_p95));
        format!("| {} |{scores} {p50} | {p95} | {} |", cell(&subject.name), subject.errors)
    }));
    lines
}

fn figure(subject: &SubjectReport, scorer: &str) -> String {
    let unscored = subject.unscored.get(scorer).map(|count| format!(", {count} unscored"));
    subject.scores.get(scorer).map_or_else(
        || " - |".to_owned(),
        |score| {
            let unscored = unscored.unwrap_or_default();
            format!(" {:.3} [{:.3}, {:.3}]{unscored} |", score.mean, score.low, score.high)
        },
    )
}

fn comparisons(report: &EvalReport) -> Vec<String> {
    let head =
        "| scorer | verdict | difference | won / lost / tied | broken | fixed | detectable |";
    let mut lines = vec![format!("{head}\n|---|---|---|---|---|---|---:|")];
    lines.extend(report.comparisons.iter().map(|comparison| {
        let Comparison { difference, low, high, wins, losses, ties, .. } = comparison;
        let tally = |tally: Option<understudy_manifest::Tally>| {
            tally.map_or_else(|| "-".to_owned(), |t| format!("{} of {}", t.met, t.of))
        };
        format!(
            "| {} | {} | {difference:+.3} [{low:+.3}, {high:+.3}] | {wins} / {losses} / {ties} | {} | {} | {:.3} |",
            cell(&comparison.scorer),
            comparison.verdict.as_str(),
            tally(comparison.regressions),
            tally(comparison.fixes),
            comparison.minimum_detectable,
        )
    }));
    lines
}

fn slices(report: &EvalReport) -> Vec<String> {
    if report.slices.is_empty() {
        return Vec::new();
    }
    let mut lines =
        vec![format!("\n| {} |\n|---|---:|---|---|---:|---:|", SLICE_HEADER.join(" | "))];
    lines.extend(report.slices.iter().map(|slice| {
        let cells: Vec<String> = slice_row(slice).iter().map(|text| cell(text)).collect();
        format!("| {} |", cells.join(" | "))
    }));
    lines
}

fn lost(cases: &[CaseDiff]) -> Vec<String> {
    let lost: Vec<&CaseDiff> = cases.iter().filter(|case| case.change == Change::Loss).collect();
    if lost.is_empty() {
        return Vec::new();
    }
    let mut lines = vec!["\n| lost case | expected | was | is |\n|---|---|---|---|".to_owned()];
    lines.extend(lost.iter().take(LISTED).map(|case| {
        let [expected, was, is] =
            [&case.expected, &case.baseline.output, &case.candidate.output].map(|text| brief(text));
        format!("| {} | {expected} | {was} | {is} |", cell(&case.id))
    }));
    if lost.len() > LISTED {
        lines.push(format!("\nand {} more lost cases", lost.len() - LISTED));
    }
    lines
}

/// The beginning of a text, as code.
fn brief(text: &str) -> String {
    let start: String = text.chars().take(120).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    if start.is_empty() {
        return "-".to_owned();
    }
    format!("<code>{}{more}</code>", cell(&start))
}

/// What would end a cell or begin a tag is written as an entity.
fn cell(text: &str) -> String {
    super::escaped(text).replace('|', "&#124;").replace(['\n', '\r'], " ")
}
