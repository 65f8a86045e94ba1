-- How people get in: sessions, passkeys, and what a one-time link is for.

-- A session, known by the SHA-256 of its cookie's token. No person is someone
-- who came with a link of the operator's. A workspace bounds it to that one.
CREATE TABLE sessions (
    digest       BYTEA PRIMARY KEY,
    id           TEXT NOT NULL UNIQUE,
    kind         TEXT NOT NULL,
    person_id    TEXT NOT NULL DEFAULT '',
    workspace_id TEXT NOT NULL DEFAULT '',
    return_url   TEXT NOT NULL DEFAULT '',
    address      TEXT NOT NULL DEFAULT '',
    user_agent   TEXT NOT NULL DEFAULT '',
    created_at   BIGINT NOT NULL,
    fresh_at     BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL
);
CREATE INDEX sessions_person ON sessions (person_id, id);
CREATE INDEX sessions_expiry ON sessions (expires_at);

CREATE TABLE passkeys (
    id            TEXT PRIMARY KEY,
    credential_id BYTEA NOT NULL UNIQUE,
    person_id     TEXT NOT NULL REFERENCES people (id),
    name          TEXT NOT NULL,
    credential    TEXT NOT NULL,
    created_at    BIGINT NOT NULL,
    used_at       BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX passkeys_person ON passkeys (person_id, id);

-- What the page behind a link needs: whom it lets in, and what was begun.
ALTER TABLE links ADD COLUMN person_id TEXT NOT NULL DEFAULT '';
ALTER TABLE links ADD COLUMN data TEXT NOT NULL DEFAULT '';
CREATE INDEX members_person ON members (person_id, workspace_id);
