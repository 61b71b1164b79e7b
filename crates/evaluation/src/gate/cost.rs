//! What a candidate may take: time, tokens and money.

use understudy_manifest::{Gate, GateCheck, MemoryUse, SubjectReport};

use super::Findings;

/// Outputs whose mean lengths differ by more than this factor are compared per generated token.
const SIMILAR_LENGTH: f64 = 1.2;

/// Which latency of a subject is meant.
struct Quantile {
    name: &'static str,
    words: &'static str,
    of: fn(&SubjectReport) -> f64,
}

const MEDIAN: Quantile =
    Quantile { name: "latency", words: "in the median", of: |subject| subject.latency_ms_p50 };
const HIGH: Quantile = Quantile {
    name: "latency p95",
    words: "in the slowest of 20",
    of: |subject| subject.latency_ms_p95,
};

pub(super) fn checks(gate: &Gate, findings: Findings<'_>) -> impl Iterator<Item = GateCheck> {
    let median = gate.latency_ratio_max.map(|max| latency(max, &MEDIAN, findings));
    let high = gate.latency_p95_ratio_max.map(|max| latency(max, &HIGH, findings));
    let tokens = gate.tokens_ratio_max.map(|max| tokens("tokens", max, findings));
    let cost = gate.cost_ratio_max.map(|max| cost(max, findings));
    let shown = findings.candidate.conditions.as_ref().and_then(|it| it.memory.as_ref());
    [median, high, tokens, cost]
        .into_iter()
        .flatten()
        .chain(shown.map(lessons).into_iter().flatten())
}

/// What the lessons of a memory release may take: room in the prompt, and time before the request.
fn lessons(used: &MemoryUse) -> [GateCheck; 2] {
    let MemoryUse { tokens_max, tokens_limit, retrieval_ms_p95, retrieval_ms_limit, .. } = used;
    let tokens = GateCheck {
        name: "lesson tokens".to_owned(),
        passed: tokens_max <= tokens_limit,
        detail: format!(
            "the longest block of lessons takes {tokens_max} tokens; allowed: {tokens_limit}"
        ),
    };
    let time = GateCheck {
        name: "lesson retrieval p95".to_owned(),
        passed: retrieval_ms_p95 <= retrieval_ms_limit,
        detail: format!(
            "looking for lessons takes {retrieval_ms_p95:.1} ms in the slowest of 20 cases; allowed: {retrieval_ms_limit:.1}, after which a server goes on without"
        ),
    };
    [tokens, time]
}

/// The latency of a request is its total time, and of a subject a quantile over its requests. Where
/// one subject says much more than the other, that would compare their lengths, so it is divided by
/// the mean number of generated tokens.
fn latency(max: f64, quantile: &Quantile, findings: Findings<'_>) -> GateCheck {
    let Findings { baseline, candidate, cases, .. } = findings;
    let length = |subject: &SubjectReport| {
        let answered = cases.saturating_sub(subject.errors).max(1);
        subject.completion_tokens as f64 / answered as f64
    };
    let (base_length, length) = (length(baseline), length(candidate));
    let similar = length.max(base_length) <= SIMILAR_LENGTH * length.min(base_length);
    // A backend that reports no tokens leaves only the time per request to compare.
    let per_token = !similar && length.min(base_length) > 0.0;
    let (base_divisor, divisor) = if per_token { (base_length, length) } else { (1.0, 1.0) };
    let base_ms = (quantile.of)(baseline) / base_divisor;
    let ms = (quantile.of)(candidate) / divisor;
    let name = quantile.name.to_owned();
    if base_ms <= 0.0 || ms <= 0.0 {
        let detail = "no latency was measured, so the limit cannot be checked".to_owned();
        return GateCheck { name, passed: false, detail };
    }
    let unit = if per_token { "ms per generated token" } else { "ms per request" };
    let reason = if per_token { " (replies differ in length by more than 20 %)" } else { "" };
    let detail = format!(
        "{} takes {ms:.1} {unit} {}, {} {base_ms:.1}: {:.2} times as long{reason}; allowed: {max:.2}",
        candidate.name,
        quantile.words,
        baseline.name,
        ms / base_ms
    );
    GateCheck { name, passed: ms <= max * base_ms, detail }
}

/// What the answers cost in money, as whoever gave them said it or as prices reckon it; by tokens where
/// that is not known of both.
fn cost(max: f64, findings: Findings<'_>) -> GateCheck {
    let Findings { baseline, candidate, .. } = findings;
    let Some((before, after)) = baseline.cost.zip(candidate.cost) else {
        let by_tokens = tokens("cost", max, findings);
        let detail = format!("{}; by tokens, because prices are not known", by_tokens.detail);
        return GateCheck { detail, ..by_tokens };
    };
    let dollars = |millionths: u64| format!("${:.6}", millionths as f64 / 1e6);
    // What is free may only stay so: no ratio says anything about it.
    let times = match before {
        0 => String::new(),
        before => format!(": {:.2} times as much", after as f64 / before as f64),
    };
    let detail = format!(
        "{} costs {}, {} {}{times}; allowed: {max:.2}",
        candidate.name,
        dollars(after),
        baseline.name,
        dollars(before)
    );
    let passed = after as f64 <= max * before as f64;
    GateCheck { name: "cost".to_owned(), passed, detail }
}

/// Tokens read and written, which is what a provider charges for and an engine spends time on.
fn tokens(name: &str, max: f64, findings: Findings<'_>) -> GateCheck {
    let Findings { baseline, candidate, .. } = findings;
    let of = |subject: &SubjectReport| subject.prompt_tokens + subject.completion_tokens;
    let (before, after) = (of(baseline), of(candidate));
    let name = name.to_owned();
    if before == 0 || after == 0 {
        let detail = "no tokens were counted, so the limit cannot be checked".to_owned();
        return GateCheck { name, passed: false, detail };
    }
    let ratio = after as f64 / before as f64;
    let detail = format!(
        "{} takes {after} tokens, {} {before}: {ratio:.2} times as many; allowed: {max:.2}",
        candidate.name, baseline.name
    );
    GateCheck { name, passed: ratio <= max, detail }
}
