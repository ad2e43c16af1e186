-- Families: a request that asks for n answers, and its n children, each of which asks for one.

-- name: insert_child
-- A fresh request, due at once, that nobody names, holds or serves: its answer is for its parent.
INSERT INTO requests (
    seq, token, client, job, named, detached, lane, state, due, fresh, queued_at, ready_at, attempts, permanent,
    size, tokens, deliveries, no_cache, no_store, fingerprint, parent
) VALUES (
    :seq, :token, :client, :job, 0, 0, :lane, 'queued', 1, 1, :now, :now, 0, 0,
    :size, :tokens, 0, 0, 1, :fingerprint, :parent
);

-- name: wait_for_children
UPDATE requests SET due = 2 WHERE seq = :seq;

-- name: waits_for_children
SELECT fingerprint, ordinal, no_store FROM requests WHERE seq = :seq AND state = 'queued' AND due = 2;

-- name: children
SELECT seq, state FROM requests WHERE parent = :parent ORDER BY seq;

-- name: families_told
-- Parents that may end: one child failed, or none is left that has not ended. Also those that have ended already.
SELECT DISTINCT c.parent FROM requests c
WHERE c.parent IS NOT NULL AND c.ended_at IS NOT NULL
  AND (c.state <> 'succeeded'
       OR NOT EXISTS (SELECT 1 FROM requests s WHERE s.parent = c.parent AND s.ended_at IS NULL))
LIMIT :limit;

-- name: wish_family_cancel
UPDATE requests SET cancel_at = coalesce(cancel_at, :now) WHERE seq = :seq AND state = 'queued';

-- name: waste_line
-- The line by which a child was answered, if it was in a batch: it is kept as long as the child is.
UPDATE lines SET wasted = 1
WHERE id = (SELECT i.id FROM requests r JOIN lines i ON i.batch = r.batch AND i.n = r.n
            WHERE r.seq = :seq AND r.state = 'succeeded' AND i.seq = r.seq AND i.billed = 1);

-- name: waste_completion
-- The call by which a child was answered that was asked by itself: it is on the bill, as one that was of use. One with a word of
-- trouble has an answer that was kept for want of a better one, which is on the bill as wasted already.
INSERT INTO bills (provider, model, requests, lines, cost_usd, saved_usd, wasted_usd, wasted_lines, unpriced_lines)
SELECT l.provider, l.model, 0, 0, 0, 0, coalesce(q.cost_usd, 0), 1, 0
FROM requests r JOIN lanes l ON l.id = r.lane JOIN results q ON q.id = r.result
WHERE r.seq = :seq AND r.state = 'succeeded' AND r.batch IS NULL AND r.trouble IS NULL
ON CONFLICT (provider, model) DO UPDATE SET
    wasted_usd = bills.wasted_usd + excluded.wasted_usd, wasted_lines = bills.wasted_lines + excluded.wasted_lines;
