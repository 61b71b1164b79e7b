use serde_json::json;
use understudy_ident::{Digest, Timestamp, TrajectoryId};

use super::*;
use crate::{Key, Run};

fn run(part: Part, config: &str, answer: &str) -> Episode {
    let transcript = Transcript {
        source: TrajectoryId::generate(),
        attempt_of: None,
        agent: None,
        subject: None,
        at: Timestamp::UNIX_EPOCH,
        goal: "what is the total".to_owned(),
        calls: Vec::new(),
        answer: answer.to_owned(),
        heard: Vec::new(),
        reward: None,
        harmful: false,
        run: Run { part, config: Digest::of(config.as_bytes()), seed: 0 },
    };
    Episode::read(&transcript, &Catalogue::default(), &Key::from_bytes([1; 32]))
}

fn group(teacher: &str, students: &[&str]) -> Vec<Episode> {
    let mut runs = vec![run(Part::Teacher, "teacher", &json!({"total": teacher}).to_string())];
    for answer in students {
        runs.push(run(Part::Student, "student", &json!({"total": answer}).to_string()));
    }
    runs
}

fn settled(runs: &[Episode], verifier: &mut dyn Verifier) -> Settled {
    let runs: Vec<&Episode> = runs.iter().collect();
    settle(&runs, &AgreementSettings::default(), verifier).unwrap()
}

/// Finds what it was told it would.
struct Finds(&'static [&'static str]);

impl Verifier for Finds {
    fn look(&mut self, _: Claim<'_>, call: u32) -> Result<Option<String>, MemoryError> {
        Ok(self.0.get(call as usize).map(|value| (*value).to_owned()))
    }
}

#[test]
fn one_poisoned_run_of_five_does_not_matter() {
    let runs = group("42.00", &["42", "42.0", "$42", "999"]);
    let Settled::Canon(canon) = settled(&runs, &mut NoVerifier) else { panic!("unresolved") };
    assert_eq!(canon.matched(&runs[1].assertions), Some(1.0));
    assert_eq!(canon.matched(&runs[4].assertions), Some(0.0));
    assert_eq!(canon.verified, 0);
}

#[test]
fn a_split_teaches_nothing_unless_somebody_looks() {
    let runs = group("1", &["1", "2", "2", "3"]);
    assert_eq!(settled(&runs, &mut NoVerifier), Settled::Unresolved(1));
    let Settled::Canon(canon) = settled(&runs, &mut Finds(&["2", "2"])) else { panic!() };
    assert_eq!((canon.verified, canon.matched(&runs[2].assertions)), (1, Some(1.0)));
    // Looks that contradict each other, or support what nobody said, settle nothing.
    assert_eq!(settled(&runs, &mut Finds(&["2", "1"])), Settled::Unresolved(1));
    assert_eq!(settled(&runs, &mut Finds(&["7"])), Settled::Unresolved(1));
}

#[test]
fn a_teacher_alone_against_its_students_needs_proof_and_so_do_they() {
    let runs = group("1", &["2", "2", "2", "2"]);
    assert_eq!(settled(&runs, &mut NoVerifier), Settled::Unresolved(1));
    assert!(matches!(settled(&runs, &mut Finds(&["1"])), Settled::Canon(_)));
}

#[test]
fn students_of_one_configuration_do_not_confirm_each_other() {
    let mut runs = group("1", &["2", "2", "2"]);
    runs.remove(0);
    assert_eq!(settled(&runs, &mut NoVerifier), Settled::Unresolved(1));
}

#[test]
fn what_one_run_mentions_in_passing_bears_no_weight() {
    let mut runs = group("5", &["5", "5", "5"]);
    runs.push(run(Part::Student, "student", r#"{"total": 5, "remark": "odd"}"#));
    assert!(matches!(settled(&runs, &mut NoVerifier), Settled::Canon(_)));
}

#[test]
fn spellings_of_one_value_are_one() {
    let values = |answer: &str| run(Part::Student, "s", answer).assertions;
    assert_eq!(
        values(r#"{"a": "1,200.50", "d": "2026-01-02T10:00:00Z", "s": [2, 1]}"#),
        values(r#"{"s": [1, 2], "d": "2026-01-02", "a": 1200.5}"#)
    );
    assert_eq!(
        values("The total is $1,200.50, due 2026-01-02."),
        values("the total is 1200.5 and it is due 2026-01-02")
    );
    assert_ne!(values(r#"{"a": 1}"#), values(r#"{"a": 2}"#));
}
