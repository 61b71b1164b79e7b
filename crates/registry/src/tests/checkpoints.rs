use understudy_signature::{CheckpointKey, SignatureError};

use super::*;
use crate::{CHECKPOINT_EVERY, Tampering};

fn key() -> CheckpointKey {
    CheckpointKey::from_seed(&[3; 32])
}

/// The key of `[3; 32]` in the file a registry looks for.
const KEY_PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD
-----END PRIVATE KEY-----
";

#[test]
fn a_checkpoint_shows_a_cut_that_the_tables_agree_with() {
    let it = Fixture::new();
    it.register("one");
    let early = it.registry.checkpoint(&key()).unwrap();
    it.register("two");
    let late = it.registry.checkpoint(&key()).unwrap();
    assert_eq!(it.registry.checkpoint(&key()).unwrap(), late);
    assert_eq!(it.registry.checkpoints().unwrap(), [early.clone(), late.clone()]);
    let public = key().public();
    assert_eq!(it.registry.verify_checkpoint(&early, &public).unwrap().entries, 1);

    // Another registry that never had the second entry, as a restored backup would look.
    let cut = Fixture::new();
    cut.register("one");
    cut.registry.verify_checkpoint(&early, &public).unwrap();
    let error = cut.registry.verify_checkpoint(&late, &public).unwrap_err();
    let truncated = Tampering::Truncated { had: 2, has: 1 };
    assert!(matches!(error, RegistryError::Tampered(how) if how == truncated));
    let other = Fixture::new();
    other.register("other");
    let error = other.registry.verify_checkpoint(&early, &public).unwrap_err();
    let rewritten = Tampering::Rewritten { entries: 1 };
    assert!(matches!(error, RegistryError::Tampered(how) if how == rewritten));
}

#[test]
fn a_checkpoint_of_another_key_is_refused() {
    let it = Fixture::new();
    let note = it.registry.checkpoint(&key()).unwrap();
    let other = CheckpointKey::from_seed(&[4; 32]).public();
    let error = it.registry.verify_checkpoint(&note, &other).unwrap_err();
    assert!(matches!(error, RegistryError::Signature(SignatureError::OtherKey { .. })), "{error}");
}

#[test]
fn with_a_key_beside_it_a_registry_signs_its_chain_as_it_grows() {
    let it = Fixture::new();
    fs::write(it.home.path().join("audit.pem"), KEY_PEM).unwrap();
    let registry = Fixture::open(&it.home).unwrap();
    assert_eq!(registry.checkpoint_key().unwrap().public(), key().public());
    for n in 0..CHECKPOINT_EVERY {
        assert_eq!(registry.checkpoints().unwrap(), Vec::<String>::new());
        let (person, role) = (format!("person {n}"), crate::Role::ReleaseManager);
        let change = Change::new("person 0", "to fill the chain", &it.clock);
        registry.grant(&person, role, true, change).unwrap();
    }
    let [note] = &registry.checkpoints().unwrap()[..] else { panic!("one is due") };
    assert!(note.contains("\n64\n"), "{note}");
    registry.verify_checkpoint(note, &key().public()).unwrap();
}

fn with_key() -> (Fixture, Registry) {
    let it = Fixture::new();
    fs::write(it.home.path().join("audit.pem"), KEY_PEM).unwrap();
    let registry = Fixture::open(&it.home).unwrap();
    (it, registry)
}

fn grant(it: &Fixture, registry: &Registry, person: &str) {
    let change = Change::new("person 0", "to fill the chain", &it.clock);
    registry.grant(person, crate::Role::ReleaseManager, true, change).unwrap();
}

/// Somebody who can write the file, and does not mind triggers.
fn intrude(it: &Fixture, sql: &str) {
    let intruder = rusqlite::Connection::open(it.home.path().join("registry.db")).unwrap();
    let triggers: Vec<String> = intruder
        .prepare("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    for name in triggers {
        intruder.execute_batch(&format!("DROP TRIGGER {name}")).unwrap();
    }
    intruder.execute_batch(sql).unwrap();
}

