CREATE TABLE key (
    id TEXT PRIMARY KEY,
    record TEXT NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

CREATE TABLE revocation (
    id TEXT PRIMARY KEY REFERENCES key (id),
    record TEXT NOT NULL
) STRICT;

-- When a key was last seen, in microseconds since 1970: the one thing here that changes.
CREATE TABLE used (
    id TEXT PRIMARY KEY REFERENCES key (id),
    at_us INTEGER NOT NULL
) STRICT;

-- By which a wrong pepper is noticed before it refuses everybody.
CREATE TABLE pepper (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    digest BLOB NOT NULL CHECK (length(digest) = 32)
) STRICT;

CREATE TRIGGER key_kept BEFORE DELETE ON key
BEGIN SELECT raise(ABORT, 'keys are never deleted, but revoked'); END;
CREATE TRIGGER key_fixed BEFORE UPDATE ON key
BEGIN SELECT raise(ABORT, 'keys are never changed, but made anew'); END;
CREATE TRIGGER revocation_kept BEFORE DELETE ON revocation
BEGIN SELECT raise(ABORT, 'what was revoked stays revoked'); END;
CREATE TRIGGER revocation_fixed BEFORE UPDATE ON revocation
BEGIN SELECT raise(ABORT, 'what was revoked stays revoked'); END;
