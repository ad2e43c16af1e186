-- Queries on requests, their payloads and their results. Times come in as :now; nothing reads a clock here.

-- name: next_seq
-- The number of the next request; those after it are free too, for the whole transaction.
SELECT coalesce(max(seq), 0) + 1 FROM requests;

-- name: insert_request
-- A fresh request, due at once.
INSERT INTO requests (
    seq, token, client, job, name, named, detached, lane, state, due, fresh, queued_at, ready_at, attempts, permanent,
    size, tokens, ordinal, held_by, deliveries, no_cache, no_store, fingerprint, body_hash
) VALUES (
    :seq, :token, :client, :job, :name, :named, :detached, :lane, 'queued', 1, 1, :now, :now, 0, 0,
    :size, :tokens, :ordinal, :held_by, 0, :no_cache, :no_store, :fingerprint, :body_hash
);

-- name: insert_stored
-- A finished slot out of the cache.
INSERT INTO requests (
    seq, token, client, job, named, detached, lane, state, due, fresh, queued_at, ready_at, attempts, ended_at, permanent,
    size, tokens, ordinal, deliveries, no_cache, no_store, result, fingerprint
) VALUES (
    :seq, :token, :client, :job, 0, 0, :lane, 'succeeded', 0, 0, :ended_at, :ended_at, 0, :ended_at, 0,
    :size, :tokens, :ordinal, 0, 0, 0, :result, :fingerprint
);

-- name: insert_payload
INSERT INTO payloads (seq, body, metadata) VALUES (:seq, :body, :metadata);

-- name: next_result
-- The number of the next result; those after it are free too, for the whole transaction.
SELECT coalesce(max(id), 0) + 1 FROM results;

-- name: insert_result
INSERT INTO results (id, status, code, cost_usd, saved_usd, body)
VALUES (:result, :status, :code, :cost_usd, :saved_usd, :body);

-- name: named_request
-- The holder of a name, as choosing among samples sees it.
SELECT r.seq, r.token, r.state, r.deliveries, r.first_delivered_at, r.last_delivered_at, r.ended_at, r.permanent,
       r.owed_until, r.no_store, r.body_hash, r.cancel_at, (SELECT kind FROM lanes WHERE id = r.lane)
FROM requests r WHERE r.name = :name AND r.job = :job AND r.client = :client AND r.named = 1;

-- name: lose_name
-- A failure that no longer matches, what is being cancelled, or was only rehearsed makes room for a new attempt of its name.
UPDATE requests SET named = 0 WHERE seq = :seq;

-- name: hold_request
-- A waiter of this boot is attached; pending only.
UPDATE requests SET held_by = :boot WHERE seq = :seq AND ended_at IS NULL;

-- name: promise_request
-- A caller was told to come back for it: it is kept, whoever leaves.
UPDATE requests SET detached = 1 WHERE seq = :seq;

-- name: detached_request
-- The same detached request, if it was accepted a moment ago. One with a name is found by that only.
SELECT seq, token FROM requests
WHERE fingerprint = :fingerprint AND detached = 1 AND queued_at >= :since AND name IS NULL
ORDER BY queued_at DESC, seq DESC LIMIT 1;

-- name: ending
-- How a request ended, if it did.
SELECT r.state, q.status, q.code, q.body, r.permanent, l.provider, r.batch, q.cost_usd, q.saved_usd
FROM requests r JOIN results q ON q.id = r.result JOIN lanes l ON l.id = r.lane
WHERE r.seq = :seq AND r.ended_at IS NOT NULL;

-- name: endings
-- Which of these requests (a JSON array of numbers) have ended.
SELECT r.seq FROM json_each(:seqs) j JOIN requests r ON r.seq = j.value WHERE r.ended_at IS NOT NULL;

-- name: request
SELECT r.seq, r.token, r.name, r.client, r.job, l.provider, l.endpoint, l.model, r.state, r.queued_at, r.attempts,
       r.batch, r.n, r.ended_at, r.cancel_at,
       CASE WHEN r.ended_at IS NOT NULL THEN NULL WHEN r.batch IS NULL THEN l.parked_reason ELSE b.parked_reason END,
       CASE WHEN r.ended_at IS NOT NULL THEN NULL WHEN r.batch IS NULL THEN l.retry_at ELSE b.retry_at END,
       b.state, p.metadata, r.ready_at, l.kind
FROM requests r
JOIN lanes l ON l.id = r.lane
LEFT JOIN batches b ON b.id = r.batch
LEFT JOIN payloads p ON p.seq = r.seq
WHERE r.seq = :seq;

-- name: seq_of_name
-- Who has a name; :client null asks for all clients, the latest first.
SELECT seq FROM requests
WHERE name = :name AND named = 1 AND job = :job AND (:client IS NULL OR client = :client)
ORDER BY seq DESC LIMIT 1;

-- name: seq_of_id
-- Whether this number, secret and client belong together.
SELECT seq FROM requests WHERE seq = :seq AND token = :token AND (:client IS NULL OR client = :client);

-- name: listed_requests
-- :states is a JSON array of words.
SELECT seq FROM requests
WHERE seq > :after_seq AND parent IS NULL AND (:client IS NULL OR client = :client) AND state IN (SELECT value FROM json_each(:states))
ORDER BY seq LIMIT :limit;

