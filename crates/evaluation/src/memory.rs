//! A candidate beside what serves, both with the lessons that users are shown.
//!
//! An adapter that was trained without lessons may be better without and worse with them, and where
//! a memory release serves, nearly all requests carry some.

use understudy_manifest::{Conditions, EvalReport, GateCheck};

/// The condition that users, who see lessons, lose nothing.
const WITH_MEMORY: &str = "with memory";

/// Adds to a report without lessons what the same gate, asking for no loss, found with them: both
/// subjects as rows, and its decision as one condition.
pub fn add_with_memory(report: &mut EvalReport, with: EvalReport) {
    let failed: Vec<String> = with
        .decision
        .checks
        .iter()
        .filter(|check| !check.passed)
        .map(|check| format!("{}: {}", check.name, check.detail))
        .collect();
    let primary = with.decision.checks.first().map(|check| check.detail.clone());
    let passed = with.decision.passed;
    let found = if passed { primary.unwrap_or_default() } else { failed.join("; ") };
    report.decision.checks.push(GateCheck {
        name: WITH_MEMORY.to_owned(),
        passed,
        detail: format!("where both are shown the lessons that serve: {found}"),
    });
    report.decision.passed &= passed;
    let shown = |conditions: &Conditions| conditions.memory.is_some();
    let rows = with.subjects.into_iter().filter(|row| row.conditions.as_ref().is_some_and(shown));
    report.subjects.extend(rows);
}

/// Tells that the lessons that serve touch no case, so that there is nothing to compare.
pub fn add_untouched_by_memory(report: &mut EvalReport) {
    let detail = "no case gets a lesson of the memory release that serves, so answers are the same \
                  with and without";
    let detail = detail.to_owned();
    report.decision.checks.push(GateCheck { name: WITH_MEMORY.to_owned(), passed: true, detail });
}
