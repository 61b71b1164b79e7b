use crate::{
    AdapterVersion, Clock, Digest, ManualClock, RunId, StepId, TaskName, TenantName, TrajectoryId,
};

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

#[test]
fn a_name_tells_whose_it_is() {
    let acme: TenantName = "acme".parse().unwrap();
    let full = |name: &str| TenantName::full(Some(&acme), name);
    assert_eq!(full("triage").as_deref(), Some("acme.triage"));
    assert_eq!(full("acme.triage").as_deref(), Some("acme.triage"));
    assert_eq!(full("triage@3").as_deref(), Some("acme.triage@3"));
    assert_eq!(full("bolt.triage"), None);
    // Its full name would look like nobody's.
    assert_eq!(full("8bit"), None);
    assert_eq!(TenantName::full(None, "triage").as_deref(), Some("triage"));
    assert_eq!(TenantName::full(None, "llama-3.1").as_deref(), Some("llama-3.1"));
    assert_eq!(TenantName::full(None, "acme.triage"), None);
    assert_eq!(TenantName::local("acme.triage@3"), "triage@3");
    let task: TaskName = "acme.triage".parse().unwrap();
    assert_eq!((task.tenant(), task.as_str()), (Some(acme), "acme.triage"));
    for wrong in [".triage", "acme.", "Acme.triage", "acme.9", "acme.b.c", "a b.c"] {
        assert!(wrong.parse::<TaskName>().is_err(), "{wrong}");
    }
    for wrong in ["", "9", "a.b", "A", &"a".repeat(33)] {
        assert!(wrong.parse::<TenantName>().is_err(), "{wrong}");
    }
}

#[test]
fn ids_of_two_tenants_never_meet() {
    let [acme, bolt] = ["acme", "bolt"].map(|name| name.parse::<TenantName>().unwrap());
    let long = format!("step_{}", "x".repeat(120));
    for text in ["step_1", "step_acme.1", "step_bolt.1", "step_a.b.c", "step_..", &long] {
        let id: StepId = text.parse().unwrap();
        let of = |tenant| id.within(tenant);
        assert_eq!(of(Some(&acme)).tenant(), Some("acme"), "{text}");
        assert_eq!(of(Some(&bolt)).tenant(), Some("bolt"), "{text}");
        assert_eq!(of(None).tenant(), None, "{text}");
        // Once is enough, and what it gives is an id.
        for id in [of(Some(&acme)), of(Some(&bolt)), of(None)] {
            let owner = [&acme, &bolt].into_iter().find(|name| id.tenant() == Some(name.as_str()));
            assert_eq!(id.within(owner), id);
            assert_eq!(id.as_str().parse::<StepId>(), Ok(id.clone()));
        }
    }
}
