use super::*;
use crate::{Harm, InUse, Status};

#[test]
fn versions_count_from_one_and_keep_what_they_are() {
    let it = Fixture::new();
    let first = it.register("one");
    it.clock.advance_ms(1000);
    let second = it.register("two");
    assert_eq!((&first.record.version, &second.record.version), (&version(1), &version(2)));
    assert_eq!(first.record.lineage.adapter(), Some(&lineage()));
    assert_eq!((first.record.owner.as_str(), first.status), ("ada", Status::Registered));
    assert!(first.record.registered_at < second.record.registered_at);
    assert_eq!(it.registry.versions(&task()).unwrap(), [first.clone(), second]);
    assert_eq!(it.registry.get(&version(1)).unwrap(), first);
    assert_eq!(it.registry.tasks().unwrap(), [task()]);
    assert!(matches!(
        it.registry.get(&version(3)),
        Err(RegistryError::UnknownVersion { version: wanted }) if wanted == version(3)
    ));
}

#[test]
fn a_version_holds_all_files_and_its_own_manifest() {
    let it = Fixture::new();
    let adapter = it.register("weights");
    let directory = it.registry.verify(&version(1)).unwrap();
    assert_eq!(directory, it.home.path().join("adapters/support-triage/1"));
    assert_eq!(fs::read_to_string(directory.join("probes/one.json")).unwrap(), "[]");
    let manifest = fs::read_to_string(directory.join(AdapterManifest::FILE)).unwrap();
    assert_eq!(serde_json::from_str::<AdapterManifest>(&manifest).unwrap(), lineage());
    let parts = [br#"{"r":16}"#.as_slice(), &weights_file("weights")];
    assert_eq!(adapter.record.generation, Digest::of_parts(parts));
    // Nothing but the version is left behind.
    assert_eq!(fs::read_dir(directory.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn the_same_content_keeps_its_version() {
    let it = Fixture::new();
    let first = it.register("same");
    it.register("other");
    assert_eq!(it.register("same"), first);
    assert_eq!(it.registry.versions(&task()).unwrap().len(), 2);
    assert_eq!(it.actions().len(), 2);
    assert_eq!(it.registry.find(&task(), first.record.generation).unwrap(), Some(first));
}

#[test]
fn a_changed_file_is_found() {
    let it = Fixture::new();
    it.register("weights");
    let weights = it.registry.directory(&version(1)).join("adapter_model.safetensors");
    fs::write(&weights, "Weights").unwrap();
    let error = it.registry.verify(&version(1)).unwrap_err();
    assert!(matches!(error, RegistryError::Damaged { .. }), "{error}");
    let judged = it.registry.start_release(it.start_of(&version(1), Target::Base), it.change());
    assert!(matches!(judged, Err(RegistryError::Damaged { .. })));
}

#[test]
fn what_is_no_adapter_is_refused_and_leaves_nothing() {
    let it = Fixture::new();
    let register = |directory: &PathBuf, lineage: &AdapterManifest| {
        it.registry.register(&task(), directory, lineage, it.change()).unwrap_err()
    };
    let directory = it.trained("w");
    let other = AdapterManifest { task: "routing".to_owned(), ..lineage() };
    assert!(matches!(register(&directory, &other), RegistryError::OtherTask { .. }));
    fs::remove_file(directory.join("adapter_model.safetensors")).unwrap();
    let error = register(&directory, &lineage());
    assert!(error.to_string().contains("no adapter_model.safetensors"), "{error}");
    #[cfg(unix)]
    {
        let directory = it.trained("linked");
        std::os::unix::fs::symlink("/etc/hosts", directory.join("notes")).unwrap();
        assert!(matches!(register(&directory, &lineage()), RegistryError::NotPlain { .. }));
    }
    assert_eq!(it.registry.versions(&task()).unwrap(), []);
    let left = fs::read_dir(it.home.path().join("adapters/support-triage"));
    assert_eq!(left.map_or(0, Iterator::count), 0);
}

#[test]
fn nobody_and_no_reason_are_refused() {
    let it = Fixture::new();
    let directory = it.trained("w");
    for (owner, reason, missing) in [("", "why", "an owner"), ("who", " \n", "a reason")] {
        let change = Change::new(owner, reason, &it.clock);
        let error = it.registry.register(&task(), &directory, &lineage(), change).unwrap_err();
        assert!(error.to_string().contains(missing), "{error}");
    }
}

#[test]
fn reports_are_added_and_the_newest_makes_the_status() {
    let it = Fixture::new();
    let version = it.judged("w", false);
    assert_eq!(it.registry.get(&version).unwrap().status, Status::Rejected);
    let generation = it.registry.get(&version).unwrap().record.generation.to_hex();
    let passing = report(&generation, true);
    let attach = || it.registry.attach_report(&version, &passing, it.change()).unwrap();
    assert_eq!(attach().status, Status::Gated);
    assert_eq!(attach().status, Status::Gated);
    let reports = it.registry.reports(&version).unwrap();
    assert_eq!(reports.len(), 2, "the second attachment of the same report changed nothing");
    assert_eq!(reports[1].report, passing);
}

#[test]
fn a_report_about_other_content_is_no_evidence() {
    let it = Fixture::new();
    let one = it.register("one").record;
    let two = it.register("two").record;
    let about_two = report(&two.generation.to_hex(), true);
    let error = it.registry.attach_report(&one.version, &about_two, it.change()).unwrap_err();
    assert!(matches!(error, RegistryError::OtherReport { .. }), "{error}");
    let mut unnamed = about_two;
    unnamed.subjects[1].generation = None;
    assert!(it.registry.attach_report(&one.version, &unnamed, it.change()).is_err());
}

#[test]
fn a_report_on_cases_that_anybody_may_tune_on_is_no_evidence() {
    let it = Fixture::new();
    let one = it.register("one").record;
    let sealed = report(&one.generation.to_hex(), true);
    let open = EvalReport { tier: Tier::Dev, ..sealed.clone() };
    let error = it.registry.attach_report(&one.version, &open, it.change()).unwrap_err();
    assert!(matches!(error, RegistryError::DevReport { .. }), "{error}");
    let gate = EvalReport { tier: Tier::Gate, ..sealed };
    assert_eq!(
        it.registry.attach_report(&one.version, &gate, it.change()).unwrap().status,
        Status::Gated
    );
}

#[test]
fn a_revoked_version_stays_revoked_and_is_never_released() {
    let it = Fixture::new();
    let version = it.judged("w", true);
    let revoke = || it.registry.revoke(&version, Harm::Safety, InUse::Refuse, it.change()).unwrap();
    assert_eq!((revoke().status, revoke().status), (Status::Revoked, Status::Revoked));
    let mut start = it.start_of(&version, Target::Teacher);
    start.forced = Some(gate_override());
    let error = it.registry.start_release(start, it.change()).unwrap_err();
    assert!(matches!(error, RegistryError::Revoked { .. }), "{error}");
}

#[test]
fn what_serves_or_is_being_released_is_not_revoked() {
    let it = Fixture::new();
    let (one, _) = it.promoted("one", Target::Teacher);
    let two = it.judged("two", true);
    it.start(&two, Target::Adapter(one.clone()));
    for version in [&one, &two] {
        let error =
            it.registry.revoke(version, Harm::Safety, InUse::Refuse, it.change()).unwrap_err();
        assert!(matches!(error, RegistryError::InUse { .. }), "{error}");
    }
}

/// The moment after the files were published and before the row was committed, as a full disk or a
/// kill would leave it.
#[test]
fn a_registration_interrupted_before_its_commit_leaves_no_version() {
    let it = Fixture::new();
    it.register("first");
    let intruder = rusqlite::Connection::open(it.home.path().join("registry.db")).unwrap();
    intruder
        .execute_batch(
            "CREATE TRIGGER disk_is_full BEFORE INSERT ON audit
             BEGIN SELECT raise(ABORT, 'disk is full'); END;",
        )
        .unwrap();
    let directory = it.trained("second");
    let failed = it.registry.register(&task(), &directory, &lineage(), it.change());
    assert!(matches!(failed, Err(RegistryError::Database(_))));
    let orphan = it.registry.directory(&version(2));
    assert!(orphan.is_dir(), "the files were published before the commit failed");
    assert_eq!(it.registry.versions(&task()).unwrap().len(), 1);
    intruder.execute_batch("DROP TRIGGER disk_is_full").unwrap();

    // Another adapter takes the number, and nothing of the interrupted one remains in it.
    fs::write(orphan.join("stray"), "x").unwrap();
    let third = it.register("third").record;
    assert_eq!(third.version, version(2));
    it.registry.verify(&third.version).unwrap();
    assert!(!orphan.join("stray").exists());
    it.registry.verify_audit(None).unwrap();
}

#[test]
fn old_leftovers_are_swept_and_running_copies_are_not() {
    let it = Fixture::new();
    it.register("w");
    let beside = it.home.path().join("adapters/support-triage");
    let (old, new) = (beside.join(".tmp-old"), beside.join(".tmp-new"));
    fs::create_dir(&old).unwrap();
    fs::create_dir(&new).unwrap();
    let yesterday = std::time::SystemTime::now() - std::time::Duration::from_hours(24);
    fs::File::open(&old).unwrap().set_modified(yesterday).unwrap();
    Fixture::open(&it.home).unwrap();
    assert!(!old.exists() && new.exists());
    it.registry.verify(&version(1)).unwrap();
}

#[test]
fn threads_that_register_at_once_get_a_version_each() {
    let it = Fixture::new();
    let other = Fixture::open(&it.home).unwrap();
    // Four contents, each to be registered over both connections.
    let directories: Vec<PathBuf> = (0..4).map(|n| it.trained(&format!("weights {n}"))).collect();
    std::thread::scope(|scope| {
        for registry in [&it.registry, &other] {
            for directory in &directories {
                let change = it.change();
                scope.spawn(move || {
                    registry.register(&task(), directory, &lineage(), change).unwrap();
                });
            }
        }
    });
    let versions = it.registry.versions(&task()).unwrap();
    let numbers: Vec<u32> = versions.iter().map(|v| v.record.version.number.get()).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    for adapter in versions {
        it.registry.verify(&adapter.record.version).unwrap();
    }
    assert_eq!(it.registry.verify_audit(None).unwrap().entries, 4);
}
