//! JUnit XML, the common tongue of build servers.

use understudy_manifest::GateCheck;

use super::{Document, escaped};
use crate::{CaseDiff, Change};

pub(super) fn junit(document: Document<'_>) -> String {
    let Document { report, cases } = document;
    let checks = &report.decision.checks;
    let refused = checks.iter().filter(|check| !check.passed).count();
    let suite = escaped(&report.suite);
    let lines = [
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>".to_owned(),
        format!("<testsuites name=\"{suite}\">"),
        opening(&format!("{suite}.gate"), checks.len(), [refused, 0, 0]),
    ];
    let mut lines: Vec<String> = lines.into_iter().chain(checks.iter().map(condition)).collect();
    lines.push("  </testsuite>".to_owned());
    if !cases.is_empty() {
        let count = |holds: fn(&CaseDiff) -> bool| cases.iter().filter(|case| holds(case)).count();
        let counts = [count(is_lost), count(is_error), count(is_undecided)];
        lines.push(opening(&format!("{suite}.cases"), cases.len(), counts));
        lines.extend(cases.iter().map(test_case));
        lines.push("  </testsuite>".to_owned());
    }
    lines.push("</testsuites>\n".to_owned());
    lines.join("\n")
}

/// `name` is escaped already.
fn opening(name: &str, tests: usize, [failures, errors, skipped]: [usize; 3]) -> String {
    format!(
        "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skipped}\">"
    )
}

fn condition(check: &GateCheck) -> String {
    let detail = escaped(&check.detail);
    let result = if check.passed {
        format!("<system-out>{detail}</system-out>")
    } else {
        format!("<failure type=\"gate\" message=\"{detail}\"/>")
    };
    element("gate", &check.name, &result)
}

fn test_case(case: &CaseDiff) -> String {
    let text = |label: &str, text: &str| format!("{label}: {}", escaped(text));
    let result = if is_error(case) {
        let why = case.candidate.error.as_deref().unwrap_or_default();
        format!("<error type=\"runtime\" message=\"{}\"/>", escaped(why))
    } else if is_undecided(case) {
        let undecided = [&case.candidate.unscored, &case.baseline.unscored];
        let why = undecided.into_iter().flatten().next().map_or("", String::as_str);
        format!("<skipped message=\"{}\"/>", escaped(why))
    } else if is_lost(case) {
        let score = |score: Option<f64>| score.unwrap_or(0.0);
        format!(
            "<failure type=\"regression\" message=\"score {:.3}, was {:.3}\">{}\n{}\n{}</failure>",
            score(case.candidate.score),
            score(case.baseline.score),
            text("expected", &case.expected),
            text("baseline", &case.baseline.output),
            text("candidate", &case.candidate.output),
        )
    } else {
        return element("cases", &case.id, "");
    };
    element("cases", &case.id, &result)
}

fn element(class: &str, name: &str, inside: &str) -> String {
    let name = escaped(name);
    if inside.is_empty() {
        return format!("    <testcase classname=\"{class}\" name=\"{name}\"/>");
    }
    format!("    <testcase classname=\"{class}\" name=\"{name}\">{inside}</testcase>")
}

fn is_error(case: &CaseDiff) -> bool {
    case.candidate.error.is_some()
}

fn is_undecided(case: &CaseDiff) -> bool {
    case.change == Change::Unscored && !is_error(case)
}

fn is_lost(case: &CaseDiff) -> bool {
    case.change == Change::Loss && !is_error(case)
}
