//! A report as text for people: aligned columns, one line per verdict and condition.

use understudy_manifest::{
    Comparison, Consultations, EvalReport, JudgeReport, ScorerSummary, Slice, SubjectReport, Tally,
};

use crate::judge::shortcoming;

/// Renders a report. Lines end with `\n`; widths count characters, so any font of equal widths does.
pub fn table(report: &EvalReport) -> String {
    let EvalReport { suite, cases, seed, .. } = report;
    let digest = report.suite_digest.short();
    let mut lines = vec![format!("suite {suite} ({digest}), {cases} cases, seed {seed}")];
    lines.push(String::new());
    lines.extend(align(&rows(report)));
    lines.push(String::new());
    for comparison in &report.comparisons {
        lines.push(verdict_line(comparison));
        lines.extend(tallies(comparison).map(|text| format!("  {text}")));
    }
    lines.extend(report.comparisons.first().map(|primary| {
        let Comparison { scorer, minimum_detectable, .. } = primary;
        format!(
            "power: with this much disagreement, {cases} cases would find a true difference of {minimum_detectable:.3} on {scorer} with probability 0.8"
        )
    }));
    lines.extend(attempt_lines(report));
    lines.extend(judge_lines(report));
    lines.extend(reuse_warning(report));
    lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    if !report.slices.is_empty() {
        lines.push(String::new());
        lines.extend(align(&slice_rows(report)));
    }
    lines.push(String::new());
    lines.push(format!("gate {}", if report.decision.passed { "passed" } else { "failed" }));
    lines.extend(report.decision.checks.iter().map(|check| {
        let mark = if check.passed { "ok  " } else { "FAIL" };
        format!("  {mark}  {}: {}", check.name, check.detail)
    }));
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

fn rows(report: &EvalReport) -> Vec<Vec<String>> {
    let scorers: Vec<&str> = report.comparisons.iter().map(|c| c.scorer.as_str()).collect();
    let mut header = vec!["subject".to_owned()];
    header.extend(scorers.iter().map(|scorer| format!("{scorer} [95 %]")));
    header.extend(["ms p50", "ms p95", "tokens out", "errors"].map(str::to_owned));
    let mut rows = vec![header];
    rows.extend(report.subjects.iter().map(|subject| row(subject, &scorers)));
    rows
}

/// One subject's cells, as far as every table has them.
pub(crate) fn row(subject: &SubjectReport, scorers: &[&str]) -> Vec<String> {
    let mut cells = vec![subject.name.clone()];
    cells.extend(scorers.iter().map(|scorer| {
        subject.scores.get(*scorer).map_or_else(
            || "-".to_owned(),
            |score| format!("{:.3} [{:.3}, {:.3}]", score.mean, score.low, score.high),
        )
    }));
    cells.push(milliseconds(subject.latency_ms_p50));
    cells.push(milliseconds(subject.latency_ms_p95));
    cells.push(subject.completion_tokens.to_string());
    cells.push(subject.errors.to_string());
    cells
}

/// What was not measured is no 0.
pub(crate) fn milliseconds(value: f64) -> String {
    if value > 0.0 { format!("{value:.1}") } else { "-".to_owned() }
}

/// Names to the left, figures to the right, two spaces between.
fn align(rows: &[Vec<String>]) -> impl Iterator<Item = String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    rows.iter().map(move |row| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ")
    })
}

