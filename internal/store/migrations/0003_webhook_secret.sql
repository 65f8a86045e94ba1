-- Ways to webhook secrets: those of an endpoint, those that end, and those
-- under a master key, which a rotation of that one seals anew.

CREATE INDEX webhook_secrets_endpoint ON webhook_secrets (endpoint_id, id) WHERE endpoint_id <> '';
CREATE INDEX webhook_secrets_expiry ON webhook_secrets (expires_at) WHERE expires_at > 0 AND state < 2;
CREATE INDEX webhook_secrets_master ON webhook_secrets (master_key, id);
CREATE INDEX webhook_secrets_replaces ON webhook_secrets (replaces) WHERE replaces <> '';
CREATE INDEX webhook_secrets_replaced_by ON webhook_secrets (replaced_by) WHERE replaced_by <> '';
-- For the retention of those that are over.
CREATE INDEX webhook_secrets_revoked ON webhook_secrets (revoked_at) WHERE state = 2;
CREATE INDEX webhook_secrets_expired ON webhook_secrets (expires_at) WHERE state = 3;
