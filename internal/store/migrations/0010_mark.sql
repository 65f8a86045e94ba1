-- What a server knows its own row by, beside its ID: random, and another with each
-- renewal. Of two copies of one process the second to renew finds a mark that it
-- has not written. Empty for a server of an older version.
ALTER TABLE nodes ADD COLUMN mark TEXT NOT NULL DEFAULT '';
