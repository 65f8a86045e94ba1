-- Uses of valid keys that are still to be put into the tables of usage. A server
-- whose customers use most of their keys every few seconds writes one row for
-- each of them here, and all others once a minute.

-- +goose Up
CREATE TABLE recent_uses (
    key_id     TEXT NOT NULL,
    address    TEXT NOT NULL,
    hour       BIGINT NOT NULL,
    user_agent TEXT NOT NULL,
    first_at   BIGINT NOT NULL,
    last_at    BIGINT NOT NULL,
    count      BIGINT NOT NULL,
    PRIMARY KEY (key_id, address, hour)
);