-- name: depart
-- A caller has gone: count its delivery, end this boot's hold if it was the last, note what is owed.
UPDATE requests SET
    deliveries = deliveries + :delivered,
    first_delivered_at = CASE WHEN :delivered THEN coalesce(first_delivered_at, :at) ELSE first_delivered_at END,
    last_delivered_at = CASE WHEN :delivered THEN max(coalesce(last_delivered_at, 0), :at) ELSE last_delivered_at END,
    left_at = CASE WHEN :last AND NOT :delivered AND held_by = :boot THEN :at ELSE left_at END,
    held_by = CASE WHEN :last AND held_by = :boot THEN NULL ELSE held_by END,
    owed_until = CASE WHEN :owed_until IS NULL THEN owed_until ELSE max(coalesce(owed_until, 0), :owed_until) END
WHERE seq = :seq;

-- name: queued_request
-- What a queued request counts for in its lane; none while it is being asked by itself.
SELECT lane, due, size, tokens, fresh FROM requests
WHERE seq = :seq AND state = 'queued'
  AND NOT EXISTS (SELECT 1 FROM completions c JOIN boots o ON o.id = c.boot WHERE c.seq = :seq AND o.ended_at IS NULL);

-- name: end_queued
UPDATE requests SET state = :state, due = 0, ended_at = :now, permanent = :permanent, result = :result
WHERE seq = :seq AND state = 'queued';

-- name: cancellable
SELECT 1 FROM requests
WHERE seq = :seq AND cancel_at IS NULL
  AND (state = 'batched' OR (state = 'queued' AND EXISTS (SELECT 1 FROM completions c WHERE c.seq = :seq)));

-- name: wish_cancel
-- Of a request that is with its provider; with the outcome it will have if it is not answered.
UPDATE requests SET cancel_at = :now, result = :result
WHERE seq = :seq AND state IN ('batched', 'queued') AND cancel_at IS NULL;

-- name: abandoned
-- Queued, nobody waits, the last one left before :before without an answer; of a family: some of it is not answered, and
-- none of it is with the provider. :but is a JSON array of numbers: those that somebody waits for without holding them.
SELECT r.seq FROM requests r
WHERE r.left_at IS NOT NULL AND r.state = 'queued' AND r.left_at <= :before
  AND r.held_by IS NULL AND r.deliveries = 0 AND r.detached = 0
  AND r.seq NOT IN (SELECT value FROM json_each(:but))
  AND (r.due <> 2 OR (
      EXISTS (SELECT 1 FROM requests c WHERE c.parent = r.seq AND c.ended_at IS NULL)
      AND NOT EXISTS (
          SELECT 1 FROM requests c WHERE c.parent = r.seq
            AND (c.state = 'batched' OR EXISTS (SELECT 1 FROM completions k WHERE k.seq = c.seq)))))
ORDER BY r.left_at LIMIT :limit;

-- name: overdue_fresh
-- Queued for too long in one lane and never in a batch: the oldest of its window.
SELECT seq FROM requests
WHERE lane = :lane AND state = 'queued' AND due = 1 AND ready_at <= :before AND fresh = 1
ORDER BY ready_at, seq LIMIT :limit;

-- name: overdue_again
-- Queued for too long, some of it in batches.
SELECT seq FROM requests WHERE state = 'queued' AND fresh = 0 AND queued_at <= :before ORDER BY queued_at LIMIT :limit;

-- name: ripe
-- Returned lines whose time has come.
SELECT seq, lane, size, tokens, fresh FROM requests
WHERE state = 'queued' AND due = 0 AND ready_at <= :now ORDER BY ready_at LIMIT :limit;

-- name: make_due
UPDATE requests SET due = 1 WHERE seq = :seq;

-- name: forgettable
-- Ended long ago, its batch over, and no parent waits for it. The newest request stays, so that its number is never given
-- again; of a fingerprint the highest slot stays as long as any, for the same reason: the cache may have its answer.
SELECT r.seq FROM requests r LEFT JOIN batches b ON b.id = r.batch
WHERE r.ended_at IS NOT NULL AND r.ended_at <= :before
  AND (b.id IS NULL OR b.state IN ('collected', 'dissolved'))
  AND (r.held_by IS NULL OR NOT EXISTS (
      SELECT 1 FROM boots o WHERE o.id = r.held_by AND o.ended_at IS NULL AND o.alive_until > :now))
  AND (r.parent IS NULL OR NOT EXISTS (SELECT 1 FROM requests p WHERE p.seq = r.parent AND p.ended_at IS NULL))
  AND r.seq < (SELECT max(seq) FROM requests)
  AND (r.ordinal IS NULL
       OR NOT EXISTS (SELECT 1 FROM requests s
                      WHERE s.fingerprint = r.fingerprint AND s.ordinal < r.ordinal AND s.ordinal IS NOT NULL)
       OR EXISTS (SELECT 1 FROM requests s
                  WHERE s.fingerprint = r.fingerprint AND s.ordinal > r.ordinal AND s.ordinal IS NOT NULL))
ORDER BY r.ended_at LIMIT :limit;

-- name: forget_result
DELETE FROM results WHERE id = (SELECT r.result FROM requests r WHERE r.seq = :seq);

-- name: forget_payload
DELETE FROM payloads WHERE seq = :seq;

-- name: forget_request
DELETE FROM requests WHERE seq = :seq;

-- name: count_due
SELECT coalesce(sum(due_count), 0) FROM lanes;

-- name: count_returned
SELECT count(*) FROM requests WHERE state = 'queued' AND due = 0;

-- name: count_batched
SELECT count(*) FROM requests WHERE state = 'batched';

-- name: count_ended
SELECT state, count(*) FROM requests WHERE ended_at IS NOT NULL GROUP BY state;
