use rusqlite::Connection;

use super::*;
use crate::{AuditHead, Harm, InUse, Tampering, verify_export};

/// A registry with a bit of everything in it.
fn lived() -> Fixture {
    let it = Fixture::new();
    let (one, _) = it.promoted("one", Target::Teacher);
    let two = it.judged("two", true);
    let release = it.start(&two, Target::Adapter(one));
    it.registry.advance(&release.id, 2, 1, it.change()).unwrap();
    it.registry.roll_back(&release.id, it.change()).unwrap();
    it.registry.revoke(&two, Harm::Safety, InUse::Refuse, it.change()).unwrap();
    it
}

/// Edits the database file like somebody who knows SQLite and has dropped the triggers.
fn tamper(it: &Fixture, sql: &str) {
    let intruder = Connection::open(it.home.path().join("registry.db")).unwrap();
    let triggers =
        "SELECT 'DROP TRIGGER ' || name || ';' FROM sqlite_schema WHERE type = 'trigger'";
    let drops: Vec<String> = intruder
        .prepare(triggers)
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    intruder.execute_batch(&drops.concat()).unwrap();
    intruder.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
    intruder.execute_batch(sql).unwrap();
    assert!(intruder.changes() > 0, "nothing was edited by {sql}");
}

fn what_is_found(it: &Fixture) -> String {
    match it.registry.verify_audit(None) {
        Err(RegistryError::Tampered(how)) => how.to_string(),
        other => panic!("not found: {other:?}"),
    }
}

#[test]
fn an_untouched_registry_verifies() {
    let it = lived();
    let head = it.registry.verify_audit(None).unwrap();
    assert_eq!(head, it.registry.audit_head().unwrap());
    assert_eq!(head.entries as usize, it.actions().len());
    let entries = it.registry.audit(None).unwrap();
    assert_eq!(entries.last().unwrap().hash, head.hash);
    assert!(entries.windows(2).all(|pair| pair[1].prev_hash == pair[0].hash));
}

#[test]
fn edits_of_the_chain_are_found() {
    for (sql, expected) in [
        ("UPDATE audit SET reason = 'a better one' WHERE seq = 3", "entry 3 is not what it was"),
        ("UPDATE audit SET actor = 'mallory' WHERE seq = 0", "entry 0 is not what it was"),
        ("UPDATE audit SET at = '2020-01-01T00:00:00Z' WHERE seq = 5", "entry 5 is not"),
        ("UPDATE audit SET detail = detail || ' ' WHERE seq = 2", "entry 2 is not"),
        ("UPDATE audit SET evidence = '{}' WHERE seq = 1", "entry 1 is not"),
        ("UPDATE audit SET hash = 'f00' WHERE seq = 4", "entry 4 is not"),
        ("UPDATE audit SET prev_hash = 'f00' WHERE seq = 4", "entry 4 is not"),
        ("UPDATE audit SET role = 'controller' WHERE seq = 4", "entry 4 is not"),
        ("UPDATE audit SET forced = '{}' WHERE seq = 4", "entry 4 is not"),
        (
            "UPDATE audit SET seq = CASE seq WHEN 3 THEN -4 ELSE -3 END WHERE seq IN (3, 4);
             UPDATE audit SET seq = -seq WHERE seq < 0",
            "entry 3 does not follow",
        ),
        ("DELETE FROM audit WHERE seq = 2", "entry 2 is missing"),
        ("DELETE FROM audit WHERE seq = 0", "entry 0 is missing"),
        ("UPDATE audit SET seq = seq + 1 WHERE seq = 14", "entry 14 is missing"),
    ] {
        let it = lived();
        tamper(&it, sql);
        let found = what_is_found(&it);
        assert!(found.contains(expected), "{sql}: {found}");
    }
}

#[test]
fn edits_of_the_tables_are_found() {
    for (sql, expected) in [
        (
            "UPDATE adapter SET record = json_set(record, '$.owner', 'mallory') WHERE number = 1",
            "the adapter record of support-triage@1",
        ),
        ("UPDATE adapter SET number = 7 WHERE number = 2", "support-triage@7"),
        (
            "UPDATE report SET record = json_set(record, '$.report.cases', 2000)
             WHERE number = 2",
            "the report record of support-triage@2",
        ),
        ("DELETE FROM report WHERE number = 1", "the report record of support-triage@1"),
        ("DELETE FROM revocation", "the revocation record of support-triage@2"),
        (
            "UPDATE release SET record = json_set(record, '$.state', 'promoted') WHERE seq = 2",
            "the release record of rel_",
        ),
        ("UPDATE release SET record = json_remove(record, '$.forced')", "the release record of"),
        (
            "INSERT INTO channel_move (task, record)
             SELECT task, json_set(record, '$.to', 'support-triage@2') FROM channel_move",
            "the channel record of support-triage",
        ),
        ("DELETE FROM channel_move", "the channel record of support-triage"),
        ("DELETE FROM fact WHERE seq = 1", "the adapter.verify record of support-triage@1"),
        (
            "UPDATE fact SET record = json_set(record, '$.owner', 'mallory') WHERE seq = 1",
            "the adapter.verify record of support-triage@1",
        ),
    ] {
        let it = lived();
        tamper(&it, sql);
        let found = what_is_found(&it);
        assert!(found.contains(expected), "{sql}: {found}");
    }
}

