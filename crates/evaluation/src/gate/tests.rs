use super::*;

fn gate(verdict: RequiredVerdict, latency_ratio_max: Option<f64>) -> Gate {
    Gate {
        suite: "triage".parse().unwrap(),
        verdict,
        margin: 0.02,
        scorer: None,
        latency_ratio_max,
        max_new_tokens: 64,
    }
}

fn comparison(scorer: &str, verdict: Verdict) -> Comparison {
    Comparison {
        scorer: scorer.to_owned(),
        baseline: "base".to_owned(),
        candidate: "new".to_owned(),
        difference: 0.1,
        low: -0.05,
        high: 0.25,
        wins: 12,
        losses: 7,
        ties: 31,
        mcnemar_p: None,
        minimum_detectable: 0.17,
        verdict,
    }
}

fn subject(name: &str, ms: f64, completion_tokens: u64) -> SubjectReport {
    SubjectReport {
        name: name.to_owned(),
        generation: None,
        scores: std::collections::BTreeMap::new(),
        latency_ms_p50: ms,
        latency_ms_p95: ms,
        prompt_tokens: 0,
        completion_tokens,
        errors: 0,
    }
}

fn decided(verdict: Verdict, required: RequiredVerdict) -> Decision {
    let (base, new) = (subject("base", 10.0, 100), subject("new", 10.0, 100));
    decide(&gate(required, None), &[comparison("exact", verdict)], &base, &new, 50)
}

#[test]
fn the_required_verdict_decides() {
    use RequiredVerdict as Required;
    let passes = |verdict, required| decided(verdict, required).passed;
    assert!(passes(Verdict::Better, Required::Better));
    assert!(passes(Verdict::Better, Required::NonInferior));
    assert!(passes(Verdict::NonInferior, Required::NonInferior));
    assert!(!passes(Verdict::NonInferior, Required::Better));
    for verdict in [Verdict::Inconclusive, Verdict::Worse] {
        assert!(!passes(verdict, Required::Better) && !passes(verdict, Required::NonInferior));
    }
}

#[test]
fn an_inconclusive_verdict_says_what_the_cases_could_have_found() {
    let decision = decided(Verdict::Inconclusive, RequiredVerdict::Better);
    let detail = &decision.checks[0].detail;
    assert!(
        detail.contains("50 cases would usually miss a true difference below 0.170"),
        "{detail}"
    );
    assert!(detail.contains("+0.100 [-0.050, +0.250]"), "{detail}");
}

#[test]
fn nothing_compared_is_nothing_shown() {
    let base = subject("base", 1.0, 1);
    assert!(!decide(&gate(RequiredVerdict::NonInferior, None), &[], &base, &base, 0).passed);
}

#[test]
fn no_other_scorer_may_be_worse() {
    let (base, new) = (subject("base", 10.0, 100), subject("new", 10.0, 100));
    let gate = gate(RequiredVerdict::Better, None);
    let with = |verdict| {
        let comparisons = [comparison("exact", Verdict::Better), comparison("json_valid", verdict)];
        decide(&gate, &comparisons, &base, &new, 50)
    };
    assert!(with(Verdict::Inconclusive).passed);
    let decision = with(Verdict::Worse);
    assert!(!decision.passed);
    let failed: Vec<&str> =
        decision.checks.iter().filter(|check| !check.passed).map(|c| c.name.as_str()).collect();
    assert_eq!(failed, ["no regression: json_valid"]);
}

#[test]
fn failing_more_often_than_the_baseline_is_refused() {
    let (base, mut new) = (subject("base", 10.0, 100), subject("new", 10.0, 100));
    new.errors = 1;
    let better = [comparison("exact", Verdict::Better)];
    let gate = gate(RequiredVerdict::Better, None);
    assert!(!decide(&gate, &better, &base, &new, 50).passed);
    assert!(decide(&gate, &better, &new, &new, 50).passed);
}

fn latency_check(base: (f64, u64), new: (f64, u64)) -> GateCheck {
    let better = [comparison("exact", Verdict::Better)];
    let (base, new) = (subject("base", base.0, base.1), subject("new", new.0, new.1));
    let gate = gate(RequiredVerdict::Better, Some(1.10));
    decide(&gate, &better, &base, &new, 10).checks.pop().unwrap()
}

#[test]
fn replies_of_similar_length_are_timed_per_request() {
    assert!(latency_check((100.0, 200), (109.0, 210)).passed);
    let check = latency_check((100.0, 200), (112.0, 210));
    assert!(!check.passed && check.detail.contains("ms per request"), "{}", check.detail);
    // Just within 20 %.
    assert!(latency_check((100.0, 200), (90.0, 240)).detail.contains("per request"));
}

#[test]
fn replies_of_different_length_are_timed_per_token() {
    // Five times as long a reply in four times the time: faster per token.
    let check = latency_check((100.0, 200), (400.0, 1000));
    assert!(check.passed && check.detail.contains("per generated token"), "{}", check.detail);
    // A terse candidate does not get away with being slow.
    assert!(!latency_check((100.0, 1000), (60.0, 200)).passed);
}

#[test]
fn latencies_that_were_not_measured_do_not_pass() {
    assert!(!latency_check((0.0, 0), (0.0, 0)).passed);
    assert!(!latency_check((0.0, 200), (10.0, 200)).passed);
}
