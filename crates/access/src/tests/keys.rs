//! Making, presenting and ending keys.

use std::{net::SocketAddr, sync::LazyLock};

use proptest::prelude::*;
use understudy_ident::Clock as _;

use super::{Desk, new_key};
use crate::{
    AccessError, Denied, Key, KeyId, Keyring, Limits, NewKey, Pepper, Role, Scope, Scopes, State,
    may_listen,
};

#[test]
fn a_key_opens_what_it_was_made_for() {
    let desk = Desk::new();
    let ring = desk.open();
    let tenant = Some("acme".parse().unwrap());
    let limits = Limits { requests_per_minute: Some(7), ..Limits::default() };
    let (key, record) = ring.create(NewKey { tenant, limits, ..new_key() }).unwrap();
    let who = ring.check(&key.expose()).unwrap();
    assert_eq!((&who.key, who.owner.as_str()), (key.id(), "ada"));
    assert_eq!(who.tenant.unwrap().as_str(), "acme");
    assert_eq!((who.limits, &who.scopes), (limits, &record.scopes));
    assert_eq!(ring.list(), [record]);
}

#[test]
fn neither_the_database_nor_any_text_shows_a_secret() {
    let desk = Desk::new();
    let ring = desk.open();
    let (key, record) = ring.create(new_key()).unwrap();
    let whole = key.expose();
    let secret = whole.rsplit('_').next().unwrap();
    assert_eq!((whole.len(), secret.len()), (80, 64));
    drop(ring);
    let raw: Vec<u8> = crate::key::from_hex(secret).unwrap();
    for name in ["access.db", "access.db-wal", "access.pepper"] {
        let bytes = std::fs::read(desk.path(name)).unwrap_or_default();
        let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|part| part == needle);
        assert!(!holds(secret.as_bytes()) && !holds(&raw), "{name}");
    }
    let shown = format!("{key:?} {record:?} {:?}", desk.open());
    assert!(!shown.contains(secret) && shown.contains(key.id().as_str()), "{shown}");
}

#[test]
fn keys_hold_across_processes_and_so_does_their_end() {
    let desk = Desk::new();
    let server = desk.open();
    assert!(!server.is_locked());
    let (key, record) = desk.open().create(new_key()).unwrap();
    assert_eq!(server.check(&key.expose()).unwrap_err(), Denied::Unknown);
    server.refresh().unwrap();
    assert!(server.is_locked());
    server.check(&key.expose()).unwrap();
    desk.clock.advance_ms(5);
    let ended = desk.open().revoke(&record.id, "grace", "left the team").unwrap();
    assert_eq!(ended.state(desk.clock.now()), State::Revoked);
    server.refresh().unwrap();
    assert_eq!(server.check(&key.expose()).unwrap_err(), Denied::Revoked);
    // A second revocation says how it first ended, and nothing opens the door again.
    let again = server.revoke(&record.id, "mallory", "another story").unwrap();
    assert_eq!(again.revoked, ended.revoked);
    assert!(server.is_locked() && server.active() == 0);
}

#[test]
fn an_expired_key_opens_nothing_from_that_instant_on() {
    let desk = Desk::new();
    let ring = desk.open();
    let now = desk.clock.now().as_millisecond();
    let end = understudy_ident::Timestamp::from_millisecond(now + 1000).unwrap();
    let (key, _) = ring.create(NewKey { expires_at: Some(end), ..new_key() }).unwrap();
    desk.clock.advance_ms(999);
    ring.check(&key.expose()).unwrap();
    desk.clock.advance_ms(1);
    assert_eq!(ring.check(&key.expose()).unwrap_err(), Denied::Expired);
    // Only who has the key learns that it has expired.
    let other = Key::parse(&with_secret(&key, &"0".repeat(64))).unwrap();
    assert_eq!(ring.check(&other.expose()).unwrap_err(), Denied::Unknown);
    let refused = ring.create(NewKey { expires_at: Some(end), ..new_key() }).unwrap_err();
    assert!(matches!(refused, AccessError::Expired { .. }), "{refused}");
}

#[test]
fn without_a_look_at_the_database_nobody_is_let_in_for_long() {
    let desk = Desk::new();
    let ring = desk.open();
    let (key, _) = ring.create(new_key()).unwrap();
    desk.clock.advance_ms(10_001);
    assert_eq!(ring.check(&key.expose()).unwrap_err(), Denied::Stale);
    ring.refresh().unwrap();
    ring.check(&key.expose()).unwrap();
}

#[test]
fn another_pepper_is_noticed_and_a_lost_one_too() {
    let desk = Desk::new();
    let (key, _) = desk.open().create(new_key()).unwrap();
    let pepper = desk.path("access.pepper");
    let kept = std::fs::read(&pepper).unwrap();
    std::fs::remove_file(&pepper).unwrap();
    assert!(matches!(desk.try_open().unwrap_err(), AccessError::LostPepper { .. }));
    Pepper::create(&pepper).unwrap();
    assert!(matches!(desk.try_open().unwrap_err(), AccessError::OtherPepper));
    // Never replaced behind anybody's back.
    assert!(Pepper::create(&pepper).is_err());
    std::fs::write(&pepper, kept).unwrap();
    desk.open().check(&key.expose()).unwrap();
}

#[cfg(unix)]
#[test]
fn the_pepper_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let desk = Desk::new();
    desk.open().create(new_key()).unwrap();
    let path = desk.path("access.pepper");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(desk.try_open().unwrap_err(), AccessError::OpenPepper { .. }));
}

