//! Tables: the records themselves, and what is derived from them so that they can be found.

use understudy_storage::sqlite::Migration;

/// `records` is the truth. `steps` and `outcomes` are derived from it up to `progress.seq`, hold no
/// fact of their own, and can be rebuilt at any time.
pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    sql: "
    CREATE TABLE records (
        seq INTEGER PRIMARY KEY, kind INTEGER NOT NULL, received_ms INTEGER NOT NULL,
        body BLOB NOT NULL
    ) STRICT;
    CREATE TRIGGER records_are_final BEFORE UPDATE ON records
        BEGIN SELECT RAISE(ABORT, 'journal records are never rewritten'); END;
    CREATE TRIGGER records_stay BEFORE DELETE ON records
        BEGIN SELECT RAISE(ABORT, 'journal records are never deleted'); END;

    CREATE TABLE steps (
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, identity TEXT NOT NULL,
        response TEXT NOT NULL, trajectory TEXT NOT NULL, session TEXT, task TEXT NOT NULL,
        at_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX steps_by_response ON steps (response);
    CREATE INDEX steps_by_trajectory ON steps (trajectory, at_ms, id);
    CREATE INDEX steps_by_session ON steps (session) WHERE session IS NOT NULL;
    CREATE INDEX steps_by_task ON steps (task, trajectory);

    CREATE TABLE outcomes (
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, identity TEXT NOT NULL,
        target_kind INTEGER NOT NULL, target TEXT NOT NULL, at_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX outcomes_by_target ON outcomes (target, target_kind);

    CREATE TABLE progress (only INTEGER PRIMARY KEY CHECK (only = 0), seq INTEGER NOT NULL) STRICT;
    INSERT INTO progress VALUES (0, 0);
    ",
}];
