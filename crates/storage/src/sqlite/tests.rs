use std::fs;

use rusqlite::StatementStatus;

use super::*;

const CREATE: Migration = Migration {
    version: 1,
    sql: "CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
          CREATE TABLE child (parent INTEGER NOT NULL REFERENCES parent (id) ON DELETE CASCADE);",
};
/// Rebuilds a table that others refer to, which is where a careless runner loses rows.
const REBUILD: Migration = Migration {
    version: 2,
    sql: "CREATE TABLE parent_2 (id INTEGER PRIMARY KEY, name TEXT NOT NULL, age INTEGER);
          INSERT INTO parent_2 SELECT id, name, NULL FROM parent;
          DROP TABLE parent;
          ALTER TABLE parent_2 RENAME TO parent;",
};

fn pragma(connection: &Connection, name: &str) -> String {
    let value =
        connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
    match value.unwrap() {
        rusqlite::types::Value::Integer(number) => number.to_string(),
        rusqlite::types::Value::Text(text) => text,
        other => panic!("{name} is {other:?}"),
    }
}

fn count(connection: &Connection, table: &str) -> i64 {
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

fn home() -> (tempfile::TempDir, std::path::PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("state/catalog.db");
    (home, path)
}

#[test]
fn a_connection_has_the_settings_that_make_commits_durable() {
    let (_home, path) = home();
    let connection = open(&path, &[CREATE]).unwrap();
    assert_eq!(pragma(&connection, "journal_mode"), "wal");
    assert_eq!(pragma(&connection, "synchronous"), "2", "2 is FULL");
    assert_eq!(pragma(&connection, "foreign_keys"), "1");
    assert_eq!(pragma(&connection, "busy_timeout"), BUSY_TIMEOUT.as_millis().to_string());
    let orphan = connection.execute("INSERT INTO child VALUES (1)", []);
    assert!(orphan.is_err(), "foreign keys are enforced");
}

#[test]
fn migrations_run_once_in_order_and_keep_rows_of_referring_tables() {
    let (_home, path) = home();
    let connection = open(&path, &[CREATE]).unwrap();
    connection
        .execute_batch("INSERT INTO parent VALUES (1, 'a'); INSERT INTO child VALUES (1), (1);")
        .unwrap();
    drop(connection);
    for _ in 0..2 {
        let connection = open(&path, &[CREATE, REBUILD]).unwrap();
        assert_eq!(schema_version(&connection).unwrap(), 2);
        assert_eq!((count(&connection, "parent"), count(&connection, "child")), (1, 2));
    }
}

#[test]
fn a_newer_database_is_refused_and_left_as_it_was() {
    let (home, path) = home();
    drop(open(&path, &[CREATE, REBUILD]).unwrap());
    let before = fs::read(&path).unwrap();
    let error = open(&path, &[CREATE]).unwrap_err();
    assert!(matches!(error, StorageError::DatabaseTooNew { found: 2, known: 1, .. }));
    let text = error.to_string();
    assert!(
        text.contains("catalog.db has schema version 2, but this program knows only up to 1"),
        "{text}"
    );
    assert_eq!(fs::read(&path).unwrap(), before);
    drop(home);
}

#[test]
fn a_failing_migration_leaves_the_database_at_the_last_good_version() {
    let (_home, path) = home();
    let broken =
        Migration { version: 2, sql: "CREATE TABLE extra (x); INSERT INTO nowhere VALUES (1);" };
    let error = open(&path, &[CREATE, broken]).unwrap_err();
    assert!(matches!(error, StorageError::Migration { version: 2, .. }), "{error}");
    let connection = open(&path, &[CREATE]).unwrap();
    assert_eq!(schema_version(&connection).unwrap(), 1);
    assert!(connection.prepare("SELECT * FROM extra").is_err(), "nothing of the broken step stays");
}

#[test]
fn a_migration_that_would_break_references_is_refused() {
    let (_home, path) = home();
    let connection = open(&path, &[CREATE]).unwrap();
    connection
        .execute_batch("INSERT INTO parent VALUES (1, 'a'); INSERT INTO child VALUES (1), (1);")
        .unwrap();
    drop(connection);
    let careless = Migration { version: 2, sql: "DELETE FROM parent;" };
    let error = open(&path, &[CREATE, careless]).unwrap_err();
    assert!(matches!(
        error,
        StorageError::MigrationBreaksReferences { version: 2, violations: 2, .. }
    ));
    assert_eq!(count(&open(&path, &[CREATE]).unwrap(), "parent"), 1);
}

#[test]
fn processes_that_open_a_new_database_at_once_migrate_it_once() {
    let (_home, path) = home();
    let once = Migration { version: 1, sql: "CREATE TABLE t (x); INSERT INTO t VALUES (1);" };
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| open(&path, &[once]).unwrap());
        }
    });
    assert_eq!(count(&open(&path, &[once]).unwrap(), "t"), 1);
}

#[test]
fn versions_that_do_not_count_from_one_are_refused() {
    let (_home, path) = home();
    let error = open(&path, &[REBUILD]).unwrap_err();
    assert!(matches!(error, StorageError::MigrationOrder { position: 1, version: 2 }));
    assert!(!path.exists());
}

#[test]
fn a_reader_sees_commits_and_cannot_write() {
    let (_home, path) = home();
    assert!(open_reader(&path).is_err(), "a reader does not create a database");
    let writer = open(&path, &[CREATE]).unwrap();
    let reader = open_reader(&path).unwrap();
    writer.execute("INSERT INTO parent VALUES (1, 'a')", []).unwrap();
    assert_eq!(count(&reader, "parent"), 1);
    assert!(reader.execute("DELETE FROM parent", []).is_err());
}

#[test]
fn a_file_that_is_no_database_is_refused_by_name() {
    let (_home, path) = home();
    atomic::write(&path, &[b'x'; 4096]).unwrap();
    let error = open(&path, &[CREATE]).unwrap_err();
    assert!(error.to_string().contains("catalog.db"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), [b'x'; 4096]);
}

/// Otherwise whoever writes parses its statements again for every row.
#[test]
fn a_statement_is_planned_once_whatever_is_bound_to_it() {
    const SQL: &str = "CREATE TABLE gone (seq INTEGER PRIMARY KEY, id TEXT NOT NULL);
        CREATE INDEX gone_by_id ON gone (id);";
    let (_home, path) = home();
    let writer = open(&path, &[Migration { version: 1, sql: SQL }]).unwrap();
    let reader = open_reader(&path).unwrap();
    for connection in [&writer, &reader] {
        let planned_again = ["a", "b", "c"].map(|id| {
            let sql = "SELECT seq FROM gone WHERE id = ?1 ORDER BY seq LIMIT 1";
            let mut statement = connection.prepare_cached(sql).unwrap();
            assert!(!statement.exists([id]).unwrap());
            statement.get_status(StatementStatus::RePrepare)
        });
        assert_eq!(planned_again, [0; 3]);
    }
}
