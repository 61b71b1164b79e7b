use crate::{AdapterVersion, Clock, Digest, ManualClock, RunId, StepId, TaskName, TrajectoryId};

#[test]
fn ids_of_different_kinds_do_not_parse_as_each_other() {
    let step = StepId::generate();
    assert_eq!(step.as_str().parse::<StepId>(), Ok(step.clone()));
    assert!(step.as_str().parse::<RunId>().is_err());
    assert!("step_".parse::<StepId>().is_err());
    assert!("step_a/b".parse::<StepId>().is_err());
}

#[test]
fn generated_ids_sort_by_creation_and_derived_ids_repeat() {
    let first = RunId::generate();
    let second = RunId::generate();
    assert!(first < second);
    assert_eq!(TrajectoryId::derived("session 1"), TrajectoryId::derived("session 1"));
    assert_ne!(TrajectoryId::derived("session 1"), TrajectoryId::derived("session 2"));
}

#[test]
fn adapter_versions_have_one_spelling() {
    let version: AdapterVersion = "support-triage@12".parse().unwrap();
    assert_eq!(version.to_string(), "support-triage@12");
    for wrong in ["support-triage", "support-triage@0", "support-triage@01", "s@+1", "S@1", "@1"] {
        assert!(wrong.parse::<AdapterVersion>().is_err(), "{wrong}");
    }
}

#[test]
fn task_names_are_safe_as_folder_names() {
    assert!("support-triage".parse::<TaskName>().is_ok());
    for wrong in ["", "..", "a/b", "Support", "9lives", "a b", &"x".repeat(65)] {
        assert!(wrong.parse::<TaskName>().is_err(), "{wrong}");
    }
}

#[test]
fn digests_separate_their_parts() {
    let one = Digest::of_parts([b"ab".as_slice(), b"c"]);
    let other = Digest::of_parts([b"a".as_slice(), b"bc"]);
    assert_ne!(one, other);
    assert_eq!(one.to_hex().parse::<Digest>(), Ok(one));
    assert_eq!(Digest::of(b"abc"), Digest::of_reader(b"abc".as_slice()).unwrap());
}

#[test]
fn a_manual_clock_moves_only_when_told() {
    let clock = ManualClock::default();
    let before = clock.now();
    assert_eq!(before, clock.now());
    clock.advance_ms(1500);
    assert_eq!(clock.now().as_millisecond() - before.as_millisecond(), 1500);
}
