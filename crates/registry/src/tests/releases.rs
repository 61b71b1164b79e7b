use super::*;
use crate::{Harm, InUse, Missing, PauseReason, ReleaseState, Status};

#[test]
fn a_release_ramps_and_promotes() {
    let it = Fixture::new();
    let one = it.judged("one", true);
    assert_eq!(it.stable(), None);
    let release = it.start(&one, Target::Teacher);
    assert_eq!((release.state, release.step, release.revision), (ReleaseState::Ramping, 0, 2));
    let newest = it.registry.reports(&one).unwrap().pop().unwrap();
    assert_eq!(release.report, Some(newest.digest));
    assert_eq!(release.generation, it.registry.get(&one).unwrap().record.generation);
    assert_eq!(it.stable(), None, "a candidate on the ramp is not stable");

    let judgement = json!({"verdict": "advance"});
    let change = it.change().with_evidence(&judgement);
    let release = it.registry.advance(&release.id, 2, 2, change).unwrap();
    assert_eq!((release.step, release.revision), (2, 3));
    assert_eq!(it.registry.open_release(&task()).unwrap(), Some(release.clone()));
    let release = it.registry.promote(&release.id, 3, it.change()).unwrap();
    assert_eq!(release.state, ReleaseState::Promoted);
    assert_eq!(it.stable(), Some(Target::Adapter(one.clone())));
    assert_eq!(it.registry.open_release(&task()).unwrap(), None);

    let history = it.registry.history(&task()).unwrap();
    assert_eq!((&history[0].from, &history[0].to), (&Target::Teacher, &Target::Adapter(one)));
    assert_eq!(history[0].release, release.id);
    let audit = it.registry.audit(Some(&task())).unwrap();
    assert_eq!(audit[5].evidence, Some(judgement));
    assert_eq!(
        it.actions(),
        [
            "adapter.register",
            "adapter.verify",
            "adapter.report",
            "release.start",
            "release.stage",
            "release.advance",
            "channel.move",
            "release.promote"
        ]
    );
}

#[test]
fn a_candidate_without_a_passing_report_needs_an_override_that_is_never_forgotten() {
    let it = Fixture::new();
    let poisoned = it.judged("poisoned", false);
    let untested = it.register("untested").record.version;
    for (version, status) in [(&poisoned, Status::Rejected), (&untested, Status::Registered)] {
        let start = it.start_of(version, Target::Teacher);
        let error = it.registry.start_release(start, it.change()).unwrap_err();
        let RegistryError::NotAdmitted { missing, .. } = error else { panic!("{error}") };
        assert_eq!(missing, [Missing::Report(status)]);
    }
    let mut start = it.start_of(&poisoned, Target::Teacher);
    start.forced = Some(Override { reason: " ".to_owned(), ..gate_override() });
    assert!(it.registry.start_release(start.clone(), it.change()).is_err());
    start.forced = Some(gate_override());
    let release = it.registry.start_release(start, it.change()).unwrap();
    assert_eq!((release.report, release.forced.clone()), (None, Some(gate_override())));

    let release = it.registry.roll_back(&release.id, it.change()).unwrap();
    assert_eq!(release.forced, Some(gate_override()));
    let entry = it.registry.audit(None).unwrap().into_iter().find(|e| e.action.contains("forced"));
    assert_eq!(entry.unwrap().detail["forced"]["owner"], "grace");
}

#[test]
fn a_rollback_on_the_ramp_leaves_the_channel_where_it_is() {
    let it = Fixture::new();
    let (one, _) = it.promoted("one", Target::Teacher);
    let two = it.judged("two", true);
    let release = it.start(&two, Target::Adapter(one.clone()));
    let release = it.registry.roll_back(&release.id, it.change()).unwrap();
    assert_eq!(release.state, ReleaseState::RolledBack);
    assert_eq!(release.returned_to, Some(Target::Adapter(one.clone())));
    assert_eq!(it.stable(), Some(Target::Adapter(one)));
    assert_eq!(it.registry.history(&task()).unwrap().len(), 1);
}

#[test]
fn rollbacks_after_promotion_return_step_by_step_to_what_served() {
    let it = Fixture::new();
    let (one, first) = it.promoted("one", Target::Teacher);
    let (_, second) = it.promoted("two", Target::Adapter(one.clone()));
    let roll_back = |release: &ReleaseRecord| it.registry.roll_back(&release.id, it.change());
    let meant = || it.registry.release_to_roll_back(&task()).unwrap().map(|release| release.id);

    let error = roll_back(&first).unwrap_err();
    assert!(matches!(error, RegistryError::NotServing { .. }), "{error}");
    assert_eq!(meant(), Some(second.id.clone()));
    roll_back(&second).unwrap();
    assert_eq!(it.stable(), Some(Target::Adapter(one)));
    assert_eq!(meant(), Some(first.id.clone()));
    roll_back(&first).unwrap();
    assert_eq!(it.stable(), Some(Target::Teacher));
    assert_eq!(meant(), None);
    let moves: Vec<String> = it
        .registry
        .history(&task())
        .unwrap()
        .iter()
        .map(|made| format!("{} > {}", made.from, made.to))
        .collect();
    assert_eq!(
        moves,
        [
            "teacher > support-triage@1",
            "support-triage@1 > support-triage@2",
            "support-triage@2 > support-triage@1",
            "support-triage@1 > teacher"
        ]
    );
}

