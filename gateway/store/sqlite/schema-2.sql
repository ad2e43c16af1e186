-- Step 2. Since when a batch is parked: reasons come and go, and an operator asks how long it has been standing there.
-- And what is under way is found without reading what is over.

-- Of a batch with a parked_reason; null: it was parked before this step was done.
ALTER TABLE batches ADD COLUMN parked_since REAL;

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
