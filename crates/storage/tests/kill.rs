//! `kill -9` in the middle of writing: the process under test is this test, started again.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a helper of a test may fail like the test")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use understudy_storage::{
    DataDirLock, StorageError, atomic,
    sqlite::{self, Migration},
};

const ROLE: &str = "UNDERSTUDY_TEST_WRITER_DIR";
const SCHEMA: &[Migration] =
    &[Migration { version: 1, sql: "CREATE TABLE step (n INTEGER PRIMARY KEY)" }];
/// Rounds of start, kill, look; acknowledgements read before each kill.
const ROUNDS: u32 = 5;
const ACKNOWLEDGEMENTS: usize = 25;

#[test]
fn what_was_acknowledged_survives_a_kill_and_nothing_is_torn() {
    if let Some(dir) = std::env::var_os(ROLE) {
        write_until_killed(Path::new(&dir));
    }
    let home = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for _ in 0..ROUNDS {
        let (mut child, mut lines) = start_writer(home.path());
        for line in lines.by_ref().take(ACKNOWLEDGEMENTS) {
            acknowledged = line;
        }
        let held = DataDirLock::acquire(home.path()).unwrap_err();
        assert!(
            matches!(held, StorageError::DataDirInUse { holder: Some(pid), .. } if pid == child.id())
        );
        child.kill().unwrap();
        child.wait().unwrap();
        // What the child managed to say before it died was acknowledged too.
        acknowledged = lines.last().unwrap_or(acknowledged);
        check_survivors(home.path(), acknowledged);
    }
    assert!(acknowledged >= ROUNDS * ACKNOWLEDGEMENTS as u32 - 1, "the writer made progress");
}

fn start_writer(dir: &Path) -> (Child, impl Iterator<Item = u32> + use<>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "what_was_acknowledged_survives_a_kill_and_nothing_is_torn",
            "--nocapture",
        ])
        .env(ROLE, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    // The test harness prints lines of its own first, which are not numbers.
    let lines = output.lines().map_while(Result::ok).filter_map(|line| line.parse().ok());
    (child, lines)
}

fn write_until_killed(dir: &Path) -> ! {
    let _lock = DataDirLock::acquire(dir).unwrap();
    let database = sqlite::open(&dir.join("steps.db"), SCHEMA).unwrap();
    let next =
        database.query_row("SELECT coalesce(max(n), -1) + 1 FROM step", [], |row| row.get(0));
    let mut stdout = std::io::stdout();
    for n in next.unwrap().. {
        atomic::write(&state(dir), &content(n)).unwrap();
        database.execute("INSERT INTO step VALUES (?1)", [n]).unwrap();
        writeln!(stdout, "{n}").and_then(|()| stdout.flush()).unwrap();
    }
    unreachable!("the parent kills this process")
}

fn check_survivors(dir: &Path, acknowledged: u32) {
    let _lock = DataDirLock::acquire(dir).unwrap();
    let database = sqlite::open(&dir.join("steps.db"), SCHEMA).unwrap();
    let rows: u32 = database.query_row("SELECT count(*) FROM step", [], |row| row.get(0)).unwrap();
    assert!(rows > acknowledged, "{rows} rows, but step {acknowledged} was acknowledged");
    let whole = fs::read(state(dir)).unwrap();
    let n: u32 = whole.split(|byte| *byte == b' ').next().map(text).unwrap().parse().unwrap();
    assert!(n >= acknowledged && whole == content(n), "the state file is torn");
}

fn state(dir: &Path) -> PathBuf {
    dir.join("state")
}

fn content(n: u32) -> Vec<u8> {
    format!("{n} ").repeat(20_000).into_bytes()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
