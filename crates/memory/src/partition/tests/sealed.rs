//! Files of users: nothing of theirs is readable without their key, which forgetting destroys.

use std::path::{Path, PathBuf};

use super::*;
use crate::{Principal, UserItem};

const SECRET: &str = "zqprivatexv";

fn ada(place: &Place) -> Principal {
    Principal::authenticated(place.tenant.clone(), "ada@example.org").unwrap()
}

fn tell(place: &Place, store: &UserStore) -> MemoryId {
    let strategy = format!("prefer {SECRET} at the top.");
    let situation = format!("When writing to {SECRET}");
    let written = Written { situation: &situation, strategy: &strategy, ..Written::default() };
    let item = UserItem::written(&written, &place.catalogue, store.key(), place.now).unwrap();
    let id = item.id.clone();
    let by = By::new(&format!("ada {SECRET}"), &format!("for {SECRET}"), place.now).unwrap();
    store.propose(item, &HashingEmbedder, &by).unwrap();
    store.confirm(&id, &by).unwrap();
    id
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// The files that hold the secret, or `ada`, in clear.
fn telling(place: &Place) -> Vec<PathBuf> {
    let mut all = files(place.directory.path());
    all.retain(|path| {
        let bytes = fs::read(path).unwrap();
        let holds = |needle: &str| bytes.windows(needle.len()).any(|it| it == needle.as_bytes());
        holds(SECRET) || holds("ada ") || path.to_string_lossy().contains("ada@")
    });
    all
}

#[test]
fn a_users_words_are_in_no_file_in_clear_and_are_read_again_after_a_restart() {
    let place = place();
    let store = place.root.user(&ada(&place)).unwrap();
    let id = tell(&place, &store);
    assert!(telling(&place).is_empty(), "while the file is open: {:?}", telling(&place));
    let kept = store.get(&id, place.now).unwrap();
    assert!(kept.item.strategy.text.as_str().contains(SECRET));
    drop(store);
    assert!(telling(&place).is_empty());
    let root = MemoryRoot::open(place.directory.path(), Settings::default()).unwrap();
    let store = root.user(&ada(&place)).unwrap();
    assert_eq!(store.get(&id, place.now).unwrap(), kept);
    let history = store.history(Some(&id)).unwrap();
    assert!(history.iter().all(|entry| entry.actor == format!("ada {SECRET}")), "{history:?}");
    root.forget_own(&ada(&place), &id, &By::new("ada", SECRET, place.now).unwrap()).unwrap();
    assert!(telling(&place).is_empty(), "nor why it was forgotten");
    // The key is for its owner alone, and another user has another one.
    let grace = Principal::authenticated(place.tenant.clone(), "grace@example.org").unwrap();
    drop(root.user(&grace).unwrap());
    let is_key = |path: &PathBuf| path.extension().is_some_and(|it| it == "key");
    let keys: Vec<PathBuf> = files(place.directory.path()).into_iter().filter(is_key).collect();
    assert_eq!(keys.len(), 2);
    assert_ne!(fs::read(&keys[0]).unwrap(), fs::read(&keys[1]).unwrap());
    #[cfg(unix)]
    for key in &keys {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o077, 0);
    }
}

#[test]
fn a_copy_of_a_forgotten_users_file_stays_closed() {
    let place = place();
    let store = place.root.user(&ada(&place)).unwrap();
    tell(&place, &store);
    let path = store.path().to_owned();
    // The log is moved into the file when the last handle closes.
    drop(store);
    let backup = fs::read(&path).unwrap();
    assert!(place.root.forget_user(&ada(&place)).unwrap());
    assert_eq!(files(place.directory.path()).len(), 1, "the memory's own key");
    fs::write(&path, &backup).unwrap();
    for _ in 0..2 {
        let closed = place.root.user(&ada(&place)).unwrap_err();
        assert!(matches!(closed, MemoryError::Sealed { .. }), "{closed}");
        assert!(closed.to_string().contains("was forgotten"), "{closed}");
    }
    assert!(place.root.forget_user(&ada(&place)).unwrap(), "the copy goes as well");
    assert!(place.root.user(&ada(&place)).unwrap().all(place.now).unwrap().is_empty());
    // Under the key of whoever begins anew, the copy is as closed as without one.
    drop(place.root.user(&ada(&place)).unwrap());
    fs::write(&path, &backup).unwrap();
    let closed = place.root.user(&ada(&place)).unwrap_err();
    assert!(matches!(closed, MemoryError::Sealed { .. }), "{closed}");
}

#[test]
fn a_file_from_before_files_were_sealed_is_sealed_when_it_is_opened() {
    let place = place();
    let path = {
        let store = place.root.user(&ada(&place)).unwrap();
        store.path().to_owned()
    };
    assert!(place.root.forget_user(&ada(&place)).unwrap());
    let key = place.root.key_of(&place.tenant);
    let old = UserStore::open(&path, key, Settings::default()).unwrap();
    tell(&place, &old);
    let expected = old.all(place.now).unwrap();
    let history = old.history(None).unwrap();
    drop(old);
    assert!(!telling(&place).is_empty(), "the test can fail");
    let store = place.root.user(&ada(&place)).unwrap();
    assert!(telling(&place).is_empty(), "{:?}", telling(&place));
    assert_eq!((store.all(place.now).unwrap(), store.history(None).unwrap()), (expected, history));
    let other = Connection::open(&path).unwrap();
    assert!(other.execute("UPDATE operations SET actor = 'mallory'", []).is_err());
}
