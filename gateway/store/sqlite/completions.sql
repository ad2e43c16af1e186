-- Queries on requests that are asked one by one. A row in completions is the durable intent to ask, and a boot's claim.

-- name: askable_lanes
-- Of one provider, with something in their window.
SELECT id, provider, endpoint, model, parked_reason, retry_at, kind FROM lanes
WHERE provider = :provider AND due_count > 0 ORDER BY id;

-- name: next_to_ask
-- The oldest of a lane's window that no living boot asks, and who has asked it before.
SELECT r.seq, r.attempts, r.queued_at, r.cancel_at, p.body, c.boot, r.trouble, r.token, r.name
FROM requests r JOIN payloads p ON p.seq = r.seq LEFT JOIN completions c ON c.seq = r.seq
WHERE r.lane = :lane AND r.state = 'queued' AND r.due = 1
  AND (c.boot IS NULL OR (c.boot <> :boot AND NOT EXISTS (
      SELECT 1 FROM boots o WHERE o.id = c.boot AND o.ended_at IS NULL AND o.alive_until > :now)))
ORDER BY r.ready_at, r.seq LIMIT 1;

-- name: claim_request
INSERT INTO completions (seq, boot, claimed_at) VALUES (:seq, :boot, :now)
ON CONFLICT (seq) DO UPDATE SET boot = excluded.boot, claimed_at = excluded.claimed_at;

-- name: drop_claim
-- The fence: whoever does not hold the claim any more writes nothing but the bill.
DELETE FROM completions WHERE seq = :seq AND boot = :boot;

-- name: asked_request
SELECT seq, lane, due, size, tokens, fresh, fingerprint, ordinal, no_store, cancel_at FROM requests
WHERE seq = :seq AND state = 'queued';

-- name: end_asked
UPDATE requests SET state = :state, due = 0, ended_at = :now, permanent = :permanent, trouble = :trouble,
    result = :result, attempts = attempts + 1
WHERE seq = :seq AND state = 'queued';

-- name: end_wished_queued
-- With the outcome that was stored with the wish.
UPDATE requests SET state = 'cancelled', due = 0, ended_at = :now
WHERE seq = :seq AND state = 'queued' AND cancel_at IS NOT NULL AND result IS NOT NULL;

-- name: return_asked
UPDATE requests SET due = 0, fresh = 0, attempts = attempts + 1, ready_at = :not_before, trouble = :trouble
WHERE seq = :seq AND state = 'queued';

-- name: book_completion
-- One call more on the bill of its lane's model.
INSERT INTO bills (provider, model, requests, lines, cost_usd, saved_usd, wasted_usd, wasted_lines, unpriced_lines,
                   undiscounted_lines)
SELECT provider, model, :requests, 1, :cost_usd, 0, :wasted_usd, :wasted, :unpriced, :billed FROM lanes WHERE id = :lane
ON CONFLICT (provider, model) DO UPDATE SET
    requests = bills.requests + excluded.requests, lines = bills.lines + 1,
    cost_usd = bills.cost_usd + excluded.cost_usd, wasted_usd = bills.wasted_usd + excluded.wasted_usd,
    wasted_lines = bills.wasted_lines + excluded.wasted_lines,
    unpriced_lines = bills.unpriced_lines + excluded.unpriced_lines,
    undiscounted_lines = bills.undiscounted_lines + excluded.undiscounted_lines;

-- name: forget_completions
-- Claims that a crash left on requests which ended, or went into a batch, without being asked again.
DELETE FROM completions WHERE NOT EXISTS (SELECT 1 FROM requests r WHERE r.seq = completions.seq AND r.state = 'queued');

-- name: count_completions
-- For tests and for doctors.
SELECT count(*) FROM completions;
