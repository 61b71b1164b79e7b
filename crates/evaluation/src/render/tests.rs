use understudy_manifest::{Case, Consultations, Gate, RequiredVerdict, Risk, Scorer, Suite, Tier};
use understudy_message::Message;

use crate::{Change, Evidence, SubjectRun, assemble, details, read_recorded, write_recorded};

use super::*;

const NASTY: &str = "</td><script>alert(1)</script>\u{1} | \"x\" & 'y'";

fn suite(tier: Tier) -> Suite {
    let case = |n: usize| Case {
        id: format!("c{n:02}"),
        prompt: vec![Message::user(format!("question {n} {NASTY}"))],
        expected: format!("answer number {n}"),
        tags: vec![if n < 15 { "early".to_owned() } else { "late".to_owned() }],
        risk: if n == 29 { Risk::HighRisk } else { Risk::Normal },
        ..Case::default()
    };
    Suite {
        name: "quiz".parse().unwrap(),
        tier,
        scorers: vec![Scorer::Exact, Scorer::Latency(100)],
        rubrics: Vec::new(),
        cases: (0..30).map(case).collect(),
    }
}

fn gate() -> Gate {
    Gate {
        suite: "quiz".parse().unwrap(),
        verdict: RequiredVerdict::Better,
        margin: 0.02,
        scorer: None,
        latency_ratio_max: None,
        latency_p95_ratio_max: None,
        tokens_ratio_max: None,
        cost_ratio_max: None,
        known_failures_fixed: 0,
        max_new_tokens: 8,
        prices: None,
    }
}

/// Right on the cases below `right`, and loud on case 3.
fn answers(subject: &str, suite: &Suite, right: usize) -> SubjectRun {
    let line = |n: usize| {
        let output = if n < right { format!("answer number {n}") } else { NASTY.to_owned() };
        let mut line = serde_json::json!({"id": format!("c{n:02}"), "output": output});
        if n == 3 && right == 20 {
            line["error"] = "timed out <late>".into();
        }
        line.to_string()
    };
    // In another order than the suite's.
    let text: Vec<String> = (0..30).rev().map(line).collect();
    read_recorded(subject, suite, &text.join("\n")).unwrap()
}

fn written(tier: Tier, format: Format) -> String {
    let suite = suite(tier);
    let (old, new) = (answers("base", &suite, 10), answers("new", &suite, 20));
    let evidence =
        Evidence { baseline: &old, candidate: &new, others: &[], embedder: None, assessor: None };
    let report = assemble(&suite, &gate(), evidence, 17).unwrap();
    let cases = details(&suite, &gate(), evidence).unwrap();
    render(format, Document { report: &report, cases: &cases })
}

const ALL: [Format; 4] = [Format::Json, Format::Junit, Format::Markdown, Format::Html];

#[test]
fn equal_evidence_gives_equal_bytes_in_every_format() {
    for format in ALL {
        assert_eq!(written(Tier::Gate, format), written(Tier::Gate, format), "{format:?}");
    }
}

#[test]
fn a_sealed_suite_shows_no_case() {
    for format in ALL {
        let sealed = written(Tier::Sealed, format);
        for secret in ["question 7", "answer number 7", "c07", "script"] {
            assert!(!sealed.contains(secret), "{format:?} shows {secret}");
        }
        // Slices of fifteen cases would tell too much as well, and one of a single case all of it.
        assert!(!sealed.contains("tag:early"), "{format:?}");
        assert!(!sealed.contains("of 1 cases"), "{format:?}");
        assert!(written(Tier::Dev, format).contains("c07") || format == Format::Markdown);
    }
}

#[test]
fn a_single_high_risk_case_of_a_sealed_suite_decides_unseen() {
    let report = |tier| {
        let value: serde_json::Value = serde_json::from_str(&written(tier, Format::Json)).unwrap();
        serde_json::from_value::<EvalReport>(value["report"].clone()).unwrap()
    };
    let is_there = |report: &EvalReport| report.slices.iter().any(|s| s.name == "risk:high_risk");
    let (open, sealed) = (report(Tier::Gate), report(Tier::Sealed));
    assert!(is_there(&open) && !is_there(&sealed));
    let decided = |report: &EvalReport| {
        report.decision.checks.iter().any(|check| check.name == "risk:high_risk")
    };
    assert!(decided(&open) && decided(&sealed));
}

