-- What a heal query offered, and whether it worked: kept apart from what requests were shown, because
-- whoever asks for help chooses to, and nothing is withheld to compare with.
CREATE TABLE events_and_heals (
    seq     INTEGER PRIMARY KEY,
    at      TEXT NOT NULL,
    request TEXT NOT NULL,
    kind    TEXT NOT NULL CHECK (
        kind IN ('shown', 'withheld', 'cited', 'success', 'failure', 'offered', 'worked', 'failed')
    ),
    item    TEXT
) STRICT;
INSERT INTO events_and_heals SELECT seq, at, request, kind, item FROM events;
DROP TABLE events;
ALTER TABLE events_and_heals RENAME TO events;
CREATE TRIGGER events_stay BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are never rewritten'); END;
CREATE TRIGGER events_go_when_forgotten BEFORE DELETE ON events
WHEN NOT EXISTS (SELECT 1 FROM forgotten WHERE item = OLD.item)
BEGIN SELECT RAISE(ABORT, 'events are only deleted to forget an item'); END;
