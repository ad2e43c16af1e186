-- Step 2. Since when a batch is parked: reasons come and go, and an operator asks how long it has been standing there.
-- How often it was sent in vain: that must come to an end. And what is under way is found without reading what is over.

-- Of a batch with a parked_reason; null: it was parked before this step was done.
ALTER TABLE batches ADD COLUMN parked_since REAL;
-- Creates that ended in doubt and made nothing.
ALTER TABLE batches ADD COLUMN unfound INTEGER NOT NULL DEFAULT 0;
-- How often the provider had it and forgot it.
ALTER TABLE batches ADD COLUMN vanished INTEGER NOT NULL DEFAULT 0;

-- In whose words the requests of a lane are written, kind: the provider's, after sandbox: where a simulator answers. Of older
-- lanes only the latter is known, by their batches.
CREATE TABLE lanes_of_kinds (
    id INTEGER PRIMARY KEY,
    provider TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    model TEXT NOT NULL,
    due_count INTEGER NOT NULL DEFAULT 0,
    due_size INTEGER NOT NULL DEFAULT 0,
    due_tokens INTEGER NOT NULL DEFAULT 0,
    due_fresh INTEGER NOT NULL DEFAULT 0,
    last_arrival_at REAL NOT NULL DEFAULT 0,
    target_tokens INTEGER,
    token_factor REAL NOT NULL DEFAULT 1,
    parked_reason TEXT,
    retry_at REAL NOT NULL DEFAULT 0,
    park_steps INTEGER NOT NULL DEFAULT 0,
    kind TEXT NOT NULL DEFAULT '',
    UNIQUE (provider, endpoint, model, kind)
);
INSERT INTO lanes_of_kinds (
    id, provider, endpoint, model, due_count, due_size, due_tokens, due_fresh, last_arrival_at, target_tokens, token_factor,
    parked_reason, retry_at, park_steps, kind
) SELECT
    l.id, l.provider, l.endpoint, l.model, l.due_count, l.due_size, l.due_tokens, l.due_fresh, l.last_arrival_at,
    l.target_tokens, l.token_factor, l.parked_reason, l.retry_at, l.park_steps,
    coalesce((SELECT CASE WHEN b.base_url LIKE 'sandbox:%' THEN 'sandbox:' ELSE '' END FROM batches b WHERE b.lane = l.id
              ORDER BY b.id DESC LIMIT 1), '')
FROM lanes l;
DROP TABLE lanes;
ALTER TABLE lanes_of_kinds RENAME TO lanes;

-- The latest batches in a state, also where there are few of them.
CREATE INDEX batches_state ON batches (state);
-- Create calls of the last hour.
CREATE INDEX batches_sent ON batches (last_sent_at) WHERE last_sent_at IS NOT NULL;
-- Which names in a provider's list are ours.
CREATE INDEX batches_remote ON batches (remote_id) WHERE remote_id IS NOT NULL;
-- Claims of a boot.
CREATE INDEX batches_owned ON batches (owner) WHERE owner IS NOT NULL;
-- Unsettled members of a batch that nobody wants any more.
CREATE INDEX requests_wished ON requests (batch, n, state, cancel_at) WHERE state = 'batched' AND cancel_at IS NOT NULL;
-- What was paid in vain.
CREATE INDEX lines_wasted ON lines (batch, cost_usd) WHERE wasted = 1;
