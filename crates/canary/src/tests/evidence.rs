use super::*;

#[test]
fn a_reward_that_is_waited_for_counts_when_its_time_has_passed() {
    let mut release = stage().release;
    release.policy["policy"]["maturation_ms"] = json!(60_000);
    let stage = stage();
    let clock = understudy_ident::ManualClock::default();
    let mut watch = crate::watch::Watch::begin(&release, &[]).unwrap();
    let at = |name: &str| Step { at: clock.now(), ..step(name, Arm::Canary, release.id.as_str()) };
    let put = |step: Step| stage.journal.append_step(step).unwrap().wait().unwrap();
    let first = at("first");
    let outcome = Outcome {
        id: OutcomeId::derived("accepted"),
        target: understudy_trajectory::Target::Response(first.response_id.clone()),
        signal: Signal::Accept,
        source: Source::Explicit,
        // A client may say what it likes about the time.
        at: "2099-01-01T00:00:00Z".parse().unwrap(),
        note: None,
        details: None,
    };
    put(first);
    stage.journal.append_outcome(outcome).unwrap().wait().unwrap();
    clock.advance_ms(60_000);
    put(at("second"));
    watch.read(&stage.journal).unwrap();
    assert_eq!(watch.summary(understudy_router::Side::Canary).rewarded, 0);
    clock.advance_ms(1);
    put(at("third"));
    watch.read(&stage.journal).unwrap();
    assert_eq!(watch.summary(understudy_router::Side::Canary).rewarded, 1);
}

#[test]
fn replies_that_another_gave_count_as_errors_of_the_canary() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    let mut sessions = 0;
    while stage.state().is_moving() && sessions < 40 {
        for (arm, fallback) in [(Arm::Canary, Some("failed".to_owned())), (Arm::Stable, None)] {
            let name = format!("{} {sessions}", arm.as_str());
            let mut step = step(&name, arm, stage.release.id.as_str());
            step.assignment.as_mut().unwrap().course = Course { fallback, ..Course::default() };
            let liked = Outcome {
                id: OutcomeId::derived(&name),
                target: understudy_trajectory::Target::Response(step.response_id.clone()),
                signal: Signal::Accept,
                source: Source::Explicit,
                at: SystemClock.now(),
                note: None,
                details: None,
            };
            stage.journal.append_step(step).unwrap().wait().unwrap();
            stage.journal.append_outcome(liked).unwrap().wait().unwrap();
        }
        controller.tick().unwrap();
        sessions += 1;
    }
    assert_eq!(stage.state(), ReleaseState::RolledBack, "though users liked every reply");
    assert!(sessions <= 5, "it took {sessions}");
    let audit = stage.registry.audit(Some(&task())).unwrap();
    let back = audit.iter().find(|entry| entry.action.contains("roll")).unwrap();
    assert!(back.reason.contains("errors"), "{}", back.reason);
}

#[test]
fn what_was_said_beside_is_no_evidence() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    for n in 0..20 {
        let mut step = step(&format!("c {n}"), Arm::Canary, stage.release.id.as_str());
        step.error = Some("down".to_owned());
        let beside = Some(StepId::derived("told"));
        step.assignment.as_mut().unwrap().course = Course { beside, ..Course::default() };
        stage.journal.append_step(step).unwrap().wait().unwrap();
    }
    controller.tick().unwrap();
    assert!(stage.state().is_moving());
}

#[test]
fn what_was_recorded_before_the_candidate_was_on_stage_is_not_read() {
    let stage = stage();
    for n in 0..20 {
        stage.session(n, false);
    }
    let before = stage.journal.watermark().unwrap();
    stage.controller().tick().unwrap();
    let audit = stage.registry.audit(Some(&task())).unwrap();
    let release = stage.now();
    let mut watch = crate::watch::Watch::begin(&release, &audit).unwrap();
    assert_eq!(watch.read_to, before);
    stage.session(20, true);
    watch.read(&stage.journal).unwrap();
    let canary = watch.summary(understudy_router::Side::Canary);
    assert_eq!((canary.units, canary.rewarded, canary.successes), (1, 1, 1));
}

