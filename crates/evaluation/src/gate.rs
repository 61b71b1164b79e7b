//! May this candidate go on? Each condition is checked and explained, also after one has failed.
//!
//! The decision is a pure function of what stands in the report, so anybody who holds the report
//! can repeat it.

use understudy_manifest::{
    Comparison, Decision, Gate, GateCheck, RequiredVerdict, SubjectReport, Verdict,
};

/// Outputs whose mean lengths differ by more than this factor are compared per generated token.
const SIMILAR_LENGTH: f64 = 1.2;

/// Decides on a candidate. `comparisons` have the scorer in question first.
///
/// Passing takes all of: the required verdict; no other scorer `worse`; no more failed answers than
/// the baseline; and, where `latency_ratio_max` is set, a latency within it.
pub fn decide(
    gate: &Gate,
    comparisons: &[Comparison],
    baseline: &SubjectReport,
    candidate: &SubjectReport,
    cases: u64,
) -> Decision {
    let mut checks = vec![required_verdict(gate, comparisons.first(), cases)];
    checks.extend(comparisons.iter().skip(1).map(|comparison| no_regression(gate, comparison)));
    checks.push(no_more_errors(baseline, candidate, cases));
    checks.extend(gate.latency_ratio_max.map(|max| latency(max, baseline, candidate, cases)));
    Decision { passed: checks.iter().all(|check| check.passed), checks }
}

fn required_verdict(gate: &Gate, primary: Option<&Comparison>, cases: u64) -> GateCheck {
    let name = "verdict".to_owned();
    let Some(comparison) = primary else {
        let detail = "nothing was compared, so nothing is shown".to_owned();
        return GateCheck { name, passed: false, detail };
    };
    let passed = match gate.verdict {
        RequiredVerdict::Better => comparison.verdict == Verdict::Better,
        RequiredVerdict::NonInferior => {
            matches!(comparison.verdict, Verdict::Better | Verdict::NonInferior)
        }
    };
    let required = match gate.verdict {
        RequiredVerdict::Better => "better".to_owned(),
        RequiredVerdict::NonInferior => format!("at most {:.3} worse", gate.margin),
    };
    let power = match comparison.verdict {
        Verdict::Inconclusive => format!(
            "; {cases} cases would usually miss a true difference below {:.3}",
            comparison.minimum_detectable
        ),
        Verdict::Better | Verdict::NonInferior | Verdict::Worse => String::new(),
    };
    let detail = format!(
        "{} on {} is {}; required: {required}{power}",
        comparison.candidate,
        comparison.scorer,
        measured(comparison)
    );
    GateCheck { name, passed, detail }
}

fn no_regression(gate: &Gate, comparison: &Comparison) -> GateCheck {
    GateCheck {
        name: format!("no regression: {}", comparison.scorer),
        passed: comparison.verdict != Verdict::Worse,
        detail: format!(
            "{} on {} is {}; refused: worse by more than {:.3} with certainty",
            comparison.candidate,
            comparison.scorer,
            measured(comparison),
            gate.margin
        ),
    }
}

fn no_more_errors(baseline: &SubjectReport, candidate: &SubjectReport, cases: u64) -> GateCheck {
    GateCheck {
        name: "errors".to_owned(),
        passed: candidate.errors <= baseline.errors,
        detail: format!(
            "{} failed to answer {} of {cases} cases, {} failed {}; allowed: no more than that",
            candidate.name, candidate.errors, baseline.name, baseline.errors
        ),
    }
}

/// The latency of a request is its total time, and of a subject the median over its requests. Where
/// one subject says much more than the other, that would compare their lengths, so it is divided by
/// the mean number of generated tokens.
fn latency(max: f64, baseline: &SubjectReport, candidate: &SubjectReport, cases: u64) -> GateCheck {
    let length = |subject: &SubjectReport| {
        let answered = cases.saturating_sub(subject.errors).max(1);
        subject.completion_tokens as f64 / answered as f64
    };
    let (base_length, length) = (length(baseline), length(candidate));
    let similar = length.max(base_length) <= SIMILAR_LENGTH * length.min(base_length);
    // A backend that reports no tokens leaves only the time per request to compare.
    let per_token = !similar && length.min(base_length) > 0.0;
    let (base_divisor, divisor) = if per_token { (base_length, length) } else { (1.0, 1.0) };
    let base_ms = baseline.latency_ms_p50 / base_divisor;
    let ms = candidate.latency_ms_p50 / divisor;
    let name = "latency".to_owned();
    if base_ms <= 0.0 || ms <= 0.0 {
        let detail = "no latency was measured, so the limit cannot be checked".to_owned();
        return GateCheck { name, passed: false, detail };
    }
    let unit = if per_token { "ms per generated token" } else { "ms per request" };
    let reason = if per_token { " (replies differ in length by more than 20 %)" } else { "" };
    let detail = format!(
        "{} takes {ms:.1} {unit} in the median, {} {base_ms:.1}: {:.2} times as long{reason}; allowed: {max:.2}",
        candidate.name,
        baseline.name,
        ms / base_ms
    );
    GateCheck { name, passed: ms <= max * base_ms, detail }
}

/// `better than base: +0.710 [0.650, 0.760]`.
fn measured(comparison: &Comparison) -> String {
    let Comparison { baseline, difference, low, high, verdict, .. } = comparison;
    let words = match verdict {
        Verdict::Better => "better than",
        Verdict::NonInferior => "not inferior to",
        Verdict::Worse => "worse than",
        Verdict::Inconclusive => "not clearly different from",
    };
    format!("{words} {baseline}: {difference:+.3} [{low:+.3}, {high:+.3}]")
}

#[cfg(test)]
mod tests;
