-- What must hold between the rows of a sound ledger, for an operator's check. These read whole tables.

-- name: without_payload
SELECT count(*) FROM requests r WHERE r.ended_at IS NULL AND r.due <> 2
  AND NOT EXISTS (SELECT 1 FROM payloads p WHERE p.seq = r.seq);

-- name: without_result
SELECT count(*) FROM requests r WHERE r.ended_at IS NOT NULL
  AND (r.result IS NULL OR NOT EXISTS (SELECT 1 FROM results q WHERE q.id = r.result));

-- name: without_batch
SELECT count(*) FROM requests r WHERE r.state = 'batched'
  AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.id = r.batch AND b.state NOT IN ('collected', 'dissolved'));

-- name: without_lane
SELECT (SELECT count(*) FROM requests r WHERE NOT EXISTS (SELECT 1 FROM lanes l WHERE l.id = r.lane))
     + (SELECT count(*) FROM batches b WHERE NOT EXISTS (SELECT 1 FROM lanes l WHERE l.id = b.lane));

-- name: without_parent
SELECT count(*) FROM requests r WHERE r.parent IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM requests p WHERE p.seq = r.parent);

-- name: lines_without_batch
SELECT count(*) FROM lines i WHERE NOT EXISTS (SELECT 1 FROM batches b WHERE b.id = i.batch);

-- name: odd_states
SELECT count(*) FROM requests r WHERE (r.ended_at IS NULL) <> (r.state IN ('queued', 'batched'))
  OR (r.state = 'batched') > (r.batch IS NOT NULL AND r.n IS NOT NULL);

-- name: lane_differences
-- Lanes whose running totals are not what their rows say.
SELECT l.provider, l.model, l.due_count, count(r.seq)
FROM lanes l LEFT JOIN requests r ON r.lane = l.id AND r.state = 'queued' AND r.due = 1
GROUP BY l.id
HAVING l.due_count <> count(r.seq) OR l.due_size <> coalesce(sum(r.size), 0)
    OR l.due_tokens <> coalesce(sum(r.tokens), 0) OR l.due_fresh <> coalesce(sum(r.fresh), 0)
ORDER BY l.id;

-- name: recount_lanes
UPDATE lanes SET (due_count, due_size, due_tokens, due_fresh) = (
    SELECT count(*), coalesce(sum(r.size), 0), coalesce(sum(r.tokens), 0), coalesce(sum(r.fresh), 0)
    FROM requests r WHERE r.lane = lanes.id AND r.state = 'queued' AND r.due = 1);

-- name: parked_lanes
SELECT provider, model, due_count, parked_reason, retry_at FROM lanes WHERE parked_reason IS NOT NULL ORDER BY id;

-- name: waiting
-- Requests that wait to be sent, and since when the oldest does.
SELECT count(*), min(queued_at) FROM requests WHERE state = 'queued' AND due <> 2;