/// How many right answers a candidate breaks, and how many wrong ones it mends.
pub(crate) fn tallies(comparison: &Comparison) -> Option<String> {
    let Comparison { baseline, regressions, fixes, .. } = comparison;
    let part = |what: &str, tally: &Option<Tally>, was: &str| {
        let Tally { met, of } = (*tally)?;
        Some(format!("{what} {met} of the {of} that {baseline} had {was}"))
    };
    let parts = [part("broken", regressions, "right"), part("fixed", fixes, "wrong")];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What several attempts say of a subject.
pub(crate) fn attempt_lines(report: &EvalReport) -> Vec<String> {
    let line = |subject: &SubjectReport| {
        let found = subject.attempts.as_ref()?;
        let chances = |of: &std::collections::BTreeMap<u64, ScorerSummary>, mark: &str| {
            let one = |(k, chance): (&u64, &ScorerSummary)| {
                let ScorerSummary { mean, low, high } = chance;
                format!("pass{mark}{k} {mean:.3} [{low:.3}, {high:.3}]")
            };
            of.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        let (any, all) = (chances(&found.any, "@"), chances(&found.all, "^"));
        Some(format!("{}, {} attempts at each case: {any}; {all}", subject.name, found.each))
    };
    report.subjects.iter().filter_map(line).collect()
}

pub(crate) const SLICE_HEADER: [&str; 6] =
    ["slice", "cases", "difference", "won / lost", "fixed", "p (Holm)"];

/// One slice's cells, as every table has them.
pub(crate) fn slice_row(slice: &Slice) -> Vec<String> {
    let Slice { difference, low, high, wins, losses, .. } = slice;
    vec![
        slice.name.clone(),
        slice.cases.to_string(),
        format!("{difference:+.3} [{low:+.3}, {high:+.3}]"),
        format!("{wins} / {losses}"),
        slice.fixed.to_string(),
        format!("{:.3}", slice.p_holm),
    ]
}

fn slice_rows(report: &EvalReport) -> Vec<Vec<String>> {
    let header = SLICE_HEADER.map(str::to_owned).to_vec();
    std::iter::once(header).chain(report.slices.iter().map(slice_row)).collect()
}

/// What a judge thinks, and what that is worth.
pub(crate) fn judge_lines(report: &EvalReport) -> Vec<String> {
    let Some(judge) = &report.judge else { return Vec::new() };
    let JudgeReport { model, undecided, errors, flips, first_preferred, .. } = judge;
    let cost = judge.cost.map_or_else(String::new, |cost| format!(", ${:.4}", cost as f64 / 1e6));
    let worth = match &judge.calibration {
        Some(found) if found.suffices() => {
            format!("kappa {:.2} with {} people's labels", found.kappa, found.labels)
        }
        other => format!("advisory: {}", shortcoming(other.as_ref())),
    };
    vec![
        verdict_line(&judge.comparison),
        format!(
            "judge {model} ({worth}): undecided on {undecided}, failed on {errors}; other answer in the other order {} of {} times, first shown preferred {} of {}; {} + {} tokens{cost}",
            flips.met,
            flips.of,
            first_preferred.met,
            first_preferred.of,
            judge.prompt_tokens,
            judge.completion_tokens
        ),
    ]
}

/// What too many decisions on the same cases do to a report's worth.
pub(crate) fn reuse_warning(report: &EvalReport) -> Option<String> {
    let times = report.consultation.filter(|times| *times > Consultations::MANY)?;
    Some(format!(
        "warning: this is decision {times} on these very cases; a pass may by now be selection, so give the suite fresh cases under another name"
    ))
}

pub(crate) fn verdict_line(comparison: &Comparison) -> String {
    let Comparison { scorer, baseline, candidate, difference, low, high, .. } = comparison;
    let Comparison { wins, losses, ties, .. } = comparison;
    let verdict = comparison.verdict.as_str();
    let p = |test: &str, p: Option<f64>| match p {
        Some(p) if p < 0.0001 => format!(", {test} p < 0.0001"),
        Some(p) => format!(", {test} p = {p:.4}"),
        None => String::new(),
    };
    let mcnemar = p("exact McNemar", comparison.mcnemar_p);
    let mid = p("mid-p", comparison.mcnemar_mid_p);
    let permutation = p("permutation", comparison.permutation_p);
    format!(
        "{scorer}: {verdict}: {candidate} - {baseline} = {difference:+.3} [{low:+.3}, {high:+.3}], {wins} won, {losses} lost, {ties} tied{mcnemar}{mid}{permutation}"
    )
}