#[test]
fn a_rollback_does_not_return_to_what_was_revoked() {
    let it = Fixture::new();
    let (one, _) = it.promoted("one", Target::Base);
    let (_, second) = it.promoted("two", Target::Adapter(one.clone()));
    it.registry.revoke(&one, Harm::Safety, InUse::Refuse, it.change()).unwrap();
    let release = it.registry.roll_back(&second.id, it.change()).unwrap();
    assert_eq!(release.returned_to, Some(Target::Base));
    assert_eq!(it.stable(), Some(Target::Base));
}

#[test]
fn a_rollback_does_not_return_to_what_may_serve_no_more() {
    let it = Fixture::new();
    let (good, _) = it.promoted("good", Target::Base);
    let tainted =
        it.registry.register(&task(), &it.trained("tainted"), &of_data(b"theirs"), it.change());
    let tainted = tainted.unwrap().record;
    let passing = report(&tainted.generation.to_hex(), true);
    it.registry.attach_report(&tainted.version, &passing, it.change()).unwrap();
    let release = it.start(&tainted.version, Target::Adapter(good.clone()));
    it.registry.promote(&release.id, 2, it.change()).unwrap();
    let (gone, _) = it.promoted("gone", Target::Adapter(tainted.version.clone()));
    let (_, last) = it.promoted("last", Target::Adapter(gone.clone()));
    let dataset = of_data(b"theirs").dataset.version;
    it.registry.withdraw_data(&dataset, it.change()).unwrap();
    fs::remove_dir_all(it.registry.directory(&gone)).unwrap();
    for (version, why) in [(&tainted.version, "was withdrawn"), (&gone, "are gone")] {
        let said = it.registry.unservable(version).unwrap().unwrap();
        assert!(said.contains(why), "{said}");
        let to = Target::Adapter(version.clone());
        let error = it.registry.undo(&task(), Some(&to), it.change()).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
    assert_eq!(it.registry.unservable(&good).unwrap(), None);
    let release = it.registry.roll_back(&last.id, it.change()).unwrap();
    assert_eq!(release.returned_to, Some(Target::Adapter(good.clone())));
    assert_eq!(it.stable(), Some(Target::Adapter(good)));
}

/// The lineage of something trained on other rows.
fn of_data(rows: &[u8]) -> AdapterManifest {
    let mut manifest = lineage();
    manifest.dataset.version = format!("support-triage@{}", Digest::of(rows)).parse().unwrap();
    manifest
}

#[test]
fn rolling_back_the_baseline_aborts_the_release_compared_with_it() {
    let it = Fixture::new();
    let (one, first) = it.promoted("one", Target::Teacher);
    let two = it.judged("two", true);
    let open = it.start(&two, Target::Adapter(one));
    it.registry.roll_back(&first.id, it.change()).unwrap();
    let open = it.registry.release(&open.id).unwrap();
    assert_eq!(open.state, ReleaseState::Aborted);
    assert!(open.changed_because.contains("its baseline support-triage@1"), "{open:?}");
    assert_eq!(it.stable(), Some(Target::Teacher));
    it.registry.verify_audit(None).unwrap();
}

#[test]
fn a_task_has_one_open_release() {
    let it = Fixture::new();
    let (one, two) = (it.judged("one", true), it.judged("two", true));
    let release = it.start(&one, Target::Teacher);
    let start = it.start_of(&two, Target::Teacher);
    let error = it.registry.start_release(start.clone(), it.change()).unwrap_err();
    assert!(matches!(error, RegistryError::ReleaseOpen { .. }), "{error}");
    it.registry.pause(&release.id, PauseReason::Manual, it.change()).unwrap();
    assert!(it.registry.start_release(start.clone(), it.change()).is_err());
    it.registry.abort(&release.id, it.change()).unwrap();
    assert!(it.registry.start_release(start, it.change()).is_ok());
    assert_eq!(it.registry.releases(&task()).unwrap().len(), 2);
}

#[test]
fn the_rollback_target_is_what_serves_and_was_loaded() {
    let it = Fixture::new();
    let one = it.judged("one", true);
    let refused = |start| it.registry.start_release(start, it.change()).unwrap_err();
    // Nothing of ours has served yet.
    let other = it.judged("other", true);
    let error = refused(it.start_of(&one, Target::Adapter(other)));
    assert!(matches!(error, RegistryError::OtherRollbackTarget { .. }), "{error}");

    let release = it.start(&one, Target::Teacher);
    it.registry.promote(&release.id, 2, it.change()).unwrap();
    let error = refused(it.start_of(&one, Target::Adapter(one.clone())));
    assert!(matches!(error, RegistryError::AlreadyServing { .. }), "{error}");
    let two = it.judged("two", true);
    let error = refused(it.start_of(&two, Target::Teacher));
    assert!(error.to_string().contains("support-triage@1, which serves now"), "{error}");

    let mut start = it.start_of(&two, Target::Adapter(one));
    start.rollback.loaded_generation = Some("something else".to_owned());
    let error = refused(start.clone());
    assert!(matches!(error, RegistryError::RollbackTargetNotLoaded { .. }), "{error}");
    start.rollback.loaded_generation = None;
    assert!(matches!(refused(start), RegistryError::RollbackTargetNotLoaded { .. }));
}

#[test]
fn a_decision_about_an_older_revision_is_refused_unless_it_makes_things_safer() {
    let it = Fixture::new();
    let one = it.judged("one", true);
    let release = it.start(&one, Target::Teacher);
    it.registry.advance(&release.id, 2, 1, it.change()).unwrap();
    let stale = it.registry.promote(&release.id, 2, it.change()).unwrap_err();
    assert!(matches!(stale, RegistryError::Stale { expected: 2, found: 3, .. }), "{stale}");
    assert!(it.registry.advance(&release.id, 2, 2, it.change()).is_err());
    assert_eq!(it.stable(), None);
    it.registry.pause(&release.id, PauseReason::Manual, it.change()).unwrap();
    it.registry.roll_back(&release.id, it.change()).unwrap();
}

#[test]
fn repeating_a_command_changes_nothing() {
    let it = Fixture::new();
    let one = it.judged("one", true);
    let release = it.start(&one, Target::Teacher);
    let again = it.start_of(&one, Target::Teacher);
    assert_eq!(it.registry.start_release(again, it.change()).unwrap(), release);
    let twice = |run: &dyn Fn() -> Result<ReleaseRecord, RegistryError>| {
        let first = run().unwrap();
        let entries = it.actions().len();
        it.clock.advance_ms(10);
        assert_eq!(run().unwrap(), first);
        assert_eq!(it.actions().len(), entries);
    };
    let id = &release.id;
    twice(&|| it.registry.advance(id, 2, 1, it.change()));
    twice(&|| it.registry.pause(id, PauseReason::Manual, it.change()));
    twice(&|| it.registry.resume(id, 4, it.change()));
    twice(&|| it.registry.promote(id, 5, it.change()));
    twice(&|| it.registry.roll_back(id, it.change()));
    let error = it.registry.promote(id, 7, it.change()).unwrap_err();
    assert!(error.to_string().contains("it is rolled_back"), "{error}");
}

#[test]
fn a_promotion_is_one_commit() {
    let it = Fixture::new();
    let one = it.judged("one", true);
    let release = it.start(&one, Target::Teacher);
    let before = it.registry.audit_head().unwrap();
    let intruder = rusqlite::Connection::open(it.home.path().join("registry.db")).unwrap();
    // Fails after the channel's move and its audit entry were written.
    intruder
        .execute_batch(
            "CREATE TRIGGER interrupt BEFORE UPDATE ON release
             BEGIN SELECT raise(ABORT, 'interrupted'); END;",
        )
        .unwrap();
    assert!(it.registry.promote(&release.id, 2, it.change()).is_err());
    assert_eq!(it.stable(), None);
    assert_eq!(it.registry.release(&release.id).unwrap(), release);
    assert_eq!(it.registry.verify_audit(None).unwrap(), before);
    intruder.execute_batch("DROP TRIGGER interrupt").unwrap();
    it.registry.promote(&release.id, 2, it.change()).unwrap();
    assert_eq!(it.stable(), Some(Target::Adapter(one)));
}

#[test]
fn everything_is_there_after_opening_again() {
    let it = Fixture::new();
    let (one, promoted) = it.promoted("one", Target::Teacher);
    let again = Fixture::open(&it.home).unwrap();
    assert_eq!(again.stable(&task()).unwrap(), Some(Target::Adapter(one)));
    assert_eq!(again.release(&promoted.id).unwrap(), promoted);
    assert_eq!(again.verify_audit(None).unwrap(), it.registry.audit_head().unwrap());
    let other: TaskName = "routing".parse().unwrap();
    assert_eq!(again.audit(Some(&other)).unwrap(), []);
    let unknown = understudy_ident::ReleaseId::derived("x");
    assert!(matches!(again.release(&unknown), Err(RegistryError::UnknownRelease { .. })));
}
