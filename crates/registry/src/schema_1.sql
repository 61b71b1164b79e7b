-- A row is a record: the very text that its audit entry carries. The columns beside it are keys, or
-- are generated from it, so that there is nothing else that could disagree with the chain.

CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    task TEXT NOT NULL,
    subject TEXT NOT NULL,
    reason TEXT NOT NULL,
    evidence TEXT,
    detail TEXT NOT NULL,
    prev_hash TEXT NOT NULL,
    hash TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE adapter (
    task TEXT NOT NULL,
    number INTEGER NOT NULL CHECK (number >= 1),
    record TEXT NOT NULL,
    generation TEXT NOT NULL GENERATED ALWAYS AS (record ->> '$.generation') STORED,
    PRIMARY KEY (task, number),
    UNIQUE (task, generation)
) STRICT;

CREATE TABLE report (
    seq INTEGER PRIMARY KEY,
    task TEXT NOT NULL,
    number INTEGER NOT NULL,
    record TEXT NOT NULL,
    FOREIGN KEY (task, number) REFERENCES adapter (task, number)
) STRICT;
CREATE INDEX report_of_adapter ON report (task, number, seq);

CREATE TABLE revocation (
    task TEXT NOT NULL,
    number INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (task, number),
    FOREIGN KEY (task, number) REFERENCES adapter (task, number)
) STRICT;

CREATE TABLE channel_move (
    seq INTEGER PRIMARY KEY,
    task TEXT NOT NULL,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX channel_of_task ON channel_move (task, seq);

CREATE TABLE release (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    record TEXT NOT NULL,
    task TEXT NOT NULL GENERATED ALWAYS AS (record ->> '$.task') STORED,
    state TEXT NOT NULL GENERATED ALWAYS AS (record ->> '$.state') STORED
) STRICT;
CREATE UNIQUE INDEX one_open_release ON release (task) WHERE state IN ('ramping', 'paused');
CREATE INDEX release_of_task ON release (task, seq);

CREATE TRIGGER audit_kept BEFORE DELETE ON audit
BEGIN SELECT raise(ABORT, 'audit entries are never deleted'); END;
CREATE TRIGGER audit_fixed BEFORE UPDATE ON audit
BEGIN SELECT raise(ABORT, 'audit entries are never changed'); END;
CREATE TRIGGER adapter_kept BEFORE DELETE ON adapter
BEGIN SELECT raise(ABORT, 'adapter versions are never deleted'); END;
CREATE TRIGGER adapter_fixed BEFORE UPDATE ON adapter
BEGIN SELECT raise(ABORT, 'adapter versions are never changed'); END;
CREATE TRIGGER report_kept BEFORE DELETE ON report
BEGIN SELECT raise(ABORT, 'reports are never deleted'); END;
CREATE TRIGGER report_fixed BEFORE UPDATE ON report
BEGIN SELECT raise(ABORT, 'reports are never changed'); END;
CREATE TRIGGER revocation_kept BEFORE DELETE ON revocation
BEGIN SELECT raise(ABORT, 'revocations are never deleted'); END;
CREATE TRIGGER revocation_fixed BEFORE UPDATE ON revocation
BEGIN SELECT raise(ABORT, 'revocations are never changed'); END;
CREATE TRIGGER channel_move_kept BEFORE DELETE ON channel_move
BEGIN SELECT raise(ABORT, 'the history of a channel is never deleted'); END;
CREATE TRIGGER channel_move_fixed BEFORE UPDATE ON channel_move
BEGIN SELECT raise(ABORT, 'the history of a channel is never changed'); END;
CREATE TRIGGER release_kept BEFORE DELETE ON release
BEGIN SELECT raise(ABORT, 'releases are never deleted'); END;
-- A decision that was taken stays taken, whatever the data look like later.
CREATE TRIGGER release_final BEFORE UPDATE ON release
WHEN OLD.state IN ('rolled_back', 'aborted')
BEGIN SELECT raise(ABORT, 'this release has ended'); END;