#[test]
fn json_is_the_evidence() {
    let value: serde_json::Value = serde_json::from_str(&written(Tier::Dev, Format::Json)).unwrap();
    let report: EvalReport = serde_json::from_value(value["report"].clone()).unwrap();
    let primary = &report.comparisons[0];
    assert_eq!((primary.wins, primary.losses, primary.ties), (10, 1, 19));
    assert_eq!(primary.regressions.map(|t| (t.met, t.of)), Some((1, 10)));
    assert_eq!(primary.fixes.map(|t| (t.met, t.of)), Some((10, 20)));
    assert!(primary.minimum_detectable > 0.0);
    let names: Vec<&str> = report.slices.iter().map(|slice| slice.name.as_str()).collect();
    assert_eq!(names, ["risk:high_risk", "tag:early", "tag:late"]);
    // Nobody measured a latency, which is no latency of 0.
    assert_eq!(report.comparisons[1].unscored, 30);
    assert_eq!(report.subjects[0].unscored["latency:100"], 30);
    let cases = value["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 30);
    assert_eq!((&cases[3]["change"], &cases[12]["change"]), (&"loss".into(), &"win".into()));
    assert_eq!(cases[3]["candidate"]["error"], "timed out <late>");
}

#[test]
fn junit_counts_what_it_lists_and_is_well_formed() {
    let xml = written(Tier::Gate, Format::Junit);
    let count = |what: &str| xml.matches(what).count();
    assert!(
        xml.contains("<testsuite name=\"quiz.cases\" tests=\"30\" failures=\"0\" errors=\"1\"")
    );
    assert_eq!((count("<error "), count("type=\"regression\"")), (1, 0));
    assert!(xml.contains("message=\"timed out &lt;late&gt;\""));
    assert_eq!(
        count("<testcase "),
        count("</testcase>") + count("\"/>") - count("<error ") - count("<failure type=\"gate\"")
    );
    assert!(!xml.contains('\u{1}') && !xml.contains("<script>"));
}

#[test]
fn html_stands_alone_and_shows_what_differs() {
    let page = written(Tier::Gate, Format::Html);
    for outside in ["http", "src=", "href=", "<script", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("&lt;script&gt;"));
    assert!(page.contains("<del>answer</del>"), "a word that is missing is marked");
    let details = |class: &str| page.matches(&format!("<details class=\"{class}\">")).count();
    assert_eq!((details("loss"), details("win"), details("tie")), (1, 10, 19));
}

#[test]
fn markdown_tells_the_verdict_the_power_and_the_lost_cases() {
    let text = written(Tier::Gate, Format::Markdown);
    assert!(text.starts_with("## quiz: gate "), "{text}");
    assert!(text.contains("| detectable |") && text.contains("| c03 | <code>answer number 3"));
    assert!(!text.contains("<script>"));
    for line in text.lines().filter(|line| line.starts_with('|')) {
        assert!(line.ends_with('|'), "{line}");
    }
}

#[test]
fn too_many_decisions_on_one_version_are_told() {
    let suite = suite(Tier::Gate);
    let (old, new) = (answers("base", &suite, 10), answers("new", &suite, 20));
    let evidence =
        Evidence { baseline: &old, candidate: &new, others: &[], embedder: None, assessor: None };
    let mut report = assemble(&suite, &gate(), evidence, 17).unwrap();
    for (times, warned) in [(Consultations::MANY, false), (Consultations::MANY + 1, true)] {
        report.consultation = Some(times);
        for format in [Format::Markdown, Format::Html] {
            let text = render(format, Document { report: &report, cases: &[] });
            assert_eq!(text.contains("fresh cases"), warned, "{format:?}");
        }
        assert_eq!(crate::table(&report).contains("fresh cases"), warned);
    }
}

#[test]
fn recorded_answers_cover_the_suite_once() {
    let suite = suite(Tier::Dev);
    let run = answers("base", &suite, 10);
    let text = write_recorded(&run);
    assert_eq!(read_recorded("base", &suite, &text).unwrap(), run);
    let without_first = text.lines().skip(1).collect::<Vec<_>>().join("\n");
    for (text, word) in [
        (without_first, "has no answer"),
        (format!("{text}{text}"), "two answers"),
        (format!("{text}{{\"id\":\"x\"}}"), "not in the suite"),
        (format!("{text}{{\"ids\":\"x\"}}"), "line 31"),
    ] {
        let error = read_recorded("base", &suite, &text).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_change_needs_both_scores() {
    let suite = Suite { scorers: vec![Scorer::Latency(100)], ..suite(Tier::Dev) };
    let (old, new) = (answers("base", &suite, 10), answers("new", &suite, 10));
    let evidence =
        Evidence { baseline: &old, candidate: &new, others: &[], embedder: None, assessor: None };
    let cases = details(&suite, &gate(), evidence).unwrap();
    assert!(cases.iter().all(|case| case.change == Change::Unscored));
    let report = assemble(&suite, &gate(), evidence, 17).unwrap();
    assert!(!report.decision.passed, "nothing was scored, so nothing is shown");
    let xml = render(Format::Junit, Document { report: &report, cases: &cases });
    assert!(xml.contains("skipped=\"30\"") && xml.contains("no latency was measured"));
}

#[test]
fn every_table_tells_what_broke_the_slices_and_what_is_missing() {
    let suite = suite(Tier::Gate);
    let (old, new) = (answers("base", &suite, 10), answers("new", &suite, 20));
    let evidence =
        Evidence { baseline: &old, candidate: &new, others: &[], embedder: None, assessor: None };
    let mut report = assemble(&suite, &gate(), evidence, 17).unwrap();
    report.notes.push("no trivial baseline: none is known".to_owned());
    let broken = "broken 1 of the 10 that base had right, fixed 10 of the 20 that base had wrong";
    let document = Document { report: &report, cases: &[] };
    for text in [crate::table(&report), render(Format::Html, document)] {
        for part in [broken, "mid-p p = ", "tag:early", "p (Holm)", "no trivial baseline"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    assert!(render(Format::Markdown, document).contains("no trivial baseline"));
}
