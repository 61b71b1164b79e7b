-- Facts: whatever is only ever added, by kind and subject. As everywhere, `record` is the very text
-- that the audit entry carries.
CREATE TABLE fact (
    seq INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX fact_of_subject ON fact (kind, subject, seq);
CREATE TRIGGER fact_kept BEFORE DELETE ON fact
BEGIN SELECT raise(ABORT, 'facts are never deleted'); END;
CREATE TRIGGER fact_fixed BEFORE UPDATE ON fact
BEGIN SELECT raise(ABORT, 'facts are never changed'); END;

-- What a command with an idempotency key answered. Kept for a day, and no part of the chain.
CREATE TABLE request (
    key TEXT PRIMARY KEY,
    asked TEXT NOT NULL,
    answer TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE checkpoint (
    size INTEGER PRIMARY KEY,
    note TEXT NOT NULL
) STRICT;
CREATE TRIGGER checkpoint_kept BEFORE DELETE ON checkpoint
BEGIN SELECT raise(ABORT, 'checkpoints are never deleted'); END;
CREATE TRIGGER checkpoint_fixed BEFORE UPDATE ON checkpoint
BEGIN SELECT raise(ABORT, 'checkpoints are never changed'); END;

ALTER TABLE audit ADD COLUMN role TEXT;
ALTER TABLE audit ADD COLUMN forced TEXT;
ALTER TABLE audit ADD COLUMN request TEXT;

DROP INDEX one_open_release;
CREATE UNIQUE INDEX one_open_release ON release (task)
WHERE state IN ('staging', 'ramping', 'paused', 'awaiting_approval');
DROP TRIGGER release_final;
-- A decision that was taken stays taken, whatever the data look like later.
CREATE TRIGGER release_final BEFORE UPDATE ON release
WHEN OLD.state IN ('rolled_back', 'aborted', 'superseded', 'failed')
BEGIN SELECT raise(ABORT, 'this release has ended'); END;
