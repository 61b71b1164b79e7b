//! The whole way from a suite to a table, on the fake backend.

use understudy_inference::{Embedder, FakeBackend, InferenceError, Student};
use understudy_manifest::{
    Case, EvalReport, Gate, Origin, Prices, RequiredVerdict, Scorer, SftExample, Suite, Tier,
    Verdict,
};
use understudy_message::Message;

use super::*;

const INTENTS: [&str; 4] = ["billing", "access", "delivery", "other"];

fn expected(n: usize) -> String {
    format!(r#"{{"intent":"{}","fields":{{"order":{n}}}}}"#, INTENTS[n % 4])
}

fn suite(cases: usize) -> Suite {
    let case = |n: usize| Case {
        id: format!("case-{n}"),
        prompt: vec![Message::user(format!("message {n}"))],
        expected: expected(n),
        tags: vec![],
        ..Case::default()
    };
    Suite {
        name: "support-triage".parse().unwrap(),
        tier: Tier::Sealed,
        scorers: vec![Scorer::FieldF1, Scorer::JsonValid, Scorer::Field("intent".to_owned())],
        rubrics: Vec::new(),
        cases: (0..cases).map(case).collect(),
    }
}

fn gate() -> Gate {
    Gate {
        suite: "support-triage".parse().unwrap(),
        verdict: RequiredVerdict::Better,
        margin: 0.02,
        scorer: None,
        latency_ratio_max: None,
        latency_p95_ratio_max: None,
        tokens_ratio_max: None,
        cost_ratio_max: None,
        known_failures_fixed: 0,
        max_new_tokens: 64,
        prices: None,
    }
}

/// The base talks; the adapter `good` gives JSON and is wrong about every fifth intent; the adapter
/// `poisoned` gives the same JSON for everything.
fn backend() -> FakeBackend {
    let backend = FakeBackend::new("fake", |question, adapter| {
        let n: usize = question.trim_start_matches("message ").parse().unwrap();
        Ok(match adapter {
            None => format!("Sure! I can help you with {question}."),
            Some("good") if n.is_multiple_of(5) => expected(n).replace(INTENTS[n % 4], "?"),
            Some("good") => expected(n),
            Some(_) => r#"{"intent":"other"}"#.to_owned(),
        })
    });
    let directory = std::env::temp_dir().join(format!(
        "evaluation-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("adapter_config.json"), "{}").unwrap();
    std::fs::write(directory.join("adapter_model.safetensors"), "weights").unwrap();
    for alias in ["good", "poisoned"] {
        backend.load_adapter(alias, &directory).unwrap();
    }
    backend
}

fn subject(name: &str, adapter: Option<&str>) -> Subject {
    Subject { name: name.to_owned(), adapter: adapter.map(str::to_owned) }
}

fn report(baseline: &Subject, candidate: &Subject, others: &[SubjectRun]) -> EvalReport {
    let (suite, gate) = (suite(60), gate());
    let plan = Plan {
        suite: &suite,
        gate: &gate,
        baseline,
        candidate,
        seed: 17,
        concurrency: 8,
        embedder: None,
    };
    evaluate(&backend(), plan, others, &mut |_| {}).unwrap()
}

/// What may differ between two runs.
fn without_latencies(mut report: EvalReport) -> String {
    for subject in &mut report.subjects {
        (subject.latency_ms_p50, subject.latency_ms_p95) = (0.0, 0.0);
    }
    understudy_manifest::canonical_json(&report)
}

#[test]
fn a_trained_adapter_passes_and_its_figures_add_up() {
    let report = report(&subject("base", None), &subject("good", Some("good")), &[]);
    let primary = &report.comparisons[0];
    assert_eq!((primary.scorer.as_str(), primary.verdict), ("field_f1", Verdict::Better));
    assert!(report.decision.passed, "{:?}", report.decision);
    let mean = |subject: usize| report.subjects[subject].scores["field_f1"].mean;
    // 12 of 120 fields are wrong, each once missing and once invented: 2·108 / (2·108 + 12 + 12).
    assert!((mean(1) - 0.9).abs() < 1e-12);
    assert!((primary.difference - (mean(1) - mean(0))).abs() < 1e-12);
    assert_eq!((primary.wins, primary.losses, primary.ties), (60, 0, 0));
    let intent = &report.comparisons[2];
    assert_eq!((intent.wins, intent.ties), (48, 12));
    assert!(intent.mcnemar_p.unwrap() < 1e-9);
    assert_eq!(report.subjects[1].generation.as_ref().map(|g| g.len() == 64), Some(true));
}

#[test]
fn a_poisoned_adapter_is_refused() {
    let good = subject("good", Some("good"));
    let report = report(&good, &subject("poisoned", Some("poisoned")), &[]);
    assert_eq!(report.comparisons[0].verdict, Verdict::Worse);
    assert!(!report.decision.passed);
}

#[test]
fn an_adapter_compared_with_itself_is_not_better() {
    let report = report(&subject("a", Some("good")), &subject("b", Some("good")), &[]);
    assert!(!report.decision.passed);
    let primary = &report.comparisons[0];
    assert_eq!((primary.difference, primary.ties), (0.0, 60));
    // No loss in 60 cases leaves room for one in sixteen.
    assert_eq!(primary.verdict, Verdict::Inconclusive);
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let (base, good) = (subject("base", None), subject("good", Some("good")));
    let first = without_latencies(report(&base, &good, &[]));
    assert_eq!(first, without_latencies(report(&base, &good, &[])));
    assert!(serde_json::from_str::<EvalReport>(&first).is_ok(), "the report reads what it writes");
}

#[test]
fn the_gate_may_choose_another_primary_scorer() {
    let suite = suite(3);
    let gate = Gate { scorer: Some(Scorer::JsonValid), ..gate() };
    let names: Vec<String> = scorers(&suite, &gate).iter().map(Scorer::name).collect();
    assert_eq!(names, ["json_valid", "field_f1", "field:intent"]);
    let gate = Gate { scorer: Some(Scorer::Exact), ..gate };
    assert_eq!(scorers(&suite, &gate).len(), 4);
}

#[test]
fn the_table_reads_from_trivial_to_best() {
    let examples: Vec<SftExample> = (100..140)
        .map(|n| SftExample {
            prompt: vec![Message::user(format!("message {n}"))],
            completion: vec![Message::assistant(expected(n))],
            tools: Vec::new(),
            origin: Origin { trajectory: String::new(), steps: vec![], because: vec![] },
        })
        .collect();
    let suite = suite(60);
    let teacher = SubjectRun {
        subject: "teacher".to_owned(),
        generation: None,
        conditions: None,
        more: Vec::new(),
        results: (suite.cases.iter())
            .map(|case| CaseResult {
                id: case.id.clone(),
                output: case.expected.clone(),
                calls: Vec::new(),
                latency_ms: 250.0,
                usage: understudy_inference::Usage {
                    prompt_tokens: 9,
                    completion_tokens: 20,
                    cached_tokens: 0,
                },
                error: None,
                ..CaseResult::default()
            })
            .collect(),
    };
    let others = [teacher, NearestExample::fit(&examples).run(&suite)];
    let report = report(&subject("base", None), &subject("good", Some("good")), &others);
    let names: Vec<&str> = report.subjects.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["nearest example", "base", "good", "teacher"]);

    let text = table(&report);
    let table: Vec<&str> = text.lines().skip(2).take(5).collect();
    assert!(table[0].starts_with("subject") && table[4].starts_with("teacher"), "{text}");
    assert!(table.iter().all(|line| line.chars().count() == table[0].chars().count()), "{text}");
    assert!(table[4].contains("1.000") && table[4].contains("250.0"), "{text}");
    assert!(text.contains("field_f1: better: good - base = +0.900"), "{text}");
    assert!(text.contains("60 cases would find a true difference of 0.333 on field_f1"), "{text}");
    assert!(text.contains("gate passed"), "{text}");
}

#[test]
fn answers_to_other_cases_and_namesakes_are_refused() {
    let (suite, gate) = (suite(3), gate());
    let nothing = NearestExample::default().run(&suite);
    let named = |name: &str| SubjectRun { subject: name.to_owned(), ..nothing.clone() };
    let (a, b) = (named("a"), named("b"));
    let assembled = |candidate: &SubjectRun, others: &[SubjectRun]| {
        let evidence = Evidence { baseline: &a, candidate, others, embedder: None, assessor: None };
        assemble(&suite, &gate, evidence, 1)
    };
    assert!(assembled(&b, &[]).is_ok());
    let error = assembled(&a, &[]).unwrap_err();
    assert!(matches!(error, EvaluationError::DuplicateSubject { .. }), "{error}");
    let mut short = named("c");
    short.results.pop();
    let error = assembled(&b, &[short]).unwrap_err();
    assert!(matches!(error, EvaluationError::Misaligned { position: 2, .. }), "{error}");
}

#[test]
fn unanswered_cases_score_zero_and_are_counted() {
    let (suite, gate) = (suite(10), gate());
    let silent = NearestExample::default().run(&suite);
    let other = SubjectRun { subject: "other".to_owned(), ..silent.clone() };
    let evidence = Evidence {
        baseline: &silent,
        candidate: &other,
        others: &[],
        embedder: None,
        assessor: None,
    };
    let report = assemble(&suite, &gate, evidence, 1).unwrap();
    let subject = &report.subjects[0];
    assert_eq!(subject.errors, 10);
    assert!(subject.scores.values().all(|score| score.mean == 0.0), "{subject:?}");
    assert_eq!(subject.latency_ms_p50, 0.0);
}

#[test]
fn an_expected_answer_that_is_not_json_is_found_before_generating() {
    let mut suite = suite(3);
    suite.cases[1].expected = "billing".to_owned();
    let (gate, base) = (gate(), subject("base", None));
    let candidate = subject("typo", Some("would be refused by the backend"));
    let plan = Plan {
        suite: &suite,
        gate: &gate,
        baseline: &base,
        candidate: &candidate,
        seed: 1,
        concurrency: 1,
        embedder: None,
    };
    let error = evaluate(&backend(), plan, &[], &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("case `case-1`"), "{error}");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("not JSON"), "{source}");
    assert_eq!(check(&suite), Err(error));
    assert_eq!(check(&self::suite(3)), Ok(()));
}

/// Counts letters.
#[derive(Debug)]
struct Letters;

impl Embedder for Letters {
    fn name(&self) -> &'static str {
        "letters"
    }

    fn dimensions(&self) -> usize {
        26
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, InferenceError> {
        let vector = |text: &&str| {
            let count = |letter: char| text.chars().filter(|c| *c == letter).count() as f32;
            ('a'..='z').map(count).collect()
        };
        Ok(texts.iter().map(vector).collect())
    }
}

#[test]
fn similarity_is_scored_by_the_embedder_and_unscored_without_one() {
    let mut suite = suite(8);
    suite.scorers = vec![Scorer::parse("similarity").unwrap()];
    let (gate, base, good) = (gate(), subject("base", None), subject("good@1", Some("good")));
    let report = |embedder: Option<&dyn Embedder>| {
        let plan = Plan {
            suite: &suite,
            gate: &gate,
            baseline: &base,
            candidate: &good,
            seed: 17,
            concurrency: 8,
            embedder,
        };
        let report = evaluate(&backend(), plan, &[], &mut |_| {}).unwrap();
        let of = |name: &str| {
            let subject = report.subjects.iter().find(|one| one.name == name).unwrap();
            (
                subject.scores["similarity"].mean,
                subject.unscored.get("similarity").copied().unwrap_or(0),
            )
        };
        [of("base"), of("good@1")]
    };
    let [base_score, good_score] = report(Some(&Letters));
    assert_eq!((base_score.1, good_score.1), (0, 0));
    assert!(good_score.0 > 0.9 && good_score.0 > base_score.0, "{good_score:?} {base_score:?}");
    assert_eq!(report(None).map(|(_, unscored)| unscored), [8, 8]);
}

#[test]
fn a_loss_among_those_who_see_lessons_stops_a_gain_among_those_who_do_not() {
    let (suite, gate) = (suite(60), gate());
    let said = |name: &str, right: usize| {
        let mut run = NearestExample::default().run(&suite);
        run.subject = name.to_owned();
        for (case, result) in suite.cases.iter().zip(&mut run.results).take(right) {
            (result.output, result.error) = (case.expected.clone(), None);
        }
        run
    };
    let report = |baseline: &SubjectRun, candidate: &SubjectRun| {
        let evidence =
            Evidence { baseline, candidate, others: &[], embedder: None, assessor: None };
        assemble(&suite, &gate, evidence, 17).unwrap()
    };
    let mut gain = report(&said("base", 10), &said("new", 50));
    assert!(gain.decision.passed);
    let mut untouched = gain.clone();
    add_untouched_by_memory(&mut untouched);
    assert!(untouched.decision.passed);
    let loss = report(&said("base with memory m", 50), &said("new with memory m", 10));
    add_with_memory(&mut gain, loss);
    assert!(!gain.decision.passed);
    let check = gain.decision.checks.last().unwrap();
    assert!(check.name == "with memory" && check.detail.contains("verdict"), "{check:?}");
}

/// Ten cases attempted four times, of which so many come right in each.
fn attempted(name: &str, suite: &Suite, right: fn(usize) -> usize) -> SubjectRun {
    let line = |attempt: usize, (n, case): (usize, &Case)| {
        let output = if attempt < right(n) { case.expected.as_str() } else { "no" };
        serde_json::json!({"id": case.id, "attempt": attempt, "output": output}).to_string()
    };
    let all = (0..4)
        .flat_map(|attempt| suite.cases.iter().enumerate().map(move |one| line(attempt, one)));
    read_recorded(name, suite, &all.collect::<Vec<_>>().join("\n")).unwrap()
}

#[test]
fn several_attempts_are_averaged_by_case_and_tell_what_can_be_relied_on() {
    let suite = Suite { scorers: vec![Scorer::JsonEqual], ..suite(10) };
    let (old, new) = (attempted("old", &suite, |_| 0), attempted("new", &suite, |n| n % 3 + 1));
    let evidence =
        Evidence { baseline: &old, candidate: &new, others: &[], embedder: None, assessor: None };
    let report = assemble(&suite, &gate(), evidence, 17).unwrap();
    assert_eq!(report, assemble(&suite, &gate(), evidence, 17).unwrap());
    let found = report.subjects[1].attempts.as_ref().unwrap();
    assert_eq!((found.each, report.comparisons[0].wins), (4, 10));
    // One, two or three of four come right, for four, three and three cases.
    let close = |value: f64, expected: f64| assert!((value - expected).abs() < 1e-12, "{value}");
    close(report.subjects[1].scores["json_equal"].mean, 19.0 / 40.0);
    close(found.any[&1].mean, 19.0 / 40.0);
    close(found.all[&1].mean, 19.0 / 40.0);
    close(found.any[&2].mean, (4.0 * 0.5 + 3.0 * (1.0 - 1.0 / 6.0) + 3.0) / 10.0);
    close(found.all[&2].mean, (3.0 / 6.0 + 3.0 * 0.5) / 10.0);
    close(found.all[&3].mean, 3.0 * 0.25 / 10.0);
    close(found.any[&4].mean, 1.0);
    close(found.all[&4].mean, 0.0);
    assert!(found.any[&1].low < found.any[&1].mean && found.any[&1].mean < found.any[&1].high);
    let text = table(&report);
    assert!(text.contains("new, 4 attempts at each case: pass@1 0.475"), "{text}");
    let again = read_recorded("new", &suite, &write_recorded(&new)).unwrap();
    assert_eq!(again, new);
}

#[test]
fn an_attempt_that_is_missing_is_a_failed_one() {
    let suite = Suite { scorers: vec![Scorer::JsonEqual], ..suite(10) };
    let whole = attempted("new", &suite, |_| 4);
    let text = write_recorded(&whole);
    let short: Vec<&str> = text.lines().take(39).collect();
    let run = read_recorded("new", &suite, &short.join("\n")).unwrap();
    assert!(run.more[2][9].error.as_ref().unwrap().contains("not recorded"));
    let base = SubjectRun { subject: "base".to_owned(), ..whole };
    let evidence =
        Evidence { baseline: &base, candidate: &run, others: &[], embedder: None, assessor: None };
    let report = assemble(&suite, &gate(), evidence, 17).unwrap();
    assert_eq!(report.subjects[1].errors, 1);
    let all = &report.subjects[1].attempts.as_ref().unwrap().all;
    assert!((all[&4].mean - 0.9).abs() < 1e-12, "{all:?}");
}

#[test]
fn one_answer_in_fifty_may_be_absent_and_is_left_out_of_both_sides() {
    let suite = Suite { scorers: vec![Scorer::JsonEqual], ..suite(100) };
    let whole = attempted("old", &suite, |_| 4);
    let whole = SubjectRun { more: Vec::new(), ..whole };
    let text = write_recorded(&whole);
    let but = |n: usize| text.lines().skip(n).collect::<Vec<_>>().join("\n");
    let refused = read_recorded("new", &suite, &but(3)).unwrap_err().to_string();
    assert!(refused.contains("has no answer") && refused.contains("2 %"), "{refused}");
    let run = read_recorded("new", &suite, &but(2)).unwrap();
    assert_eq!(write_recorded(&run).trim_end(), but(2));
    let evidence =
        Evidence { baseline: &whole, candidate: &run, others: &[], embedder: None, assessor: None };
    let report = assemble(&suite, &gate(), evidence, 17).unwrap();
    let new = &report.subjects[1];
    assert_eq!((new.errors, new.unscored["json_equal"]), (0, 2));
    assert_eq!((report.comparisons[0].unscored, report.comparisons[0].ties), (2, 98));
}

#[test]
fn steps_state_and_cost_of_recorded_answers_are_scored() {
    let checks = r#"[{"scorer":"state","value":"{\"/paid\":true}"},{"scorer":"cost:20"}]"#;
    let mut suite = suite(2);
    suite.scorers = vec![Scorer::Checks];
    for case in &mut suite.cases {
        case.checks = serde_json::from_str(checks).unwrap();
    }
    let plain = "{\"id\":\"case-0\",\"output\":\"\"}\n{\"id\":\"case-1\",\"output\":\"\"}";
    let bare = read_recorded("bare", &suite, plain).unwrap();
    let why = computable(&suite, &gate(), "bare", Some(&bare)).unwrap_err().to_string();
    assert!(why.contains("`state`") && why.contains("`bare`"), "{why}");
    assert!(computable(&suite, &gate(), "base", None).is_err(), "whoever is asked here has none");
    let told = |paid: bool, cost: u64| {
        let line = |n: usize| {
            serde_json::json!({"id": format!("case-{n}"), "output": "", "state": {"paid": paid},
                "cost": cost, "steps": [{"role": "assistant", "content": "done"}]})
            .to_string()
        };
        format!("{}\n{}", line(0), line(1))
    };
    let good = read_recorded("good", &suite, &told(true, 20)).unwrap();
    let dear = read_recorded("dear", &suite, &told(true, 21)).unwrap();
    assert_eq!(good.results[0].steps.len(), 1);
    assert!(computable(&suite, &gate(), "good", Some(&good)).is_ok());
    let evidence =
        Evidence { baseline: &dear, candidate: &good, others: &[], embedder: None, assessor: None };
    let report = assemble(&suite, &gate(), evidence, 17).unwrap();
    let of = |nth: usize| report.subjects[nth].scores["checks"].mean;
    assert_eq!((of(0), of(1)), (0.5, 1.0));
    assert_eq!(report.subjects[1].cost, Some(40));
}

#[test]
fn tokens_have_a_price_where_one_is_given() {
    let mut suite = suite(1);
    suite.scorers = vec![Scorer::Cost(50)];
    let prices = Prices { input_usd_per_million: 2.0, output_usd_per_million: 10.0 };
    let gate = Gate { prices: Some(prices), ..gate() };
    assert!(computable(&suite, &gate, "base", None).is_ok());
    let line = r#"{"id":"case-0","output":"x","prompt_tokens":10,"completion_tokens":3}"#;
    let mut run = read_recorded("new", &suite, line).unwrap();
    run.price(prices);
    assert_eq!(run.results[0].cost, Some(50));
}
