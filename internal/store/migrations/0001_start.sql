-- One text for SQLite and PostgreSQL, so that the two can never differ. Times
-- are Unix milliseconds, 0 meaning never; flags are 0 or 1; lists and maps are
-- JSON; BYTEA is what SQLite stores as a blob. No column is ever NULL.

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- The change log. A node that serves verifications follows it.
CREATE TABLE change_head (
    one      BIGINT PRIMARY KEY CHECK (one = 1),
    seq      BIGINT NOT NULL,
    timeline BIGINT NOT NULL
);

CREATE TABLE changes (
    seq       BIGINT PRIMARY KEY,
    token     BYTEA NOT NULL,
    kind      TEXT NOT NULL,
    object_id TEXT NOT NULL,
    at        BIGINT NOT NULL
);

CREATE TABLE nodes (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL,
    version       TEXT NOT NULL,
    renewals      BIGINT NOT NULL,
    applied       BIGINT NOT NULL,
    applied_token BYTEA NOT NULL,
    stale_for     BIGINT NOT NULL,
    started_at    BIGINT NOT NULL
);

CREATE TABLE workspaces (
    id               TEXT PRIMARY KEY,
    name             TEXT NOT NULL,
    plan             TEXT NOT NULL,
    suspended        BIGINT NOT NULL DEFAULT 0,
    suspended_reason TEXT NOT NULL DEFAULT '',
    ip_allowlist     TEXT NOT NULL DEFAULT '[]',
    operator         BIGINT NOT NULL DEFAULT 0,
    search           TEXT NOT NULL,
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL
);

-- Roles that workspaces made. Those of the profile are not stored.
CREATE TABLE roles (
    id           TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    name         TEXT NOT NULL,
    description  TEXT NOT NULL DEFAULT '',
    permissions  TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    UNIQUE (workspace_id, name)
);
CREATE INDEX roles_list ON roles (workspace_id, id);

CREATE TABLE people (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL DEFAULT '',
    email      TEXT NOT NULL DEFAULT '',
    issuer     TEXT NOT NULL DEFAULT '',
    subject    TEXT NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL
);
-- Issuer and subject identify a person; an e-mail address never does.
CREATE UNIQUE INDEX people_subject ON people (issuer, subject) WHERE subject <> '';

CREATE TABLE members (
    id           TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    person_id    TEXT NOT NULL REFERENCES people (id),
    role_id      TEXT NOT NULL,
    status       TEXT NOT NULL,
    invited_by   TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    -- What this workspace calls the person. What another does is not its business.
    name         TEXT NOT NULL DEFAULT '',
    email        TEXT NOT NULL DEFAULT '',
    UNIQUE (workspace_id, person_id)
);
CREATE INDEX members_list ON members (workspace_id, id);
CREATE INDEX members_role ON members (role_id);

