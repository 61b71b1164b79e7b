use std::sync::atomic::{AtomicUsize, Ordering};

use understudy_registry::Protection;

use super::*;

#[test]
fn a_good_canary_ramps_and_is_promoted_on_evidence() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    let canary = stage.route().canary.unwrap();
    assert!((canary.share.get() - 0.1).abs() < 1e-9, "the first step's share");
    let mut shares = vec![canary.share.get()];
    for n in 0..200 {
        stage.session(n, true);
        controller.tick().unwrap();
        if let Some(canary) = stage.route().canary {
            shares.push(canary.share.get());
        }
        if !stage.state().is_moving() {
            break;
        }
    }
    assert_eq!(stage.state(), ReleaseState::Promoted);
    assert!(shares.contains(&0.5), "it went through the second step");
    let route = stage.route();
    assert!(route.canary.is_none());
    assert_eq!(stage.registry.stable(&task()).unwrap(), Some("triage@1".parse().unwrap()));
    assert!(matches!(route.stable, understudy_router::Target::Adapter { .. }));
    assert!(route.tap.is_some(), "the teacher keeps its share");
    let audit = stage.registry.audit(Some(&task())).unwrap();
    let promoted = audit.iter().find(|entry| entry.action == "release.promote").unwrap();
    assert!(promoted.evidence.as_ref().unwrap()["journal_seq"].as_u64().unwrap() > 0);
    stage.registry.verify_audit(None).unwrap();
}

#[test]
fn a_bad_canary_is_rolled_back_and_the_route_follows_in_the_same_tick() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    let mut sessions = 0;
    while stage.state().is_moving() && sessions < 60 {
        stage.session(sessions, false);
        controller.tick().unwrap();
        sessions += 1;
    }
    assert_eq!(stage.state(), ReleaseState::RolledBack);
    assert!(sessions <= 15, "it took {sessions} sessions per slice");
    assert_eq!(stage.route(), Route::to(understudy_router::Target::Teacher));
}

#[test]
fn a_restart_at_any_moment_comes_to_the_same_verdict() {
    for good in [true, false] {
        let stage = stage();
        let mut sessions = 0;
        while stage.state().is_moving() && sessions < 200 {
            stage.session(sessions, good);
            // A new controller knows nothing but the registry and the journal.
            stage.controller().tick().unwrap();
            sessions += 1;
        }
        let expected = if good { ReleaseState::Promoted } else { ReleaseState::RolledBack };
        assert_eq!(stage.state(), expected, "after {sessions} sessions");
    }
}

#[test]
fn what_an_operator_does_takes_effect_at_the_next_tick() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    assert!(stage.route().canary.is_some());
    let change = Change::new("ada", "looks odd", &SystemClock);
    stage.registry.roll_back(&stage.release.id, change).unwrap();
    controller.tick().unwrap();
    assert_eq!(stage.route(), Route::to(understudy_router::Target::Teacher));
}

#[test]
fn a_candidate_whose_files_were_changed_never_meets_a_user() {
    let stage = stage();
    let directory = stage.registry.directory(&"triage@1".parse().unwrap());
    let weights = directory.join("adapter_model.safetensors");
    let mut permissions = std::fs::metadata(&weights).unwrap().permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "the test plays the vandal")]
    permissions.set_readonly(false);
    std::fs::set_permissions(&weights, permissions).unwrap();
    std::fs::write(&weights, "other weights").unwrap();
    stage.controller().tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::Failed);
    assert!(stage.route().canary.is_none());
}

#[test]
fn in_a_freeze_the_ramp_waits_and_a_bad_canary_still_goes() {
    let stage = admitted();
    let change = Change::new("ada", "the holidays", &SystemClock);
    let freeze = stage.registry.freeze(None, None, None, change).unwrap();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::Staging);
    assert!(stage.route().canary.is_none());
    stage.registry.lift_freeze(&freeze.id, change).unwrap();
    controller.tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::Ramping);
    stage.registry.freeze(None, None, None, change).unwrap();
    for n in 0..40 {
        stage.session(n, true);
        controller.tick().unwrap();
    }
    let release = stage.now();
    assert_eq!((release.state, release.step), (ReleaseState::Ramping, 0));
    for n in 40..200 {
        stage.session(n, false);
        controller.tick().unwrap();
    }
    assert_eq!(stage.state(), ReleaseState::RolledBack);
}

#[test]
fn where_people_decide_the_controller_asks_and_takes_the_canary_off_the_route() {
    let stage = stage();
    let change = Change::new("ada", "we read the evidence first", &SystemClock);
    let rules = Protection { promote_by_hand: true, ..Protection::default() };
    stage.registry.protect(&task(), &rules, change).unwrap();
    let mut controller = stage.controller();
    for n in 0..200 {
        stage.session(n, true);
        controller.tick().unwrap();
    }
    assert_eq!(stage.state(), ReleaseState::AwaitingApproval);
    assert!(stage.route().canary.is_none());
    let release = stage.now();
    stage.registry.promote(&release.id, release.revision, change).unwrap();
    controller.tick().unwrap();
    assert!(matches!(stage.route().stable, understudy_router::Target::Adapter { .. }));
}

#[test]
fn a_candidate_that_half_of_the_replicas_leave_alone_goes_back_at_once() {
    let out = Arc::new(AtomicUsize::new(0));
    let fake = FakeBackend::new("tiny", |_, _| Ok("an answer".to_owned()));
    let student: Arc<dyn Student> = Arc::new(fake.on_replicas(Arc::clone(&out), 4));
    let stage = Stage { student, ..stage() };
    let mut controller = stage.controller();
    controller.tick().unwrap();
    out.store(1, Ordering::Relaxed);
    controller.tick().unwrap();
    assert!(stage.state().is_moving(), "one replica of four may be ill by itself");
    out.store(2, Ordering::Relaxed);
    let notes = controller.tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::RolledBack);
    assert!(notes.iter().any(|note| note.text.contains("2 of 4 replicas")), "{notes:?}");
    assert!(stage.route().canary.is_none(), "in the same tick");
}
