//! Tables: the records themselves, and what is derived from them so that they can be found.

use understudy_storage::sqlite::Migration;

/// `records` is the truth: it counts 1, 2, 3, … without gaps and only ever grows. The trigger on
/// insertion is there because `INSERT OR REPLACE` would slip past the one on deletion.
///
/// `steps` and `outcomes` say where to look, up to record `progress.seq`, and can be rebuilt at any
/// time. Which step an outcome is about is not stored: it follows from these two tables.
pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    sql: "
    CREATE TABLE records (
        seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, received_at_ms INTEGER NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    CREATE TRIGGER records_are_appended BEFORE INSERT ON records
        WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM records)
        BEGIN SELECT RAISE(ABORT, 'journal records are only ever appended'); END;
    CREATE TRIGGER records_are_final BEFORE UPDATE ON records
        BEGIN SELECT RAISE(ABORT, 'journal records are never rewritten'); END;
    CREATE TRIGGER records_stay BEFORE DELETE ON records
        BEGIN SELECT RAISE(ABORT, 'journal records are never deleted'); END;

    CREATE TABLE steps (
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, response_id TEXT NOT NULL,
        trajectory TEXT NOT NULL, session TEXT, task TEXT NOT NULL, at_us INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX steps_by_response ON steps (response_id, at_us, id);
    CREATE INDEX steps_by_trajectory ON steps (trajectory, at_us, id);
    CREATE INDEX steps_by_session ON steps (session, at_us, id) WHERE session IS NOT NULL;

    CREATE TABLE outcomes (
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, target_by TEXT NOT NULL,
        target TEXT NOT NULL, at_us INTEGER NOT NULL, pending INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX outcomes_by_target ON outcomes (target, target_by);
    CREATE INDEX outcomes_pending ON outcomes (target, target_by) WHERE pending = 1;

    CREATE TABLE progress (only INTEGER PRIMARY KEY CHECK (only = 0), seq INTEGER NOT NULL) STRICT;
    INSERT INTO progress VALUES (0, 0);
    ",
}];
