use std::fs;

use understudy_ident::Timestamp;

use super::*;

fn open(shelf: &Arc<Shelf>, path: &Path) -> (Store, Vec<(String, InferenceError)>) {
    store_over(shelf, 100, 8).restored(StateFile::new(path.to_owned())).unwrap()
}

#[test]
fn a_restart_changes_nothing_and_says_what_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/adapters.json");
    let shelf = shelf(&["a1", "a2", "b1", "c1", "c2"]);
    let before = {
        let (store, missing) = open(&shelf, &path);
        assert!(missing.is_empty());
        publish(&store, "a", "a1");
        publish(&store, "a", "a2");
        let pinned = Change { pinned: true, keep: 3, ..change("b") };
        store.publish(&pinned, Arc::new(generation("b1"))).unwrap();
        let lazy = Change { on_demand: true, ..change("c") };
        store.register(&lazy, PathBuf::from("c1"), "c1").unwrap();
        publish(&store, "d", "c2");
        store.unload("d", &Expected::Anything).unwrap();
        let fleeting = Generation { directory: None, ..generation("policy") };
        store.publish(&change("policy"), Arc::new(fleeting)).unwrap();
        store.rollback("a", None).unwrap();
        store.unload("policy", &Expected::Anything).unwrap();
        store.list()
    };
    let (store, missing) = open(&shelf, &path);
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(store.list(), before, "meaning, pins, and what a rollback can reach");
    assert_eq!(meaning(&store, "c"), "c1");
    drop(store);

    shelf.content.lock().unwrap().remove(Path::new("b1"));
    shelf.content.lock().unwrap().insert("a1".into(), ("forged".to_owned(), 10));
    let (store, missing) = open(&shelf, &path);
    let text: Vec<String> =
        missing.iter().map(|(alias, error)| format!("{alias}: {error}")).collect();
    assert!(text[0].contains("a: ") && text[0].contains("forged"), "{text:?}");
    assert!(text[1].contains("b: ") && text[1].contains("there is no b1"), "{text:?}");
    assert!(store.resolve("a").is_err() && store.resolve("b").is_err(), "reported, not served");
    assert_eq!(meaning(&store, "c"), "c1");
}

#[test]
fn a_change_that_cannot_be_written_down_does_not_happen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/adapters.json");
    let (store, _) = open(&shelf(&["a1", "a2"]), &path);
    publish(&store, "a", "a1");
    fs::remove_dir_all(folder.path().join("state")).unwrap();
    fs::write(folder.path().join("state"), "in the way").unwrap();
    let error = store.publish(&change("a"), Arc::new(generation("a2"))).unwrap_err();
    assert!(error.to_string().contains("could not write the change of adapter `a`"), "{error}");
    assert!(store.unload("a", &Expected::Anything).is_err());
    assert_eq!(meaning(&store, "a"), "a1");
}

#[test]
fn a_file_that_is_not_ours_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapters.json");
    for text in ["not json", "{\"schema\": 2, \"aliases\": []}"] {
        fs::write(&path, text).unwrap();
        assert!(store(100, 8).restored(StateFile::new(path.clone())).is_err());
    }
}

#[test]
fn what_expires_does_so_after_a_restart_too_unless_it_is_spared_or_loaded_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapters.json");
    let shelf = shelf(&["a1", "b1", "c1"]);
    let at = |second| Timestamp::from_second(second).unwrap();
    {
        let (store, _) = open(&shelf, &path);
        for (alias, digest) in [("a", "a1"), ("b", "b1"), ("c", "c1")] {
            let brief = Change { expires: Some(at(100)), ..change(alias) };
            store.publish(&brief, Arc::new(generation(digest))).unwrap();
        }
        publish(&store, "c", "c1");
    }
    let (store, _) = open(&shelf, &path);
    let expires = |alias| info(&store, alias).expires;
    assert_eq!((expires("a"), expires("c")), (Some(at(100)), None));
    assert!(store.expire(at(99), &|_| false).unwrap().is_empty());
    assert_eq!(store.expire(at(100), &|alias| alias == "b").unwrap(), ["a"]);
    assert!(store.resolve("a").is_err() && store.resident("a1").is_none());
    assert_eq!((meaning(&store, "b"), meaning(&store, "c")), ("b1".to_owned(), "c1".to_owned()));
    drop(store);
    let (store, _) = open(&shelf, &path);
    assert_eq!(store.list().len(), 2, "it does not come back");
    assert_eq!(store.expire(at(100), &|_| false).unwrap(), ["b"]);
}
