//! Roles, approvals, freezes, overrides and idempotency keys.

use super::*;
use crate::{Missing, PauseReason, Protection, ReleaseState, Role, Status};

impl Fixture {
    fn by<'a>(&'a self, owner: &'a str) -> Change<'a> {
        Change::new(owner, "because of the test", &self.clock)
    }

    fn grant(&self, person: &str, role: Role) {
        self.registry.grant(person, role, true, self.by("grace")).unwrap();
    }

    fn need_approvals(&self, approvals: u32) {
        let rules = Protection { approvals, ..Protection::default() };
        self.registry.protect(&task(), &rules, self.by("grace")).unwrap();
    }
}

fn missing(outcome: Result<ReleaseRecord, RegistryError>) -> Vec<Missing> {
    match outcome {
        Err(RegistryError::NotAdmitted { missing, .. }) => missing,
        other => panic!("admitted: {other:?}"),
    }
}

#[test]
fn from_the_first_grant_on_the_table_decides_who_may_do_what() {
    let it = Fixture::new();
    let version = it.judged("one", true);
    assert!(it.registry.people().unwrap().is_empty());
    let lonely = it.registry.grant("ada", Role::Engineer, true, it.by("ada")).unwrap_err();
    assert!(matches!(lonely, RegistryError::NoManagerLeft), "{lonely}");
    it.grant("grace", Role::ReleaseManager);
    it.grant("ada", Role::Engineer);
    it.grant("otto", Role::OnCall);

    let start = || it.start_of(&version, Target::Teacher);
    let refused = it.registry.start_release(start(), it.by("ada")).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("ada may not start a release: that takes release_manager"), "{text}");
    assert!(it.registry.approve(&version, it.by("otto")).is_err());
    assert!(it.registry.grant("ada", Role::ReleaseManager, true, it.by("ada")).is_err());
    let release = it.registry.start_release(start(), it.by("grace")).unwrap();
    let program = it.by("canary controller").by_program();
    let loaded = release.generation.to_hex();
    it.registry.staged(&release.id, &loaded, program).unwrap();
    assert!(it.registry.promote(&release.id, 2, it.by("otto")).is_err());
    // Somebody without any role may still take it off.
    let paused = it.registry.pause(&release.id, PauseReason::Manual, it.by("nobody")).unwrap();
    assert_eq!(paused.paused_because, Some(PauseReason::Manual));
    it.registry.roll_back(&release.id, it.by("nobody")).unwrap();

    let last = it.registry.grant("grace", Role::ReleaseManager, false, it.by("grace"));
    assert!(matches!(last, Err(RegistryError::NoManagerLeft)));
    let roles: Vec<Option<String>> =
        it.registry.audit(None).unwrap().into_iter().map(|entry| entry.role).collect();
    assert!(roles.contains(&Some("controller".to_owned())), "{roles:?}");
    assert!(roles.contains(&Some("release_manager".to_owned())), "{roles:?}");
    it.registry.verify_audit(None).unwrap();
}

#[test]
fn two_people_approve_and_neither_is_the_owner() {
    let it = Fixture::new();
    let version = it.judged("one", true);
    it.need_approvals(2);
    let start = || it.registry.start_release(it.start_of(&version, Target::Teacher), it.change());
    assert_eq!(missing(start()), [Missing::Approvals { have: 0, need: 2 }]);
    let own = it.registry.approve(&version, it.by("ada")).unwrap_err();
    assert!(matches!(own, RegistryError::OwnVersion { .. }), "{own}");
    it.registry.approve(&version, it.by("grace")).unwrap();
    let again = it.registry.approve(&version, it.by("grace")).unwrap();
    assert_eq!(again.status, Status::Gated, "the same person counts once");
    assert_eq!(missing(start()), [Missing::Approvals { have: 1, need: 2 }]);
    let approved = it.registry.approve(&version, it.by("otto")).unwrap();
    assert_eq!(approved.status, Status::Approved);
    assert_eq!(it.registry.approvals(&version).unwrap().len(), 2);
    start().unwrap();
}

