//! The whole way from a suite to a table, on the fake backend.

use understudy_inference::{Embedder, FakeBackend, InferenceError, Student};
use understudy_manifest::{
    Case, EvalReport, Gate, Origin, RequiredVerdict, Scorer, SftExample, Suite, Tier, Verdict,
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
        known_failures_fixed: 0,
        max_new_tokens: 64,
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
        let evidence = Evidence { baseline: &a, candidate, others, embedder: None };
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
    let evidence = Evidence { baseline: &silent, candidate: &other, others: &[], embedder: None };
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
