-- Queries on answers that were paid, did not satisfy what their requests asked for, and are served if no better one comes.
-- Such a result is named by a request that has not ended, and whose cancel is not wished.

-- name: keep_answer
UPDATE requests SET result = :result WHERE seq = :seq AND ended_at IS NULL AND cancel_at IS NULL;

-- name: kept_answers
-- Of these requests (a JSON array of numbers).
SELECT r.seq, q.status, q.code, q.body, l.provider, r.batch, q.cost_usd, q.saved_usd
FROM json_each(:seqs) j CROSS JOIN requests r ON r.seq = j.value
JOIN results q ON q.id = r.result JOIN lanes l ON l.id = r.lane
WHERE r.ended_at IS NULL AND r.cancel_at IS NULL;