#[test]
fn what_was_written_is_signed_within_a_minute_though_nothing_follows() {
    let (it, registry) = with_key();
    let now = || understudy_ident::Clock::now(&it.clock);
    assert_eq!(registry.checkpoint_in_time(now()).unwrap(), None, "nothing was written");
    grant(&it, &registry, "person 0");
    it.clock.advance_ms(59_000);
    assert_eq!(registry.checkpoint_in_time(now()).unwrap(), None);
    it.clock.advance_ms(1_000);
    let note = registry.checkpoint_in_time(now()).unwrap().unwrap();
    assert_eq!(registry.checkpoints().unwrap(), [note]);
    it.clock.advance_ms(3_600_000);
    assert_eq!(registry.checkpoint_in_time(now()).unwrap(), None, "nothing is new");
    // A change signs what has waited so long, where nobody looks.
    grant(&it, &registry, "person 1");
    it.clock.advance_ms(60_000);
    grant(&it, &registry, "person 2");
    let (head, signed) = registry.verify_audit_by(None, &[key().public()]).unwrap();
    let entries: Vec<u64> = signed.iter().map(|head| head.entries).collect();
    assert_eq!((head.entries, entries.as_slice()), (3, [1, 3].as_slice()));
    let id = key().public().id("understudy/registry-audit-chain");
    assert!(signed.iter().all(|head| head.key == id), "{signed:?}");
    assert_eq!(it.registry.checkpoint_in_time(now()).unwrap(), None, "without a key");
}

#[test]
fn a_replaced_key_is_noticed_by_its_id_and_a_note_under_a_stolen_id_by_its_signature() {
    let (it, registry) = with_key();
    grant(&it, &registry, "person 0");
    registry.checkpoint(&key()).unwrap();
    let public = key().public();
    registry.verify_audit_by(None, &[public]).unwrap();
    // All of it is signed anew with a key of the intruder's.
    let theirs = CheckpointKey::from_seed(&[9; 32]);
    intrude(&it, "DELETE FROM checkpoint");
    let stranger = registry.checkpoint(&theirs).unwrap();
    let how = |keys: &[_]| match registry.verify_audit_by(None, keys).unwrap_err() {
        RegistryError::Tampered(how) => how,
        other => panic!("{other}"),
    };
    let Tampering::StrangeKey { entries: 1, found, known } = how(&[public]) else { panic!() };
    let id = |key: &CheckpointKey| key.public().id("understudy/registry-audit-chain");
    assert_eq!((found, known), (id(&theirs), id(&key())));
    assert!(registry.verify_audit(None).is_err(), "by the key beside the database");
    // Two keys may have signed, one after the other.
    registry.verify_audit_by(None, &[public, theirs.public()]).unwrap();
    // Their signature under the id of ours.
    let (ours, theirs) = (registry.checkpoint(&key()).unwrap(), stranger);
    let mixed = with_id_of(&theirs, &ours);
    intrude(&it, &format!("UPDATE checkpoint SET note = '{mixed}'"));
    assert_eq!(how(&[public]), Tampering::Forged { entries: 1, key: id(&key()) });
}

/// A note with the id of the key that signed another one.
fn with_id_of(note: &str, other: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let bytes = |note: &str| STANDARD.decode(note.trim_end().rsplit_once(' ').unwrap().1).unwrap();
    let mixed = [&bytes(other)[..4], &bytes(note)[4..]].concat();
    let (head, _) = note.trim_end().rsplit_once(' ').unwrap();
    format!("{head} {}\n", STANDARD.encode(mixed))
}

#[test]
fn a_tail_that_was_cut_off_is_missed_by_the_checkpoint_that_saw_it() {
    let (it, registry) = with_key();
    for n in 0..3 {
        grant(&it, &registry, &format!("person {n}"));
    }
    registry.checkpoint(&key()).unwrap();
    // The last change is undone in the chain and in the tables alike.
    intrude(&it, "DELETE FROM audit WHERE seq = 2; DELETE FROM fact WHERE seq = 3;");
    let error = registry.verify_audit(None).unwrap_err();
    let truncated = Tampering::Truncated { had: 3, has: 2 };
    assert!(matches!(&error, RegistryError::Tampered(how) if *how == truncated), "{error}");
}