CREATE TABLE keys (
    id              TEXT PRIMARY KEY,
    workspace_id    TEXT NOT NULL REFERENCES workspaces (id),
    digest          BYTEA NOT NULL UNIQUE,
    name            TEXT NOT NULL,
    description     TEXT NOT NULL DEFAULT '',
    preview         TEXT NOT NULL,
    state           BIGINT NOT NULL,
    role_id         TEXT NOT NULL,
    permissions     TEXT NOT NULL DEFAULT '[]',
    environment     TEXT NOT NULL DEFAULT '',
    ip_allowlist    TEXT NOT NULL DEFAULT '[]',
    metadata        TEXT NOT NULL DEFAULT '{}',
    owner           TEXT NOT NULL DEFAULT '',
    imported        BIGINT NOT NULL DEFAULT 0,
    search          TEXT NOT NULL,
    created_at      BIGINT NOT NULL,
    creator_kind    TEXT NOT NULL,
    creator_id      TEXT NOT NULL,
    creator_name    TEXT NOT NULL,
    updated_at      BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL DEFAULT 0,
    former_end      BIGINT NOT NULL DEFAULT 0,
    disabled_at     BIGINT NOT NULL DEFAULT 0,
    disabled_reason TEXT NOT NULL DEFAULT '',
    revoked_at      BIGINT NOT NULL DEFAULT 0,
    revoked_by      TEXT NOT NULL DEFAULT '{}',
    revoked_reason  TEXT NOT NULL DEFAULT '',
    replaces        TEXT NOT NULL DEFAULT '',
    replaced_by     TEXT NOT NULL DEFAULT '',
    reviewed_at     BIGINT NOT NULL DEFAULT 0,
    reviewed_by     TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX keys_list ON keys (workspace_id, id);
CREATE INDEX keys_state ON keys (workspace_id, state, id);
-- For the count of keys against a plan: all active ones, less those in rotation.
CREATE INDEX keys_active ON keys (workspace_id, expires_at) WHERE state = 0;
CREATE INDEX keys_rotating ON keys (workspace_id, expires_at, replaced_by) WHERE state = 0 AND replaced_by <> '';
CREATE INDEX keys_role ON keys (role_id) WHERE state < 2;
CREATE INDEX keys_replaces ON keys (replaces) WHERE replaces <> '';
CREATE INDEX keys_replaced_by ON keys (replaced_by) WHERE replaced_by <> '';
CREATE INDEX keys_creator ON keys (creator_id, id);
CREATE INDEX keys_expiry ON keys (expires_at) WHERE expires_at > 0 AND state < 2;
-- For the retention of keys that are over.
CREATE INDEX keys_revoked ON keys (revoked_at) WHERE state = 2;
CREATE INDEX keys_expired ON keys (expires_at) WHERE state = 3;

-- Usage has tables of its own, so that flushing it never touches a key's row.
CREATE TABLE key_use (
    key_id     TEXT PRIMARY KEY,
    at         BIGINT NOT NULL,
    address    TEXT NOT NULL,
    user_agent TEXT NOT NULL
);

CREATE TABLE usage (
    key_id       TEXT NOT NULL,
    hour         BIGINT NOT NULL,
    code         TEXT NOT NULL,
    workspace_id TEXT NOT NULL,
    count        BIGINT NOT NULL,
    PRIMARY KEY (key_id, hour, code)
);
CREATE INDEX usage_workspace ON usage (workspace_id, hour DESC, key_id);
CREATE INDEX usage_hour ON usage (hour);

CREATE TABLE key_sources (
    key_id     TEXT NOT NULL,
    address    TEXT NOT NULL,
    code       TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    first_at   BIGINT NOT NULL,
    last_at    BIGINT NOT NULL,
    count      BIGINT NOT NULL,
    PRIMARY KEY (key_id, address, code)
);
CREATE INDEX key_sources_last ON key_sources (last_at);

CREATE TABLE audit (
    id           TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL,
    at           BIGINT NOT NULL,
    actor_kind   TEXT NOT NULL,
    actor_id     TEXT NOT NULL,
    actor_name   TEXT NOT NULL,
    action       TEXT NOT NULL,
    object_kind  TEXT NOT NULL,
    object_id    TEXT NOT NULL,
    object_name  TEXT NOT NULL,
    address      TEXT NOT NULL,
    user_agent   TEXT NOT NULL,
    request_id   TEXT NOT NULL,
    reason       TEXT NOT NULL,
    before       TEXT NOT NULL,
    after        TEXT NOT NULL
);
CREATE INDEX audit_list ON audit (workspace_id, id);
CREATE INDEX audit_object ON audit (object_id, id);
CREATE INDEX audit_actor ON audit (actor_id, id);
CREATE INDEX audit_at ON audit (at);

-- The outbox: a row commits with the change it tells of.
CREATE TABLE events (
    id           TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL,
    type         TEXT NOT NULL,
    object_id    TEXT NOT NULL,
    at           BIGINT NOT NULL,
    data         TEXT NOT NULL,
    pending      BIGINT NOT NULL DEFAULT 1
);
CREATE INDEX events_pending ON events (id) WHERE pending = 1;
CREATE INDEX events_list ON events (workspace_id, id);
CREATE INDEX events_at ON events (at);

CREATE TABLE webhook_secrets (
    id              TEXT PRIMARY KEY,
    workspace_id    TEXT NOT NULL REFERENCES workspaces (id),
    endpoint_id     TEXT NOT NULL DEFAULT '',
    label           TEXT NOT NULL,
    environment     TEXT NOT NULL DEFAULT '',
    algorithm       TEXT NOT NULL,
    preview         TEXT NOT NULL,
    state           BIGINT NOT NULL,
    master_key      TEXT NOT NULL,
    sealed          BYTEA NOT NULL,
    created_at      BIGINT NOT NULL,
    creator_kind    TEXT NOT NULL,
    creator_id      TEXT NOT NULL,
    creator_name    TEXT NOT NULL,
    updated_at      BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL DEFAULT 0,
    former_end      BIGINT NOT NULL DEFAULT 0,
    revoked_at      BIGINT NOT NULL DEFAULT 0,
    revoked_by      TEXT NOT NULL DEFAULT '{}',
    revoked_reason  TEXT NOT NULL DEFAULT '',
    replaces        TEXT NOT NULL DEFAULT '',
    replaced_by     TEXT NOT NULL DEFAULT ''
);
CREATE INDEX webhook_secrets_list ON webhook_secrets (workspace_id, id);

CREATE TABLE webhook_secret_use (
    webhook_secret_id TEXT PRIMARY KEY,
    signed_at         BIGINT NOT NULL DEFAULT 0,
    verified_at       BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE endpoints (
    id           TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL REFERENCES workspaces (id),
    url          TEXT NOT NULL,
    description  TEXT NOT NULL DEFAULT '',
    event_types  TEXT NOT NULL,
    state        BIGINT NOT NULL,
    state_reason TEXT NOT NULL DEFAULT '',
    allow_ranges TEXT NOT NULL DEFAULT '[]',
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL
);
CREATE INDEX endpoints_list ON endpoints (workspace_id, id);

CREATE TABLE deliveries (
    id           TEXT PRIMARY KEY,
    workspace_id TEXT NOT NULL,
    event_id     TEXT NOT NULL,
    endpoint_id  TEXT NOT NULL,
    state        BIGINT NOT NULL,
    attempts     BIGINT NOT NULL DEFAULT 0,
    next_at      BIGINT NOT NULL DEFAULT 0,
    claimed_by   TEXT NOT NULL DEFAULT '',
    claimed_till BIGINT NOT NULL DEFAULT 0,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL
);
CREATE INDEX deliveries_due ON deliveries (next_at) WHERE state = 0;
CREATE INDEX deliveries_list ON deliveries (endpoint_id, id);
CREATE INDEX deliveries_event ON deliveries (event_id);

-- One-time links, by the SHA-256 of their token.
CREATE TABLE links (
    digest       BYTEA PRIMARY KEY,
    workspace_id TEXT NOT NULL,
    purpose      TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    used_at      BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX links_expiry ON links (expires_at);
CREATE INDEX links_workspace ON links (workspace_id);

-- Answers to requests that came with an Idempotency-Key, without their secrets.
CREATE TABLE idempotency (
    scope      BYTEA PRIMARY KEY,
    request    BYTEA NOT NULL,
    response   TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX idempotency_age ON idempotency (created_at);
