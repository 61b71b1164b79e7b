use understudy_manifest::Scorer;
use understudy_scorer::Score;

use super::*;

/// Thirty old cases, of which two are to be escalated, and `new` new ones.
fn suite(tier: Tier, new: usize) -> Suite {
    let case = |n: usize| Case {
        id: n.to_string(),
        tags: match n {
            0 | 1 => vec!["escalate".to_owned(), "new-in-quiz".to_owned()],
            30.. => vec!["new-in-quiz-v2".to_owned()],
            _ => Vec::new(),
        },
        ..Case::default()
    };
    Suite {
        name: "quiz-v2".parse().unwrap(),
        tier,
        scorers: vec![Scorer::Exact],
        rubrics: Vec::new(),
        cases: (0..30 + new).map(case).collect(),
    }
}

/// Old cases stay wrong, new ones come right.
fn compared(suite: &Suite) -> Vec<Slice> {
    let of = |right: fn(usize) -> bool| -> Vec<Outcome> {
        (0..suite.cases.len()).map(|n| Score::from(right(n)).into()).collect()
    };
    slices(suite, &of(|n| n >= 30), &of(|_| false), 17)
}

#[test]
fn new_cases_stand_apart_however_few() {
    let suite = suite(Tier::Gate, 3);
    let told = told(&suite, compared(&suite));
    let of = |name: &str| told.iter().find(|slice| slice.name == name).unwrap();
    assert_eq!((of("cases:old").cases, of("cases:old").difference), (30, 0.0));
    assert_eq!((of("tag:new-in-quiz-v2").cases, of("tag:new-in-quiz-v2").difference), (3, 1.0));
    // What an earlier version brought is old here, and still shown.
    assert_eq!(of("tag:new-in-quiz").cases, 2);
}

#[test]
fn a_suite_without_new_cases_has_no_old_ones() {
    let suite = suite(Tier::Gate, 0);
    assert!(compared(&suite).iter().all(|slice| slice.name != "cases:old"));
}

#[test]
fn few_new_cases_of_a_sealed_suite_cannot_be_worked_out() {
    let sealed = suite(Tier::Sealed, 3);
    let all = compared(&sealed);
    assert!(all.iter().any(|slice| slice.name == "tag:escalate"), "the gate sees them");
    assert!(told(&sealed, all).is_empty());
    let many = suite(Tier::Sealed, 20);
    let names: Vec<String> =
        told(&many, compared(&many)).into_iter().map(|slice| slice.name).collect();
    assert_eq!(names, ["cases:old", "tag:new-in-quiz-v2"]);
}

#[test]
fn cases_that_fail_together_are_no_evidence_each_for_itself() {
    let mut one_cluster = suite(Tier::Gate, 10);
    let alone = told(&one_cluster, compared(&one_cluster));
    one_cluster.cases[30..].iter_mut().for_each(|case| case.cluster = Some("one".to_owned()));
    let together = told(&one_cluster, compared(&one_cluster));
    let p = |slices: &[Slice]| {
        slices.iter().find(|slice| slice.name == "tag:new-in-quiz-v2").unwrap().p_holm
    };
    assert!(p(&alone) < 0.01, "ten wins and no loss: {}", p(&alone));
    assert!((p(&together) - 1.0).abs() < 1e-12, "one win and no loss: {}", p(&together));
}
