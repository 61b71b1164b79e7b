use understudy_manifest::{Case, Check, Gate, Scorer, Suite, Tier};

use super::agreement;
use crate::{Evidence, assemble, computable, read_recorded, write_recorded};

fn suite(scorers: &[&str]) -> Suite {
    let case = |id: &str| Case {
        id: id.to_owned(),
        checks: vec![Check::new(Scorer::Contains, Some("4".to_owned()))],
        ..Case::default()
    };
    Suite {
        name: "sums".parse().unwrap(),
        tier: Tier::Dev,
        scorers: scorers.iter().map(|name| Scorer::parse(name).unwrap()).collect(),
        rubrics: Vec::new(),
        cases: vec![case("a"), case("b")],
    }
}

const ANSWERS: &str = r#"{"id": "a", "output": "it is 4", "scores": {"match": 1}}
{"id": "b", "output": "five", "scores": {"match": 0.5}}
{"id": "a", "attempt": 1, "output": "it is 4", "scores": {"match": 1}}
{"id": "b", "attempt": 1, "output": "five"}"#;

#[test]
fn our_scores_and_theirs_are_held_against_each_other() {
    let suite = suite(&["checks"]);
    let run = read_recorded("old", &suite, ANSWERS).unwrap();
    let found = agreement(&suite, &run, None).unwrap();
    // Of the fourth answer they said nothing.
    assert_eq!((found.same, found.of), (2, 3));
    assert_eq!(found.first, Some(("b".to_owned(), 0.0, 0.5)));
}

#[test]
fn recorded_scores_are_scores_and_nobody_who_is_asked_here_has_them() {
    let suite = suite(&["recorded:match"]);
    let gate: Gate = serde_json::from_str(r#"{"suite": "sums"}"#).unwrap();
    let run = read_recorded("old", &suite, ANSWERS).unwrap();
    assert_eq!(read_recorded("old", &suite, &write_recorded(&run)).unwrap(), run);
    computable(&suite, &gate, "old", Some(&run)).unwrap();
    let bare = r#"{"id": "a"}
{"id": "b"}"#;
    let bare = read_recorded("bare", &suite, bare).unwrap();
    for (name, found) in [("bare", Some(&bare)), ("base", None)] {
        let why = computable(&suite, &gate, name, found).unwrap_err().to_string();
        assert!(why.contains("`recorded:match`") && why.contains("`scores`"), "{why}");
    }
    let evidence =
        Evidence { baseline: &bare, candidate: &run, others: &[], embedder: None, assessor: None };
    let report = assemble(&suite, &gate, evidence, 17).unwrap();
    let [nobody, somebody] = report.subjects.as_slice() else { panic!("{report:?}") };
    assert_eq!(somebody.scores["recorded:match"].mean, 0.75);
    assert_eq!(nobody.unscored["recorded:match"], 2);
}
