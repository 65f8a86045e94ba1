-- What comes due of webhook secrets, when mails were sent, and why an endpoint
-- fails.
--
-- When each webhook secret is to be looked at next, as with keys. An alert about one has its ID and label as key_id and key_name.

ALTER TABLE webhook_secrets ADD COLUMN look_at BIGINT NOT NULL DEFAULT 0;
CREATE INDEX webhook_secrets_look ON webhook_secrets (look_at) WHERE look_at >= 0;

-- The mails that were sent to a member; next_at says when.
CREATE INDEX alert_mails_sent ON alert_mails (member_id, next_at) WHERE state = 1;

-- The latest attempt that failed, as JSON; empty while attempts succeed.
ALTER TABLE endpoints ADD COLUMN failure TEXT NOT NULL DEFAULT '';