#[test]
fn approvals_are_of_a_report_and_do_not_outlive_it() {
    let it = Fixture::new();
    let version = it.judged("one", true);
    it.need_approvals(1);
    it.registry.approve(&version, it.by("grace")).unwrap();
    let generation = it.registry.get(&version).unwrap().record.generation.to_hex();
    let newer = EvalReport { seed: 18, ..report(&generation, true) };
    let adapter = it.registry.attach_report(&version, &newer, it.change()).unwrap();
    assert_eq!(adapter.status, Status::Gated);
    let start = it.registry.start_release(it.start_of(&version, Target::Teacher), it.change());
    assert_eq!(missing(start), [Missing::Approvals { have: 0, need: 1 }]);
    let failing = it.judged("two", false);
    let refused = it.registry.approve(&failing, it.by("grace")).unwrap_err();
    assert!(matches!(refused, RegistryError::VersionNotAllowed { .. }), "{refused}");
}

#[test]
fn a_report_about_another_champion_is_out_of_date() {
    let it = Fixture::new();
    let late = it.judged("late", true);
    let (one, first) = it.promoted("one", Target::Teacher);
    let start = || it.start_of(&late, Target::Adapter(one.clone()));
    let lacking = missing(it.registry.start_release(start(), it.change()));
    assert!(matches!(&lacking[..], [Missing::CurrentReport { .. }]), "{lacking:?}");
    // All that is missing is said at once.
    it.need_approvals(1);
    assert_eq!(missing(it.registry.start_release(start(), it.change())).len(), 2);
    // With the same champion as then it is up to date again.
    it.need_approvals(0);
    it.registry.roll_back(&first.id, it.change()).unwrap();
    let start = it.start_of(&late, Target::Teacher);
    assert_eq!(missing(it.registry.start_release(start, it.change())).len(), 1);
    let fresh = it.judged("fresh", true);
    it.start(&fresh, Target::Teacher);
}

#[test]
fn a_freeze_stops_what_exposes_and_nothing_else() {
    let it = Fixture::new();
    let (one, _) = it.promoted("one", Target::Teacher);
    let two = it.judged("two", true);
    let release = it.start(&two, Target::Adapter(one));
    let until = it.clock_in(60_000);
    let freeze = it.registry.freeze(Some(&task()), None, Some(until), it.by("grace")).unwrap();
    let frozen = |outcome: Result<ReleaseRecord, RegistryError>| {
        let error = outcome.unwrap_err();
        assert!(matches!(error, RegistryError::Frozen { .. }), "{error}");
        error.to_string()
    };
    let text = frozen(it.registry.advance(&release.id, 2, 1, it.change()));
    assert!(text.contains("freeze-1 until") && text.contains("grace: because"), "{text}");
    frozen(it.registry.promote(&release.id, 2, it.change()));
    let paused = it.registry.pause(&release.id, PauseReason::Manual, it.change()).unwrap();
    frozen(it.registry.resume(&release.id, paused.revision, it.change()));
    // Somebody answers for going on.
    let forced = gate_override();
    let change = it.change().forced_by(&forced);
    it.registry.resume(&release.id, paused.revision, change).unwrap();
    let entry = it.registry.audit(None).unwrap().pop().unwrap();
    assert_eq!(entry.forced.unwrap()["owner"], "grace");
    it.registry.abort(&release.id, it.change()).unwrap();

    it.clock.advance_ms(60_000);
    assert_eq!(it.registry.freezes(understudy_ident::Clock::now(&it.clock)).unwrap(), []);
    it.start(&two, it.stable().unwrap());
    assert!(it.registry.lift_freeze("freeze-9", it.change()).is_err());
    it.registry.lift_freeze(&freeze.id, it.change()).unwrap();
    it.registry.verify_audit(None).unwrap();
}