#[test]
fn a_stolen_database_does_not_make_a_key_elsewhere() {
    let (mine, theirs) = (Desk::new(), Desk::new());
    let (key, _) = mine.open().create(new_key()).unwrap();
    // The thief has the hashes, and a server of their own with a pepper of its own.
    theirs.open().create(new_key()).unwrap();
    std::fs::copy(mine.path("access.db"), theirs.path("access.db")).unwrap();
    std::fs::copy(mine.path("access.db-wal"), theirs.path("access.db-wal")).ok();
    std::fs::remove_file(theirs.path("access.db-shm")).ok();
    assert!(matches!(theirs.try_open().unwrap_err(), AccessError::OtherPepper));
    mine.open().check(&key.expose()).unwrap();
}

#[test]
fn what_a_key_was_made_with_cannot_be_changed() {
    let desk = Desk::new();
    desk.open().create(new_key()).unwrap();
    let database = rusqlite::Connection::open(desk.path("access.db")).unwrap();
    for sql in
        ["UPDATE key SET record = '{}'", "DELETE FROM key", "UPDATE key SET hash = zeroblob(32)"]
    {
        assert!(database.execute(sql, []).is_err(), "{sql}");
    }
}

#[test]
fn a_tenant_never_gets_what_reaches_beyond_it() {
    let desk = Desk::new();
    let ring = desk.open();
    for scope in [Scope::Admin, Scope::Metrics, Scope::AuditRead, Scope::Release] {
        let scopes = Scopes::from_iter([Scope::Infer, scope]);
        let tenant = Some("acme".parse().unwrap());
        let refused = ring.create(NewKey { tenant, scopes, ..new_key() }).unwrap_err();
        assert!(matches!(refused, AccessError::BeyondTenant { .. }), "{refused}");
    }
    for role in Role::ALL {
        assert!(role.scopes(true).iter().all(|scope| !scope.is_beyond_tenants()), "{role}");
    }
}

#[test]
fn a_key_says_who_answers_for_it_and_can_do_something() {
    let desk = Desk::new();
    let ring = desk.open();
    let wrong = [
        NewKey { owner: " ".to_owned(), ..new_key() },
        NewKey { scopes: Scopes::default(), ..new_key() },
        NewKey { limits: Limits { concurrent: Some(0), ..Limits::default() }, ..new_key() },
    ];
    for new in wrong {
        assert!(ring.create(new).is_err());
    }
    assert!(!ring.is_locked());
}

#[test]
fn when_a_key_was_used_is_written_down() {
    let desk = Desk::new();
    let ring = desk.open();
    let (key, record) = ring.create(new_key()).unwrap();
    ring.check(&key.expose()).unwrap();
    ring.note_used().unwrap();
    let used = desk.open().find(&record.id).unwrap().last_used_at;
    assert_eq!(used, Some(desk.clock.now()));
}

#[test]
fn beyond_this_machine_a_key_comes_first() {
    let desk = Desk::new();
    let ring = desk.open();
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    for here in ["127.0.0.1:8700", "[::1]:8700", "127.9.9.9:1"] {
        may_listen(address(here), &ring).unwrap();
    }
    let (_, record) = {
        for open in ["0.0.0.0:8700", "[::]:8700", "10.0.0.7:80"] {
            let refused = may_listen(address(open), &ring).unwrap_err().to_string();
            assert!(refused.contains("understudy key create"), "{refused}");
        }
        ring.create(new_key()).unwrap()
    };
    may_listen(address("0.0.0.0:8700"), &ring).unwrap();
    ring.revoke(&record.id, "ada", "a test").unwrap();
    assert!(may_listen(address("0.0.0.0:8700"), &ring).is_err());
}

#[test]
fn one_task_is_one_task() {
    let scopes = Scopes::from_iter(["infer:triage".parse().unwrap()]);
    assert!(scopes.allows(&Scope::Infer) && scopes.may_ask("triage"));
    for other in ["triage2", "triage@1", "mock", "acme.triage", ""] {
        assert!(!scopes.may_ask(other), "{other}");
    }
    assert!(!scopes.allows(&Scope::Feedback) && !scopes.allows(&Scope::Admin));
    for wrong in ["infer:", "infer:acme.triage", "infer:a b", "all", "", "Admin"] {
        assert!(wrong.parse::<Scope>().is_err(), "{wrong}");
    }
}

fn with_secret(key: &Key, secret: &str) -> String {
    format!("us_{}_{secret}", key.id())
}

/// Made once: a key is a commit.
static ONE: LazyLock<(Keyring, String)> = LazyLock::new(|| {
    let desk = Desk::new();
    let ring = desk.open();
    let (key, _) = ring.create(new_key()).unwrap();
    (ring, key.expose())
});

proptest! {
    /// No text but the key itself opens anything, however close it comes.
    #[test]
    fn nothing_but_the_key_opens(position in 0usize..80, other in "[ -~]", tail in "[ -~]{0,3}") {
        let (ring, right) = &*ONE;
        let mut text: Vec<char> = right.chars().collect();
        text[position] = other.chars().next().unwrap();
        let changed = text.into_iter().collect::<String>() + &tail;
        prop_assert_eq!(ring.check(&changed).is_ok(), changed == *right);
        prop_assert_eq!(ring.check(&right[..position]).unwrap_err(), Denied::Unknown);
    }

    #[test]
    fn any_text_is_a_key_or_is_not(text in "\\PC{0,100}") {
        prop_assert!(Key::parse(&text).is_none_or(|key| key.expose() == text));
        prop_assert!(text.parse::<KeyId>().is_ok_and(|id| id.as_str() == text) || text.parse::<KeyId>().is_err());
    }

    #[test]
    fn scopes_are_read_as_they_are_written(task in "[a-z][a-z0-9-]{0,63}") {
        let text = format!("infer:{task}");
        prop_assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
    }
}
