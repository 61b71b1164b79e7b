CREATE TABLE operations (
    seq    INTEGER PRIMARY KEY,
    at     TEXT NOT NULL,
    item   TEXT,
    op     TEXT NOT NULL,
    body   TEXT,
    actor  TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE TABLE events (
    seq     INTEGER PRIMARY KEY,
    at      TEXT NOT NULL,
    request TEXT NOT NULL,
    kind    TEXT NOT NULL CHECK (kind IN ('shown', 'withheld', 'cited', 'success', 'failure')),
    item    TEXT
) STRICT;
-- What was released when, and by whom: the newest row serves.
CREATE TABLE pointers (
    seq     INTEGER PRIMARY KEY,
    at      TEXT NOT NULL,
    release TEXT,
    actor   TEXT NOT NULL,
    reason  TEXT NOT NULL
) STRICT;
-- What may be deleted: nothing else can be.
CREATE TABLE forgotten (
    item   TEXT PRIMARY KEY,
    at     TEXT NOT NULL,
    actor  TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE TRIGGER operations_stay BEFORE UPDATE ON operations
BEGIN SELECT RAISE(ABORT, 'operations are never rewritten'); END;
CREATE TRIGGER operations_go_when_forgotten BEFORE DELETE ON operations
WHEN NOT EXISTS (SELECT 1 FROM forgotten WHERE item = OLD.item)
BEGIN SELECT RAISE(ABORT, 'operations are only deleted to forget an item'); END;
CREATE TRIGGER events_stay BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are never rewritten'); END;
CREATE TRIGGER events_go_when_forgotten BEFORE DELETE ON events
WHEN NOT EXISTS (SELECT 1 FROM forgotten WHERE item = OLD.item)
BEGIN SELECT RAISE(ABORT, 'events are only deleted to forget an item'); END;
CREATE TRIGGER pointers_stay BEFORE UPDATE ON pointers
BEGIN SELECT RAISE(ABORT, 'pointers are never rewritten'); END;
CREATE TRIGGER pointers_never_go BEFORE DELETE ON pointers
BEGIN SELECT RAISE(ABORT, 'pointers are never deleted'); END;
-- How far a server has read the journal for outcomes.
CREATE TABLE followed (
    one INTEGER PRIMARY KEY CHECK (one = 0),
    seq INTEGER NOT NULL
) STRICT;
