//! No update is lost: processes of several threads each, which are this test started again, add to
//! one file at the same time.
#![expect(clippy::unwrap_used, reason = "a helper of a test may fail like the test")]

use std::{
    env, fs,
    path::Path,
    process::{Child, Command},
    thread,
};

use understudy_storage::{StorageError, atomic};

const FILE: &str = "UNDERSTUDY_TEST_UPDATE_FILE";
const PROCESSES: usize = 4;
const THREADS: usize = 2;
const EACH: usize = 25;

fn add(path: &Path) {
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..EACH).for_each(|_| add_one(path)));
        }
    });
}

fn add_one(path: &Path) {
    let added = atomic::update::<(), StorageError>(path, |before| {
        let count: usize =
            before.map_or(0, |text| String::from_utf8(text).unwrap().parse().unwrap());
        Ok(((count + 1).to_string().into_bytes(), ()))
    });
    added.unwrap();
}

#[test]
fn processes_and_threads_that_count_at_once_lose_nothing() {
    if let Some(path) = env::var_os(FILE) {
        return add(Path::new(&path));
    }
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("count");
    let start = |_| {
        Command::new(env::current_exe().unwrap())
            .args(["--exact", "processes_and_threads_that_count_at_once_lose_nothing"])
            .env(FILE, &path)
            .spawn()
            .unwrap()
    };
    let children: Vec<Child> = (0..PROCESSES).map(start).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let counted: usize = fs::read_to_string(&path).unwrap().parse().unwrap();
    assert_eq!(counted, PROCESSES * THREADS * EACH);
}
