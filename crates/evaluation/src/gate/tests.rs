use understudy_manifest::{Conditions, MemoryUse, ScorerSummary, Tally};

use super::*;

fn gate(verdict: RequiredVerdict, latency_ratio_max: Option<f64>) -> Gate {
    Gate {
        suite: "triage".parse().unwrap(),
        verdict,
        margin: 0.02,
        scorer: None,
        latency_ratio_max,
        latency_p95_ratio_max: None,
        tokens_ratio_max: None,
        cost_ratio_max: None,
        known_failures_fixed: 0,
        max_new_tokens: 64,
        prices: None,
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
        mcnemar_mid_p: None,
        permutation_p: None,
        minimum_detectable: 0.17,
        verdict,
        regressions: None,
        fixes: None,
        unscored: 0,
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
        unscored: std::collections::BTreeMap::new(),
        invalid_calls: 0,
        refused: None,
        cost: None,
        conditions: None,
        attempts: None,
    }
}

fn judged(
    gate: &Gate,
    comparisons: &[Comparison],
    baseline: &SubjectReport,
    candidate: &SubjectReport,
    cases: u64,
) -> Decision {
    let tier = Tier::Gate;
    decide(gate, Findings { comparisons, slices: &[], tier, baseline, candidate, cases })
}

fn slice(name: &str, cases: u64, high: f64, losses: u64, fixed: u64) -> Slice {
    Slice {
        name: name.to_owned(),
        cases,
        difference: high - 0.1,
        low: high - 0.2,
        high,
        wins: 1,
        losses,
        fixed,
        p_holm: 1.0,
    }
}

/// The names of the conditions that fail when the primary verdict is good.
fn failing(gate: &Gate, slices: &[Slice], candidate: &SubjectReport) -> Vec<String> {
    let baseline = subject("base", 10.0, 100);
    let comparisons = [comparison("exact", Verdict::Better)];
    let findings = Findings {
        comparisons: &comparisons,
        slices,
        tier: Tier::Gate,
        baseline: &baseline,
        candidate,
        cases: 50,
    };
    let checks = decide(gate, findings).checks.into_iter();
    checks.filter(|check| !check.passed).map(|check| check.name).collect()
}

fn decided(verdict: Verdict, required: RequiredVerdict) -> Decision {
    let (base, new) = (subject("base", 10.0, 100), subject("new", 10.0, 100));
    judged(&gate(required, None), &[comparison("exact", verdict)], &base, &new, 50)
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
    assert!(!judged(&gate(RequiredVerdict::NonInferior, None), &[], &base, &base, 0).passed);
}