#[test]
fn an_examiner_that_read_on_sees_what_one_sees_that_reads_it_all() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    let mut examiner = Examiner::default();
    for n in 0..30 {
        stage.session(n, true);
        controller.tick().unwrap();
        let release = stage.now();
        let read_on = examiner.examine(&stage.registry, &stage.journal, &release).unwrap();
        let mut other = Examiner::default();
        let afresh = other.examine(&stage.registry, &stage.journal, &release).unwrap();
        assert_eq!(read_on, afresh, "after {n}");
        assert_eq!(read_on.unwrap().canary.rewarded, n as u64 + 1);
    }
    assert!(stage.now().step > 0, "a step was left meanwhile");
    let decided = crate::decided(&stage.registry, &stage.now()).unwrap();
    assert!(decided.iter().any(|one| one.action == "release.advance" && one.evidence.is_some()));
    stage.registry.abort(&stage.release.id, Change::new("ada", "enough", &SystemClock)).unwrap();
    assert!(examiner.examine(&stage.registry, &stage.journal, &stage.now()).unwrap().is_none());
}

#[test]
fn an_outcome_that_names_a_session_waits_for_its_step_and_others_do_not_matter() {
    let stage = stage();
    stage.controller().tick().unwrap();
    let audit = stage.registry.audit(Some(&task())).unwrap();
    let release = stage.now();
    let mut watch = crate::watch::Watch::begin(&release, &audit).unwrap();
    let say = |name: &str, target| {
        let outcome = Outcome {
            id: OutcomeId::derived(name),
            target,
            signal: Signal::Accept,
            source: Source::Explicit,
            at: SystemClock.now(),
            note: None,
            details: None,
        };
        stage.journal.append_outcome(outcome).unwrap().wait().unwrap();
    };
    say("early", understudy_trajectory::Target::Session("visitor".to_owned()));
    say("astray", understudy_trajectory::Target::Response("chatcmpl-nobody".to_owned()));
    watch.read(&stage.journal).unwrap();
    let step = step("visitor", Arm::Canary, release.id.as_str());
    stage.journal.append_step(step).unwrap().wait().unwrap();
    watch.read(&stage.journal).unwrap();
    assert_eq!(watch.summary(understudy_router::Side::Canary).rewarded, 1);
}

#[test]
fn clients_that_hang_up_send_no_harmless_canary_back() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    let hang_up = |n: usize, waited_ms: f64| {
        for arm in [Arm::Canary, Arm::Stable] {
            let name = format!("{} left {n}", arm.as_str());
            let mut step = step(&name, arm, stage.release.id.as_str());
            step.error = Some("the client went away".to_owned());
            step.timing.total_ms = waited_ms;
            step.assignment.as_mut().unwrap().course = Course { left: true, ..Course::default() };
            stage.journal.append_step(step).unwrap().wait().unwrap();
        }
    };
    for n in 0..200 {
        if n % 10 == 0 {
            hang_up(n, 300.0);
        }
        stage.session(n, true);
        controller.tick().unwrap();
        if !stage.state().is_moving() {
            break;
        }
    }
    assert_eq!(stage.state(), ReleaseState::Promoted);
}

#[test]
fn a_canary_that_nobody_has_the_patience_for_goes_back_all_the_same() {
    let stage = stage();
    let mut controller = stage.controller();
    controller.tick().unwrap();
    for n in 0..10 {
        let mut step = step(&format!("hung {n}"), Arm::Canary, stage.release.id.as_str());
        step.error = Some("the client went away".to_owned());
        step.timing.total_ms = 30_000.0;
        step.assignment.as_mut().unwrap().course = Course { left: true, ..Course::default() };
        stage.journal.append_step(step).unwrap().wait().unwrap();
    }
    controller.tick().unwrap();
    assert_eq!(stage.state(), ReleaseState::RolledBack);
    let release = stage.now();
    assert!(release.changed_because.contains("slow replies"), "{}", release.changed_because);
}
