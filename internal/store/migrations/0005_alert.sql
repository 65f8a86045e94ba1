-- What someone should see to: alerts, the failed attempts that some of them
-- come from, and the mails that tell of them.

-- When a key is to be looked at next, for what comes due by the clock: 0 is
-- now, -1 never. Whoever changes what alerts go by sets it to 0.
ALTER TABLE keys ADD COLUMN look_at BIGINT NOT NULL DEFAULT 0;
CREATE INDEX keys_look ON keys (look_at) WHERE look_at >= 0;

CREATE TABLE alerts (
    id              TEXT PRIMARY KEY,
    workspace_id    TEXT NOT NULL REFERENCES workspaces (id),
    type            TEXT NOT NULL,
    key_id          TEXT NOT NULL DEFAULT '',
    key_name        TEXT NOT NULL DEFAULT '',
    stage           TEXT NOT NULL DEFAULT '',
    facts           TEXT NOT NULL,
    opened_at       BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    closed_at       BIGINT NOT NULL DEFAULT 0,
    acknowledged_at BIGINT NOT NULL DEFAULT 0,
    acknowledged_by TEXT NOT NULL DEFAULT '{}'
);
-- One cause has one open alert, whatever several nodes do at once.
CREATE UNIQUE INDEX alerts_cause ON alerts (type, workspace_id, key_id) WHERE closed_at = 0;
CREATE INDEX alerts_list ON alerts (workspace_id, id);
CREATE INDEX alerts_open ON alerts (workspace_id, id) WHERE closed_at = 0;
CREATE INDEX alerts_closed ON alerts (workspace_id, id) WHERE closed_at > 0;
CREATE INDEX alerts_key ON alerts (key_id) WHERE closed_at = 0 AND key_id <> '';
-- For their retention.
CREATE INDEX alerts_age ON alerts (closed_at) WHERE closed_at > 0;

-- Failed attempts by the window of time that begins at at.
CREATE TABLE auth_failures (
    workspace_id TEXT NOT NULL,
    at           BIGINT NOT NULL,
    code         TEXT NOT NULL,
    count        BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, at, code)
);
CREATE INDEX auth_failures_at ON auth_failures (at, workspace_id);

-- Where they came from, so many of a workspace and window at most. An empty
-- source stands for all others.
CREATE TABLE auth_failure_sources (
    workspace_id TEXT NOT NULL,
    at           BIGINT NOT NULL,
    source       TEXT NOT NULL,
    key_id       TEXT NOT NULL,
    code         TEXT NOT NULL,
    count        BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, at, source, key_id, code)
);
CREATE INDEX auth_failure_sources_at ON auth_failure_sources (at);

-- The mails, one for each alert, stage and member. State 0 waits, 1 is sent,
-- 2 is given up or not needed any more. Whoever sends some takes them for a
-- while, so that they are sent again should it be killed.
CREATE TABLE alert_mails (
    alert_id   TEXT NOT NULL REFERENCES alerts (id),
    stage      TEXT NOT NULL,
    member_id  TEXT NOT NULL,
    state      BIGINT NOT NULL DEFAULT 0,
    next_at    BIGINT NOT NULL,
    attempts   BIGINT NOT NULL DEFAULT 0,
    taken_by   TEXT NOT NULL DEFAULT '',
    taken_till BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (alert_id, stage, member_id)
);
CREATE INDEX alert_mails_due ON alert_mails (next_at) WHERE state = 0;
CREATE INDEX alert_mails_member ON alert_mails (member_id) WHERE state = 0;