#[test]
fn a_freeze_of_all_tasks_lasts_until_it_is_lifted() {
    let it = Fixture::new();
    let one = it.judged("one", true);
    let freeze = it.registry.freeze(None, None, None, it.by("grace")).unwrap();
    it.clock.advance_ms(1_000_000_000);
    let start = || it.registry.start_release(it.start_of(&one, Target::Teacher), it.change());
    assert!(start().is_err());
    it.registry.lift_freeze(&freeze.id, it.by("grace")).unwrap();
    start().unwrap();
    let now = it.clock_in(0);
    let empty = it.registry.freeze(None, None, Some(now), it.by("grace")).unwrap_err();
    assert!(matches!(empty, RegistryError::EmptyFreeze), "{empty}");
}

#[test]
fn an_override_needs_a_sentence_and_the_right() {
    let it = Fixture::new();
    let failing = it.judged("one", false);
    let mut start = it.start_of(&failing, Target::Teacher);
    start.forced = Some(Override { owner: "grace".into(), reason: "urgent".into() });
    let thin = it.registry.start_release(start.clone(), it.change()).unwrap_err();
    assert!(matches!(thin, RegistryError::ThinOverride { .. }), "{thin}");
    start.forced = Some(gate_override());
    it.grant("grace", Role::ReleaseManager);
    let refused = it.registry.start_release(start.clone(), it.by("grace")).unwrap_err();
    assert!(refused.to_string().contains("that takes override"), "{refused}");
    it.grant("grace", Role::Override);
    it.registry.start_release(start, it.by("grace")).unwrap();
}

#[test]
fn where_people_decide_the_program_only_asks() {
    let it = Fixture::new();
    let one = it.judged("one", true);
    let rules = Protection { promote_by_hand: true, ..Protection::default() };
    it.registry.protect(&task(), &rules, it.change()).unwrap();
    let release = it.start(&one, Target::Teacher);
    let program = it.by("canary controller").by_program();
    let asked = it.registry.promote(&release.id, 2, program).unwrap();
    assert_eq!((asked.state, it.stable()), (ReleaseState::AwaitingApproval, None));
    assert_eq!(it.registry.promote(&release.id, 3, program).unwrap(), asked);
    let promoted = it.registry.promote(&release.id, 3, it.by("grace")).unwrap();
    assert_eq!(promoted.state, ReleaseState::Promoted);
}

#[test]
fn a_key_makes_a_command_happen_once() {
    let it = Fixture::new();
    let one = it.judged("one", true);
    let release = it.start(&one, Target::Teacher);
    let once = it.change().with_request("key-1");
    let advanced = it.registry.advance(&release.id, 2, 1, once).unwrap();
    it.registry.advance(&release.id, 3, 2, it.change()).unwrap();
    // The answer was lost; the release has moved on, and still the answer is the same.
    assert_eq!(it.registry.advance(&release.id, 2, 1, once).unwrap(), advanced);
    let reused = it.registry.advance(&release.id, 4, 3, once).unwrap_err();
    assert!(matches!(reused, RegistryError::KeyReused { .. }), "{reused}");
    it.clock.advance_ms(24 * 60 * 60 * 1000);
    it.registry.advance(&release.id, 4, 3, once).unwrap();
    // A version that has to be verified first takes one key for both.
    let adapter = it.register("other").record;
    let evidence = report(&adapter.generation.to_hex(), true);
    let keyed = it.change().with_request("key-3");
    let attach = || it.registry.attach_report(&adapter.version, &evidence, keyed).unwrap();
    assert_eq!(attach(), attach());
    // A refused command leaves its key free.
    let other = it.change().with_request("key-2");
    assert!(it.registry.advance(&release.id, 1, 4, other).is_err());
    it.registry.advance(&release.id, 5, 4, other).unwrap();
    let entry = it.registry.audit(None).unwrap().pop().unwrap();
    assert_eq!(entry.request.as_deref(), Some("key-2"));
}