#[test]
fn cutting_the_end_off_is_found_by_the_tables_or_a_noted_head() {
    let it = lived();
    let noted = it.registry.audit_head().unwrap();
    tamper(&it, "DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)");
    assert!(what_is_found(&it).contains("the revocation record"));
    // Even where the intruder took back the change as well.
    tamper(&it, "DELETE FROM revocation");
    it.registry.verify_audit(None).unwrap();
    let error = it.registry.verify_audit(Some(&noted)).unwrap_err();
    assert!(error.to_string().contains("once had"), "{error}");
}

#[test]
fn a_chain_written_anew_is_found_by_a_noted_head() {
    let (it, other) = (lived(), lived());
    let noted = it.registry.audit_head().unwrap();
    it.register("later");
    it.registry.verify_audit(Some(&noted)).unwrap();
    // The other one is as long, but its releases have other ids.
    other.register("later");
    let error = other.registry.verify_audit(Some(&noted)).unwrap_err();
    assert!(error.to_string().contains("written anew"), "{error}");
    let empty = AuditHead { entries: 0, hash: "0".repeat(64) };
    other.registry.verify_audit(Some(&empty)).unwrap();
}

#[test]
fn the_database_itself_refuses_to_forget() {
    let it = lived();
    let connection = Connection::open(it.home.path().join("registry.db")).unwrap();
    for sql in [
        "DELETE FROM audit WHERE seq = 0",
        "UPDATE audit SET reason = 'x'",
        "DELETE FROM adapter",
        "UPDATE adapter SET record = '{}'",
        "UPDATE report SET record = '{}'",
        "DELETE FROM revocation",
        "DELETE FROM fact",
        "UPDATE fact SET record = '{}'",
        "UPDATE channel_move SET record = '{}'",
        "DELETE FROM release",
        "UPDATE release SET record = json_set(record, '$.state', 'ramping') WHERE seq = 2",
    ] {
        assert!(connection.execute(sql, []).is_err(), "{sql}");
    }
    it.registry.verify_audit(None).unwrap();
}

#[test]
fn an_exported_chain_verifies_without_the_registry_and_shows_every_change() {
    let it = lived();
    let lines = it.registry.export_audit(0).unwrap();
    let head = it.registry.audit_head().unwrap();
    let verified = |lines: &[String]| verify_export(&lines.join("\n"), Some(&head));
    assert_eq!(verified(&lines).unwrap(), head);
    assert_eq!(it.registry.export_audit(5).unwrap(), lines[5..]);
    let found = |lines: &[String]| match verified(lines) {
        Err(RegistryError::Tampered(how)) => how,
        other => panic!("not found: {other:?}"),
    };
    for at in 0..lines.len() {
        let seq = at as u64;
        let mut flipped = lines.clone();
        flipped[at] = lines[at].replacen("ada", "eve", 1);
        assert_eq!(found(&flipped), Tampering::Altered { seq });
        let mut deleted = lines.clone();
        deleted.remove(at);
        let last = at + 1 == lines.len();
        let had = lines.len() as u64;
        let cut = Tampering::Truncated { had, has: had - 1 };
        assert_eq!(found(&deleted), if last { cut } else { Tampering::Missing { seq } });
    }
    let mut swapped = lines.clone();
    swapped.swap(2, 3);
    assert_eq!(found(&swapped), Tampering::Missing { seq: 2 });
    assert_eq!(found(&lines[..4]), Tampering::Truncated { had: head.entries, has: 4 });
    // Swapped with their numbers, as somebody would who wants to hide it.
    let renumbered = |line: &str, from: usize, to: usize| {
        line.replace(&format!("\"seq\":{from}"), &format!("\"seq\":{to}"))
    };
    swapped[2] = renumbered(&swapped[2], 3, 2);
    swapped[3] = renumbered(&swapped[3], 2, 3);
    assert_eq!(found(&swapped), Tampering::Reordered { seq: 2 });
    let mut garbled = lines;
    garbled[1].truncate(20);
    assert_eq!(found(&garbled), Tampering::Unreadable { seq: 1, what: "JSON" });
}
