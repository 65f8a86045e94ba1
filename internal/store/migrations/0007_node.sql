-- What each server says of itself beside how far it has come, and which
-- versions may work with this schema.

-- Replicas attached to it, as JSON, and their number.
ALTER TABLE nodes ADD COLUMN replicas TEXT NOT NULL DEFAULT '[]';
ALTER TABLE nodes ADD COLUMN replica_count BIGINT NOT NULL DEFAULT 0;
-- IDs of the master keys it holds, separated by spaces; none for none, and
-- empty where it has not said.
ALTER TABLE nodes ADD COLUMN master_keys TEXT NOT NULL DEFAULT '';

-- The number of the oldest schema that a version must know to work with this
-- one. A migration that older versions can't work with raises it; one that
-- only adds what they don't look at leaves it.
CREATE TABLE schema_floor (
    one    BIGINT PRIMARY KEY CHECK (one = 1),
    oldest BIGINT NOT NULL
);
INSERT INTO schema_floor (one, oldest) VALUES (1, 7);