#[test]
fn a_newer_candidate_supersedes_and_a_failed_staging_ends() {
    let it = Fixture::new();
    let (one, two) = (it.judged("one", true), it.judged("two", true));
    let release = it.start(&one, Target::Teacher);
    let ended = it.registry.supersede(&release.id, it.change()).unwrap();
    assert_eq!(ended.state, ReleaseState::Superseded);
    let start = it.start_of(&two, Target::Teacher);
    let staging = it.registry.start_release(start, it.change()).unwrap();
    assert_eq!((staging.state, staging.attempt), (ReleaseState::Staging, 1));
    let wrong = it.registry.staged(&staging.id, "something else", it.change()).unwrap_err();
    assert!(matches!(wrong, RegistryError::OtherContent { .. }), "{wrong}");
    assert!(it.registry.promote(&staging.id, 1, it.change()).is_err(), "it met nobody yet");
    let failed = it.registry.fail(&staging.id, it.change().by_program()).unwrap();
    assert_eq!(failed.state, ReleaseState::Failed);
    assert_eq!(it.start(&two, Target::Teacher).attempt, 2);
}

#[test]
fn undoing_returns_to_anything_that_served_and_to_nothing_else() {
    let it = Fixture::new();
    let (one, _) = it.promoted("one", Target::Teacher);
    let (two, _) = it.promoted("two", Target::Adapter(one.clone()));
    let (three, _) = it.promoted("three", Target::Adapter(two.clone()));
    let undo = |to: Option<&Target>| it.registry.undo(&task(), to, it.change());
    let never = it.judged("never", true);
    let refused = undo(Some(&Target::Adapter(never))).unwrap_err();
    assert!(refused.to_string().contains("never served"), "{refused}");
    let channel = it.registry.channel(&task()).unwrap();
    assert_eq!((channel.generation, channel.previous), (3, Some(Target::Adapter(two))));
    undo(Some(&Target::Adapter(one.clone()))).unwrap();
    assert_eq!(it.stable(), Some(Target::Adapter(one.clone())));
    undo(Some(&Target::Adapter(one))).unwrap();
    assert_eq!(it.registry.channel(&task()).unwrap().generation, 4, "nothing more happened");
    it.registry.retire(&three, it.change()).unwrap();
    let refused = undo(Some(&Target::Adapter(three))).unwrap_err();
    assert!(refused.to_string().contains("is retired"), "{refused}");
    undo(None).unwrap();
    assert_eq!(it.stable(), Some(Target::Teacher));
    assert!(matches!(undo(None), Err(RegistryError::NothingToUndo { .. })));
    it.registry.verify_audit(None).unwrap();
}

impl Fixture {
    fn clock_in(&self, milliseconds: i64) -> understudy_ident::Timestamp {
        let later = self.clock.clone();
        let now = understudy_ident::Clock::now(&later).as_millisecond();
        understudy_ident::Timestamp::from_millisecond(now + milliseconds).unwrap()
    }
}

#[test]
fn who_was_let_in_is_in_the_chain() {
    let it = Fixture::new();
    let note = |id: &str| crate::KeyNote {
        id: id.to_owned(),
        holder: "shop".to_owned(),
        tenant: Some("acme".parse().unwrap()),
        scopes: vec!["infer".to_owned()],
        expires_at: None,
    };
    it.registry.note_key_created(&note("1"), it.by("ada")).unwrap();
    it.grant("grace", Role::ReleaseManager);
    let refused = it.registry.note_key_created(&note("2"), it.by("ada")).unwrap_err();
    assert!(matches!(refused, RegistryError::NotPermitted { .. }), "{refused}");
    it.registry.note_key_created(&note("2"), it.by("grace")).unwrap();
    // Taking a key away is for everybody, and is said once.
    it.registry.note_key_revoked(&note("1"), it.by("ada")).unwrap();
    it.registry.note_key_revoked(&note("1"), it.by("ada")).unwrap();
    let entries = it.registry.audit(None).unwrap();
    let keys = entries.iter().filter(|entry| entry.action.starts_with("key."));
    let keys: Vec<_> = keys.map(|entry| (&*entry.action, &*entry.subject, &*entry.actor)).collect();
    let expected =
        [("key.create", "1", "ada"), ("key.create", "2", "grace"), ("key.revoke", "1", "ada")];
    assert_eq!(keys, expected);
    it.registry.verify_audit(None).unwrap();
}
