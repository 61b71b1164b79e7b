use super::*;

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn write_creates_parents_and_replaces_without_leftovers() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("a/b/settings.json");
    write(&path, b"one").unwrap();
    write(&path, b"two").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_eq!(names(path.parent().unwrap()), ["settings.json"]);
}

#[test]
fn a_crash_before_the_rename_leaves_the_old_content() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("state");
    write(&path, b"old").unwrap();
    // A crash runs no destructor, so the temporary file stays behind.
    std::mem::forget(stage(&path, b"new").unwrap());
    assert_eq!(fs::read(&path).unwrap(), b"old");
    let leftovers = names(home.path());
    assert_eq!(leftovers.len(), 2);
    assert!(leftovers[0].starts_with(TEMPORARY_PREFIX), "{leftovers:?}");
    // The next writer is not disturbed by the leftover.
    write(&path, b"newer").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"newer");
}

#[test]
fn a_failed_write_cleans_up_and_says_what_it_tried() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("taken");
    fs::create_dir_all(path.join("inside")).unwrap();
    let error = write(&path, b"bytes").unwrap_err();
    assert_eq!(error.to_string(), format!("failed to move a finished file to {}", path.display()));
    assert_eq!(names(home.path()), ["taken"]);
}

#[test]
fn publish_file_moves_and_replaces() {
    let home = tempfile::tempdir().unwrap();
    let (temporary, path) = (home.path().join("download"), home.path().join("models/final"));
    write(&path, b"old").unwrap();
    fs::write(&temporary, b"new").unwrap();
    publish_file(&temporary, &path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert!(!temporary.exists());
}

#[test]
fn publish_dir_moves_the_whole_tree_and_never_overwrites() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("versions/1");
    for content in ["first", "second"] {
        let temporary = home.path().join(content);
        fs::create_dir_all(temporary.join("sub")).unwrap();
        fs::write(temporary.join("sub/weights"), content).unwrap();
    }
    publish_dir(&home.path().join("first"), &path).unwrap();
    let error = publish_dir(&home.path().join("second"), &path).unwrap_err();
    assert!(matches!(error, StorageError::AlreadyPublished { path: refused } if refused == path));
    assert_eq!(fs::read(path.join("sub/weights")).unwrap(), b"first");
    assert!(home.path().join("second/sub/weights").exists(), "the refused directory is kept");
}

#[test]
fn racing_publishers_have_exactly_one_winner() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("version");
    let wins = std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..8)
            .map(|n| {
                let (temporary, path) = (home.path().join(format!("from-{n}")), &path);
                fs::create_dir(&temporary).unwrap();
                fs::write(temporary.join("winner"), format!("{n}")).unwrap();
                scope.spawn(move || publish_dir(&temporary, path).is_ok())
            })
            .collect();
        publishers.into_iter().filter_map(|p| p.join().unwrap().then_some(())).count()
    });
    assert_eq!(wins, 1);
    assert_eq!(names(&path), ["winner"]);
}

#[cfg(unix)]
#[test]
fn publish_dir_refuses_a_link_to_somewhere_else() {
    let home = tempfile::tempdir().unwrap();
    let temporary = home.path().join("temporary");
    fs::create_dir(&temporary).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", temporary.join("link")).unwrap();
    let error = publish_dir(&temporary, &home.path().join("final")).unwrap_err();
    assert!(matches!(error, StorageError::NotPlain { path } if path.ends_with("link")));
    assert!(!home.path().join("final").exists());
}

#[cfg(unix)]
#[test]
fn who_may_read_a_written_file_is_decided_by_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let (ours, plain) = (home.path().join("ours"), home.path().join("plain"));
    write(&ours, b"").unwrap();
    fs::write(&plain, b"").unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
    assert_eq!(mode(&ours), mode(&plain));
}

#[test]
fn an_empty_path_is_an_error_and_not_an_endless_search_for_its_parent() {
    assert!(create_dir(Path::new("")).is_err());
    assert!(write(Path::new(""), b"bytes").is_err());
}

#[test]
fn an_update_that_fails_leaves_what_was_there_and_the_next_one_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("made/counts.json");
    let add = |text: &str| {
        update::<usize, StorageError>(&path, |before| {
            let after = [before.unwrap_or_default(), text.as_bytes().to_vec()].concat();
            let length = after.len();
            Ok((after, length))
        })
    };
    assert_eq!(add("one").unwrap(), 3);
    let refused =
        update::<(), StorageError>(&path, |_| Err(StorageError::NotPlain { path: path.clone() }));
    assert!(refused.is_err());
    assert_eq!(add(" two").unwrap(), 7);
    assert_eq!(fs::read(&path).unwrap(), b"one two");
}
