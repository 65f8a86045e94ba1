-- Sums of usage by day (UTC) and by ten days, so that what is asked about
-- months reads few rows. They are written with the uses themselves.

-- days is how many a sum is of, 1 or 10; at is when they began.
CREATE TABLE usage_sums (
    key_id       TEXT NOT NULL,
    days         BIGINT NOT NULL,
    at           BIGINT NOT NULL,
    code         TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    count        BIGINT NOT NULL,
    PRIMARY KEY (key_id, days, at, code)
);
INSERT INTO usage_sums (key_id, days, at, code, workspace_id, count)
    SELECT key_id, 1, hour - hour % 86400000, code, workspace_id, CAST(SUM(count) AS BIGINT) FROM usage GROUP BY 1, 2, 3, 4, 5;
INSERT INTO usage_sums (key_id, days, at, code, workspace_id, count)
    SELECT key_id, 10, at - at % 864000000, code, workspace_id, CAST(SUM(count) AS BIGINT) FROM usage_sums GROUP BY 1, 2, 3, 4, 5;
-- The sums of all keys of a workspace come from the index alone.
CREATE INDEX usage_sums_workspace ON usage_sums (workspace_id, days, at, key_id, count);
CREATE INDEX usage_sums_at ON usage_sums (days, at);

-- Those of all keys that a workspace has, by day.
CREATE TABLE workspace_usage (
    workspace_id TEXT NOT NULL,
    day          BIGINT NOT NULL,
    code         TEXT NOT NULL,
    count        BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, day, code)
);
INSERT INTO workspace_usage (workspace_id, day, code, count)
    SELECT workspace_id, at, code, CAST(SUM(count) AS BIGINT) FROM usage_sums WHERE days = 1 GROUP BY 1, 2, 3;
CREATE INDEX workspace_usage_day ON workspace_usage (day);

-- A version that does not keep the sums would leave holes in them.
UPDATE schema_floor SET oldest = 8;
