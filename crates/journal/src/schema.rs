//! Tables: the records themselves, and what is derived from them so that they can be found.

use understudy_storage::sqlite::Migration;

/// `records` is the truth: it counts 1, 2, 3, … without gaps and only ever grows. The trigger on
/// insertion is there because `INSERT OR REPLACE` would slip past the one on deletion.
///
/// `steps` and `outcomes` say where to look, up to record `progress.seq`, and can be rebuilt at any
/// time. Which step an outcome is about is not stored: it follows from these two tables. `gone` is
/// the record from which on a step or outcome no longer holds, because its telemetry tells another
/// story; only what has an `origin` can go.
///
/// `steps.turn` counts the user's messages in the prompt; a target `turn` is called `3 session`.
///
/// What is about a person is sealed: `records.key` names the key, which is gone once the person is
/// erased. Then `erased` has the record's number; only a record that was never sealed may be emptied.
///
/// `secret` is drawn once, for signing what clients are to hand back.
///
/// `media` has the bytes that messages refer to by digest, once a key (0 where they are of nobody).
///
/// `bodies` is the truth about telemetry. A body may be expired, which leaves its row and digest.
/// `told_in` and `ties` say which bodies have to be read together, as far as `reading` has come.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration {
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
    },
    Migration {
        version: 2,
        sql: "
    DROP TABLE steps;
    CREATE TABLE steps (
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL, response_id TEXT NOT NULL,
        trajectory TEXT NOT NULL, session TEXT, task TEXT NOT NULL, at_us INTEGER NOT NULL,
        origin TEXT, gone INTEGER
    ) STRICT;
    CREATE INDEX steps_by_id ON steps (id, seq);
    CREATE INDEX steps_by_response ON steps (response_id, at_us, id);
    CREATE INDEX steps_by_trajectory ON steps (trajectory, at_us, id);
    CREATE INDEX steps_by_session ON steps (session, at_us, id) WHERE session IS NOT NULL;
    CREATE INDEX steps_by_origin ON steps (origin) WHERE origin IS NOT NULL AND gone IS NULL;

    DROP TABLE outcomes;
    CREATE TABLE outcomes (
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL, target_by TEXT NOT NULL,
        target TEXT NOT NULL, at_us INTEGER NOT NULL, pending INTEGER NOT NULL,
        origin TEXT, gone INTEGER
    ) STRICT;
    CREATE INDEX outcomes_by_id ON outcomes (id, seq);
    CREATE INDEX outcomes_by_target ON outcomes (target, target_by);
    CREATE INDEX outcomes_pending ON outcomes (target, target_by) WHERE pending = 1;
    CREATE INDEX outcomes_by_origin ON outcomes (origin) WHERE origin IS NOT NULL AND gone IS NULL;
    CREATE TABLE withdrawals (seq INTEGER PRIMARY KEY) STRICT;
    CREATE TABLE retractions (id TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    UPDATE progress SET seq = 0;

    CREATE TABLE secret (only INTEGER PRIMARY KEY CHECK (only = 0), bytes BLOB NOT NULL) STRICT;
    INSERT INTO secret VALUES (0, randomblob(32));

    CREATE TABLE bodies (
        seq INTEGER PRIMARY KEY, received_at_ms INTEGER NOT NULL,
        task TEXT NOT NULL, payload TEXT NOT NULL, content_type TEXT NOT NULL,
        digest TEXT NOT NULL, bytes INTEGER NOT NULL, body BLOB,
        UNIQUE (digest, task, payload)
    ) STRICT;
    CREATE INDEX bodies_expired ON bodies (seq) WHERE body IS NULL;
    CREATE TRIGGER bodies_are_appended BEFORE INSERT ON bodies
        WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM bodies)
        BEGIN SELECT RAISE(ABORT, 'raw bodies are only ever appended'); END;
    CREATE TRIGGER bodies_are_final BEFORE UPDATE ON bodies
        WHEN NEW.body IS NOT NULL OR (NEW.seq, NEW.received_at_ms, NEW.task, NEW.payload,
            NEW.content_type, NEW.digest, NEW.bytes) IS NOT (OLD.seq, OLD.received_at_ms, OLD.task,
            OLD.payload, OLD.content_type, OLD.digest, OLD.bytes)
        BEGIN SELECT RAISE(ABORT, 'raw bodies are never rewritten, only expired'); END;
    CREATE TRIGGER bodies_stay BEFORE DELETE ON bodies
        BEGIN SELECT RAISE(ABORT, 'rows of raw bodies are never deleted'); END;

    CREATE TABLE reading (
        only INTEGER PRIMARY KEY CHECK (only = 0), mapper TEXT NOT NULL, body INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE told_in (unit TEXT, body INTEGER, PRIMARY KEY (unit, body)) STRICT, WITHOUT ROWID;
    CREATE TABLE ties (tie TEXT, unit TEXT, PRIMARY KEY (tie, unit)) STRICT, WITHOUT ROWID;
    CREATE INDEX ties_of_unit ON ties (unit);
    ",
    },
    Migration {
        version: 3,
        sql: "
    CREATE TABLE keys (
        -- Never the number of another key again: records keep the number of theirs.
        id INTEGER PRIMARY KEY AUTOINCREMENT, holder TEXT NOT NULL UNIQUE, bytes BLOB NOT NULL
    ) STRICT;
    CREATE TABLE erasures (
        id INTEGER PRIMARY KEY AUTOINCREMENT, holder TEXT NOT NULL, at_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE erased (
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL, kind TEXT NOT NULL,
        erasure INTEGER NOT NULL REFERENCES erasures (id)
    ) STRICT;
    CREATE INDEX erased_by_id ON erased (id);
    CREATE TRIGGER erasures_stay BEFORE DELETE ON erasures
        BEGIN SELECT RAISE(ABORT, 'an erasure cannot be taken back'); END;
    CREATE TRIGGER erased_stay BEFORE DELETE ON erased
        BEGIN SELECT RAISE(ABORT, 'an erasure cannot be taken back'); END;

    ALTER TABLE records ADD COLUMN key INTEGER;
    DROP TRIGGER records_are_final;
    CREATE TRIGGER records_are_final BEFORE UPDATE ON records
        WHEN NEW.body != x'' OR (NEW.seq, NEW.kind, NEW.received_at_ms, NEW.key)
            IS NOT (OLD.seq, OLD.kind, OLD.received_at_ms, OLD.key)
            OR NOT EXISTS (SELECT 1 FROM erased WHERE seq = OLD.seq)
        BEGIN SELECT RAISE(ABORT, 'journal records are never rewritten'); END;
    CREATE VIEW readable AS SELECT seq, kind, body, key,
        (SELECT bytes FROM keys WHERE id = records.key) AS secret FROM records;

    DROP TABLE steps;
    CREATE TABLE steps (
        seq INTEGER PRIMARY KEY, id TEXT NOT NULL, response_id TEXT NOT NULL,
        trajectory TEXT NOT NULL, session TEXT, task TEXT NOT NULL, at_us INTEGER NOT NULL,
        origin TEXT, gone INTEGER, subject TEXT
    ) STRICT;
    CREATE INDEX steps_by_id ON steps (id, seq);
    CREATE INDEX steps_by_response ON steps (response_id, at_us, id);
    CREATE INDEX steps_by_trajectory ON steps (trajectory, at_us, id);
    CREATE INDEX steps_by_session ON steps (session, at_us, id) WHERE session IS NOT NULL;
    CREATE INDEX steps_by_origin ON steps (origin) WHERE origin IS NOT NULL AND gone IS NULL;
    CREATE INDEX steps_by_subject ON steps (subject) WHERE subject IS NOT NULL;
    DELETE FROM outcomes; DELETE FROM withdrawals; DELETE FROM retractions;
    UPDATE progress SET seq = 0;
    ",
    },
    Migration {
        version: 4,
        sql: "
    ALTER TABLE steps ADD COLUMN turn INTEGER;
    DELETE FROM steps; DELETE FROM outcomes; DELETE FROM withdrawals; DELETE FROM retractions;
    UPDATE progress SET seq = 0;
    ",
    },
    Migration {
        version: 5,
        sql: "
    CREATE TABLE media (
        digest TEXT NOT NULL, key INTEGER NOT NULL, body BLOB NOT NULL, UNIQUE (digest, key)
    ) STRICT;
    CREATE INDEX media_by_key ON media (key);
    ",
    },
];