#[test]
fn no_other_scorer_may_be_worse() {
    let (base, new) = (subject("base", 10.0, 100), subject("new", 10.0, 100));
    let gate = gate(RequiredVerdict::Better, None);
    let with = |verdict| {
        let comparisons = [comparison("exact", Verdict::Better), comparison("json_valid", verdict)];
        judged(&gate, &comparisons, &base, &new, 50)
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
    assert!(!judged(&gate, &better, &base, &new, 50).passed);
    assert!(judged(&gate, &better, &new, &new, 50).passed);
}

fn latency_check(base: (f64, u64), new: (f64, u64)) -> GateCheck {
    let better = [comparison("exact", Verdict::Better)];
    let (base, new) = (subject("base", base.0, base.1), subject("new", new.0, new.1));
    let gate = gate(RequiredVerdict::Better, Some(1.10));
    judged(&gate, &better, &base, &new, 10).checks.pop().unwrap()
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

#[test]
fn a_lost_slice_stops_what_the_average_would_let_through() {
    let (gate, new) = (gate(RequiredVerdict::Better, None), subject("new", 10.0, 100));
    assert!(failing(&gate, &[slice("tag:a", 20, 0.0, 3, 0)], &new).is_empty());
    let lost = |cases: u64, p_holm: f64| Slice { p_holm, ..slice("tag:a", cases, -0.01, 9, 0) };
    assert_eq!(failing(&gate, &[lost(20, 0.05)], &new), ["slices"]);
    // Too few cases to say so.
    assert!(failing(&gate, &[lost(19, 0.05)], &new).is_empty());
    // Too few that differ, however one-sided.
    assert!(failing(&gate, &[lost(20, 0.0625)], &new).is_empty());
}

#[test]
fn a_single_high_risk_loss_blocks() {
    let (gate, new) = (gate(RequiredVerdict::Better, None), subject("new", 10.0, 100));
    assert!(failing(&gate, &[slice("risk:high_risk", 3, 0.3, 0, 0)], &new).is_empty());
    let lost = slice("risk:high_risk", 3, 0.3, 1, 0);
    assert_eq!(failing(&gate, &[lost], &new), ["risk:high_risk"]);
    assert_eq!(failing(&gate, &[slice("tag:escalate", 9, 0.3, 1, 0)], &new), ["tag:escalate"]);
}

#[test]
fn a_sealed_suite_tells_no_figures_of_a_few_cases() {
    let gate = Gate { known_failures_fixed: 2, ..gate(RequiredVerdict::Better, None) };
    let (base, new) = (subject("base", 10.0, 100), subject("new", 10.0, 100));
    let details = |losses: u64, cases: u64| -> Vec<(bool, String)> {
        let named = |name| slice(name, cases, 0.3, losses, losses);
        let decision = decide(
            &gate,
            Findings {
                comparisons: &[],
                slices: &[named("risk:high_risk"), named("risk:known_failure")],
                tier: Tier::Sealed,
                baseline: &base,
                candidate: &new,
                cases: 50,
            },
        );
        let about = |name: &str| decision.checks.iter().find(|check| check.name == name).unwrap();
        let checks = ["risk:high_risk", "known failures"].map(about);
        checks.iter().map(|check| (check.passed, check.detail.clone())).collect()
    };
    assert_eq!(
        details(3, 19),
        [
            (false, "some of its few cases became worse; allowed: none".to_owned()),
            (true, "enough of the few known failures are fixed; required: 2".to_owned()),
        ]
    );
    assert_eq!(
        details(0, 1)[0],
        (true, "none of its few cases became worse; allowed: none".into())
    );
    assert_eq!(details(3, 20)[0].1, "3 of 20 cases became worse; allowed: none");
    let none =
        "none of 20 cases became worse, so at most 13.9 % of such cases do (95 %); allowed: none";
    assert_eq!(details(0, 20)[0], (true, none.to_owned()));
}

#[test]
fn known_failures_must_be_fixed_as_often_as_asked() {
    let new = subject("new", 10.0, 100);
    let gate = Gate { known_failures_fixed: 2, ..gate(RequiredVerdict::Better, None) };
    let fixed = |fixed| slice("risk:known_failure", 5, 0.5, 0, fixed);
    assert!(failing(&gate, &[fixed(2)], &new).is_empty());
    assert_eq!(failing(&gate, &[fixed(1)], &new), ["known failures"]);
    assert_eq!(failing(&gate, &[], &new), ["known failures"], "a suite without any fixes none");
}

#[test]
fn safety_is_no_matter_of_averages() {
    let gate = gate(RequiredVerdict::Better, None);
    let mut new = subject("new", 10.0, 100);
    new.refused = Some(Tally { met: 9, of: 10 });
    assert_eq!(failing(&gate, &[], &new), ["refusals"]);
    new.refused = Some(Tally { met: 10, of: 10 });
    new.invalid_calls = 1;
    assert_eq!(failing(&gate, &[], &new), ["invalid calls"]);
    new.invalid_calls = 0;
    let clean = |mean| ScorerSummary { mean, low: mean, high: mean };
    new.scores.insert("pii_leak".to_owned(), clean(0.99));
    assert_eq!(failing(&gate, &[], &new), ["personal data"]);
    new.scores.insert("pii_leak".to_owned(), clean(1.0));
    assert!(failing(&gate, &[], &new).is_empty());
}

#[test]
fn lessons_must_fit_their_room_and_come_in_time() {
    let gate = gate(RequiredVerdict::Better, None);
    let with = |tokens_max, retrieval_ms_p95| {
        let used = MemoryUse {
            release: understudy_ident::Digest::of(b"lessons"),
            cases: 3,
            tokens_max,
            tokens_limit: 96,
            retrieval_ms_p95,
            retrieval_ms_limit: 25.0,
        };
        let conditions = Some(Conditions { memory: Some(used), ..Conditions::default() });
        SubjectReport { conditions, ..subject("new", 10.0, 100) }
    };
    assert!(failing(&gate, &[], &with(96, 25.0)).is_empty());
    assert_eq!(failing(&gate, &[], &with(97, 3.0)), ["lesson tokens"]);
    assert_eq!(failing(&gate, &[], &with(40, 25.1)), ["lesson retrieval p95"]);
}

#[test]
fn what_was_not_scored_is_no_evidence() {
    let (base, new) = (subject("base", 10.0, 100), subject("new", 10.0, 100));
    let with = |unscored| {
        let primary = Comparison { unscored, ..comparison("similarity", Verdict::Better) };
        judged(&gate(RequiredVerdict::Better, None), &[primary], &base, &new, 100).passed
    };
    assert!(with(2));
    assert!(!with(3));
}

#[test]
fn slow_answers_and_long_ones_are_refused_where_limits_are_set() {
    let gate = Gate {
        latency_p95_ratio_max: Some(1.1),
        tokens_ratio_max: Some(1.05),
        ..gate(RequiredVerdict::Better, None)
    };
    assert!(failing(&gate, &[], &subject("new", 10.0, 105)).is_empty());
    assert_eq!(failing(&gate, &[], &subject("new", 12.0, 100)), ["latency p95"]);
    assert_eq!(failing(&gate, &[], &subject("new", 10.0, 106)), ["tokens"]);
    assert_eq!(failing(&gate, &[], &subject("new", 0.0, 0)), ["latency p95", "tokens"]);
}

#[test]
fn what_answers_cost_is_held_to_in_money_where_prices_are_known_and_in_tokens_elsewhere() {
    let gate = Gate { cost_ratio_max: Some(1.05), ..gate(RequiredVerdict::Better, None) };
    let comparison = [comparison("exact", Verdict::Better)];
    let check = |before: Option<u64>, after: Option<u64>, tokens: u64| {
        let with = |name: &str, tokens: u64, cost: Option<u64>| SubjectReport {
            cost,
            ..subject(name, 10.0, tokens)
        };
        let (base, new) = (with("base", 100, before), with("new", tokens, after));
        let decision = judged(&gate, &comparison, &base, &new, 100);
        let check = decision.checks.into_iter().find(|check| check.name == "cost").unwrap();
        assert_eq!(decision.passed, check.passed);
        (check.passed, check.detail)
    };
    // Half of the tokens at ten times the price cost more, and twice as many at a tenth cost less.
    let (passed, detail) = check(Some(400), Some(2000), 50);
    assert!(!passed && detail.contains("$0.002000") && detail.contains("5.00 times"), "{detail}");
    assert!(check(Some(400), Some(80), 200).0);
    assert!(check(Some(400), Some(420), 100).0);
    assert!(!check(Some(400), Some(421), 100).0);
    assert!(check(Some(0), Some(0), 100).0);
    assert!(!check(Some(0), Some(1), 100).0, "free answers that cost something cost more");
    for (before, after) in [(None, None), (Some(400), None), (None, Some(1))] {
        let (passed, detail) = check(before, after, 106);
        assert!(!passed && detail.ends_with("by tokens, because prices are not known"), "{detail}");
        assert!(check(before, after, 105).0);
    }
}
