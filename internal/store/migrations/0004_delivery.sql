-- Deliveries of events to endpoints, and every attempt at one.

-- Who made the endpoint, and the permissions of whoever last said where to it
-- leads and what it gets: no event goes there that they could not see.
ALTER TABLE endpoints ADD COLUMN creator_kind TEXT NOT NULL DEFAULT '';
ALTER TABLE endpoints ADD COLUMN creator_id TEXT NOT NULL DEFAULT '';
ALTER TABLE endpoints ADD COLUMN creator_name TEXT NOT NULL DEFAULT '';
ALTER TABLE endpoints ADD COLUMN sees TEXT NOT NULL DEFAULT '[]';
-- Since when no attempt has succeeded; 0 when the last one did.
ALTER TABLE endpoints ADD COLUMN failing_since BIGINT NOT NULL DEFAULT 0;
-- When there is something to send to it; 0 for nothing. One node at a time
-- sends to an endpoint, so that events about one object stay in order.
ALTER TABLE endpoints ADD COLUMN due_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE endpoints ADD COLUMN claimed_by TEXT NOT NULL DEFAULT '';
ALTER TABLE endpoints ADD COLUMN claimed_till BIGINT NOT NULL DEFAULT 0;
CREATE INDEX endpoints_due ON endpoints (due_at) WHERE due_at > 0 AND state = 0;
CREATE INDEX endpoints_claimed ON endpoints (claimed_by) WHERE claimed_by <> '';

ALTER TABLE deliveries DROP COLUMN claimed_by;
ALTER TABLE deliveries DROP COLUMN claimed_till;
-- The object that the event is about, and attempts since the schedule began.
ALTER TABLE deliveries ADD COLUMN object_id TEXT NOT NULL DEFAULT '';
ALTER TABLE deliveries ADD COLUMN tries BIGINT NOT NULL DEFAULT 0;
DROP INDEX deliveries_due;
CREATE INDEX deliveries_due ON deliveries (endpoint_id, next_at, id) WHERE state = 0;
CREATE INDEX deliveries_state ON deliveries (endpoint_id, state, id);

CREATE TABLE attempts (
    delivery_id TEXT NOT NULL REFERENCES deliveries (id) ON DELETE CASCADE,
    number      BIGINT NOT NULL,
    at          BIGINT NOT NULL,
    took        BIGINT NOT NULL,
    status      BIGINT NOT NULL,
    address     TEXT NOT NULL,
    error       TEXT NOT NULL,
    body        TEXT NOT NULL,
    PRIMARY KEY (delivery_id, number)
);
