-- Queries on batches and their lines. Every change of a claimed batch says WHERE epoch = :epoch, and from which states.

-- name: cut
-- How much of a lane's window one batch takes, oldest first: the longest run within the limits, at least one request.
SELECT count(*), sum(size), sum(tokens), sum(fresh) FROM (
    SELECT size, tokens, fresh,
           row_number() OVER w AS k, sum(size) OVER w AS bytes_so_far, sum(tokens) OVER w AS tokens_so_far
    FROM (SELECT ready_at, seq, size, tokens, fresh FROM requests
          WHERE lane = :lane AND state = 'queued' AND due = 1 ORDER BY ready_at, seq LIMIT :max_requests)
    WINDOW w AS (ORDER BY ready_at, seq ROWS UNBOUNDED PRECEDING))
WHERE k = 1 OR (bytes_so_far <= :max_bytes AND tokens_so_far <= :max_tokens);

-- name: lane_factor
SELECT token_factor FROM lanes WHERE id = :lane;

-- name: insert_batch
INSERT INTO batches (marker, lane, account, base_url, state, count, size, tokens, sealed_at, retry_at)
VALUES (:marker, :lane, :account, :base_url, 'sealed', :count, :size, :tokens, :now, :retry_at)
RETURNING id;

-- name: seal
-- The oldest :count of a lane's window become the lines of a batch, in order, from 0.
UPDATE requests SET state = 'batched', due = 0, batch = :batch, n = w.n
FROM (SELECT seq, row_number() OVER (ORDER BY ready_at, seq) - 1 AS n FROM requests
      WHERE lane = :lane AND state = 'queued' AND due = 1 ORDER BY ready_at, seq LIMIT :count) AS w
WHERE requests.seq = w.seq;

-- name: reseal_part
-- The first :count unsettled lines of a dissolved batch become the lines of another one.
UPDATE requests SET batch = :part, n = w.n
FROM (SELECT seq, row_number() OVER (ORDER BY n) - 1 AS n FROM requests
      WHERE batch = :batch AND state = 'batched' ORDER BY n LIMIT :count) AS w
WHERE requests.seq = w.seq;

-- name: part_totals
SELECT count(*), coalesce(sum(size), 0), coalesce(sum(tokens), 0) FROM requests WHERE batch = :batch AND state = 'batched';

-- name: size_batch
UPDATE batches SET count = :count, size = :size, tokens = :tokens, unfound = :unfound, vanished = :vanished
WHERE id = :batch;

-- name: batch
SELECT b.id, b.marker, b.lane, l.provider, l.endpoint, l.model, b.account, b.base_url, b.state, b.epoch, b.count, b.size,
       CAST(b.tokens * l.token_factor AS INTEGER), b.sealed_at, b.file_id, b.remote_id, b.remote_state, b.remote_notes,
       b.submissions, b.first_sent_at, b.last_sent_at, b.submitted_at, b.remote_created_at, b.ended_at, b.collected_at,
       b.total, b.done, b.ambiguous, b.fetches, b.fetched, b.troubles, b.parked_reason, b.retry_at, b.cancel_at,
       b.discarded, CASE WHEN b.parked_reason IS NOT NULL THEN b.parked_since END, b.unfound, b.vanished, l.kind
FROM batches b JOIN lanes l ON l.id = b.lane WHERE b.id = :id;

-- name: claimable
-- Due, in these states (a JSON array of words), not of these accounts (another), and not owned by a living boot.
SELECT b.id FROM batches b
WHERE b.state NOT IN ('collected', 'dissolved') AND b.state IN (SELECT value FROM json_each(:states))
  AND b.retry_at <= :now
  AND (:but_of = '[]' OR (SELECT CASE b.account WHEN '' THEN 'provider:' || l.provider ELSE b.account END
                          FROM lanes l WHERE l.id = b.lane) NOT IN (SELECT value FROM json_each(:but_of)))
  AND (b.owner IS NULL OR (b.owner <> :boot AND NOT EXISTS (
      SELECT 1 FROM boots o WHERE o.id = b.owner AND o.ended_at IS NULL AND o.alive_until > :now)))
ORDER BY b.retry_at, b.id LIMIT :limit;

-- name: claim
UPDATE batches SET owner = :boot, epoch = epoch + 1
WHERE id = :id
  AND (owner IS NULL OR (owner <> :boot AND NOT EXISTS (
      SELECT 1 FROM boots o WHERE o.id = owner AND o.ended_at IS NULL AND o.alive_until > :now)));

-- name: release
-- parked_since counts only beside a reason, and starts anew with the first one.
UPDATE batches SET owner = NULL, retry_at = :retry_at, parked_reason = :parked_reason, troubles = :troubles,
    parked_since = CASE WHEN parked_reason IS NULL THEN :now ELSE coalesce(parked_since, :now) END
WHERE id = :id AND epoch = :epoch;

-- name: uploaded
UPDATE batches SET file_id = :file_id WHERE id = :id AND epoch = :epoch AND state = 'sealed';

-- name: intend
UPDATE batches SET state = 'submitting', submissions = submissions + 1,
    first_sent_at = coalesce(first_sent_at, :now), last_sent_at = :now
WHERE id = :id AND epoch = :epoch AND state = 'sealed';

-- name: submitted
UPDATE batches SET state = 'submitted', owner = NULL, submitted_at = coalesce(submitted_at, :now), remote_id = :remote_id,
    remote_state = :remote_state, remote_notes = :remote_notes, remote_created_at = :remote_created_at,
    total = :total, done = :done, retry_at = :retry_at, parked_reason = NULL, troubles = 0
WHERE id = :id AND epoch = :epoch AND state IN ('submitting', 'reconciling');

-- name: reseal
-- What will be sent again has its own age. From reconciling its last create was in vain, or what it made has vanished.
UPDATE batches SET unfound = unfound + (state = 'reconciling' AND submitted_at IS NULL),
    vanished = vanished + (state = 'reconciling' AND submitted_at IS NOT NULL), state = 'sealed', owner = NULL, submitted_at = NULL, retry_at = :retry_at, parked_reason = :reason,
    troubles = :troubles,
    parked_since = CASE WHEN parked_reason IS NULL THEN :now ELSE coalesce(parked_since, :now) END
WHERE id = :id AND epoch = :epoch AND state IN ('submitting', 'reconciling');

-- name: doubt
UPDATE batches SET state = 'reconciling', owner = NULL, ambiguous = 1, retry_at = :retry_at, parked_reason = :reason,
    parked_since = CASE WHEN parked_reason IS NULL THEN :now ELSE coalesce(parked_since, :now) END
WHERE id = :id AND epoch = :epoch AND state IN ('submitting', 'submitted');

-- name: polled
-- What the provider does not say any more stays as it was.
UPDATE batches SET owner = NULL, remote_state = :remote_state, remote_notes = :remote_notes,
    remote_created_at = coalesce(:remote_created_at, remote_created_at),
    total = coalesce(:total, total), done = coalesce(:done, done),
    retry_at = :retry_at, troubles = :troubles, parked_reason = NULL
WHERE id = :id AND epoch = :epoch AND state = 'submitted';

-- name: ended
-- What was done while it ran says nothing of what was done when it ended.
UPDATE batches SET state = 'ended', owner = NULL, ended_at = :now, remote_state = :remote_state,
    remote_notes = :remote_notes, remote_created_at = coalesce(:remote_created_at, remote_created_at),
    total = coalesce(:total, total), done = :done, retry_at = :now, troubles = 0, parked_reason = NULL
WHERE id = :id AND epoch = :epoch AND state = 'submitted';

-- name: shown
-- A file that was named once stays named.
UPDATE batches SET remote_state = :remote_state, remote_notes = json_patch(remote_notes, :remote_notes),
    remote_created_at = coalesce(:remote_created_at, remote_created_at), total = coalesce(:total, total), done = :done
WHERE id = :id AND epoch = :epoch AND state = 'ended';

-- name: resumed
UPDATE batches SET state = 'submitted', owner = NULL, ended_at = NULL, fetched = 0, remote_state = :remote_state,
    remote_notes = json_patch(remote_notes, :remote_notes),
    remote_created_at = coalesce(:remote_created_at, remote_created_at), total = coalesce(:total, total), done = :done,
    retry_at = :retry_at, parked_reason = NULL, troubles = 0
WHERE id = :id AND epoch = :epoch AND state = 'ended';

-- name: fetching
-- The fence of a download: the batch is ours and has ended.
UPDATE batches SET epoch = epoch WHERE id = :id AND epoch = :epoch AND state = 'ended';

-- name: fetched
UPDATE batches SET fetched = 1, fetches = fetches + 1 WHERE id = :id AND epoch = :epoch AND state = 'ended';

-- name: collected
UPDATE batches SET state = 'collected', owner = NULL, collected_at = :now, retry_at = :now, troubles = 0,
    parked_reason = NULL
WHERE id = :id AND epoch = :epoch AND state = 'ended';

-- name: dissolved
UPDATE batches SET state = 'dissolved', owner = NULL, retry_at = :now, troubles = 0, parked_reason = NULL
WHERE id = :id AND epoch = :epoch AND state IN ('sealed', 'submitting', 'submitted', 'reconciling');

-- name: mark_cancelling
-- The poll that carries the wish is due now, unless the batch waits since polls of it failed.
UPDATE batches SET cancel_at = coalesce(cancel_at, :now), owner = NULL,
    retry_at = CASE WHEN state = 'submitted' AND troubles = 0 THEN min(retry_at, :now) ELSE retry_at END
WHERE id = :id AND epoch = :epoch;

-- name: try_refused_keys
-- A start may have brought a key that works. The reason is that of `accounts.Account` or the name of `errors.Unauthorised`.
UPDATE batches SET retry_at = :now
WHERE state NOT IN ('collected', 'dissolved') AND retry_at > :now AND lower(parked_reason) LIKE '%unauthorised:%';

-- name: settling
-- The fence of a settlement: the batch is ours and has ended.
UPDATE batches SET epoch = epoch WHERE id = :id AND epoch = :epoch AND state = 'ended';

-- name: members_at
-- Unsettled members at these places (a JSON array of numbers).
SELECT n, seq, cancel_at IS NOT NULL, fingerprint, ordinal, no_store FROM requests
WHERE batch = :batch AND state = 'batched' AND n IN (SELECT value FROM json_each(:places));

-- name: members_after
SELECT n, seq, attempts, queued_at, cancel_at FROM requests
WHERE batch = :batch AND state = 'batched' AND n > :after_n ORDER BY n LIMIT :limit;

-- name: booked_after
-- Places of a batch whose lines are booked.
SELECT n FROM lines WHERE batch = :batch AND n > :after_n ORDER BY n LIMIT :limit;

-- name: members_cancelled
SELECT n, seq, 1, fingerprint, ordinal, no_store FROM requests INDEXED BY requests_wished
WHERE batch = :batch AND state = 'batched' AND cancel_at IS NOT NULL ORDER BY n;

-- name: insert_line
INSERT INTO lines (batch, n, seq, state, status, trouble, input_tokens, cached_tokens, output_tokens, cost_usd, saved_usd,
                   billed, wasted)
VALUES (:batch, :n, :seq, :state, :status, :trouble, :input_tokens, :cached_tokens, :output_tokens, :cost_usd, :saved_usd,
        :billed, :wasted)
ON CONFLICT (batch, n) DO NOTHING;

-- name: end_member
UPDATE requests SET state = :state, ended_at = :now, permanent = :permanent, trouble = :trouble, result = :result,
    attempts = attempts + :answered
WHERE seq = :seq AND state = 'batched';

-- name: end_wished
-- With the outcome that was stored with the wish.
UPDATE requests SET state = 'cancelled', ended_at = :now WHERE seq = :seq AND state = 'batched' AND result IS NOT NULL;

-- name: return_member
UPDATE requests SET state = 'queued', due = 0, fresh = 0, attempts = attempts + 1, batch = NULL, n = NULL,
    ready_at = :not_before, trouble = :trouble
WHERE seq = :seq AND state = 'batched';

-- name: return_members
-- All that is left of a dissolved batch goes back: at once, in the old order, or from :not_before on.
UPDATE requests SET state = 'queued', due = CASE WHEN :not_before IS NULL THEN 1 ELSE 0 END, fresh = 0, batch = NULL,
    n = NULL, ready_at = coalesce(:not_before, ready_at)
WHERE batch = :batch AND state = 'batched';

-- name: lines_after
SELECT r.n, p.body FROM requests r JOIN payloads p ON p.seq = r.seq
WHERE r.batch = :batch AND r.state = 'batched' AND r.n > :after_n ORDER BY r.n LIMIT :limit;

-- name: asked_at
-- What was asked in unsettled lines at these places (a JSON array of numbers).
SELECT r.n, p.body, r.trouble FROM requests r JOIN payloads p ON p.seq = r.seq
WHERE r.batch = :batch AND r.state = 'batched' AND r.n IN (SELECT value FROM json_each(:places));

-- name: learned_ratio
-- Counted over estimated input tokens, of the first lines that have a count.
SELECT sum(i.input_tokens), sum(r.tokens)
FROM (SELECT seq, input_tokens FROM lines WHERE batch = :batch AND input_tokens IS NOT NULL LIMIT :limit) i
JOIN requests r ON r.seq = i.seq;

-- name: latest_batches
SELECT id FROM batches WHERE state = :state ORDER BY id DESC LIMIT :limit;

-- name: fetched_already
-- Ended, its results on disk, whoever works on it.
SELECT id FROM batches
WHERE state NOT IN ('collected', 'dissolved') AND state = 'ended' AND fetched = 1 AND retry_at <= :now
ORDER BY retry_at LIMIT :limit;

-- name: unsent
SELECT id FROM batches
WHERE state NOT IN ('collected', 'dissolved') AND state = 'sealed' AND sealed_at < :before ORDER BY id LIMIT :limit;

-- name: lost
-- Sent, and in trouble ever since; the time is that of the last step that went well.
SELECT b.id FROM batches b
WHERE b.state NOT IN ('collected', 'dissolved') AND b.state IN ('submitting', 'submitted', 'reconciling', 'ended')
  AND b.troubles >= :troubles AND coalesce(b.ended_at, b.submitted_at, b.last_sent_at, b.sealed_at) < :before
ORDER BY coalesce(b.ended_at, b.submitted_at, b.last_sent_at, b.sealed_at), b.id LIMIT :limit;

-- name: batch_names
SELECT id, marker, remote_id, state, discarded FROM batches ORDER BY id;

-- name: undiscarded
SELECT id FROM batches
WHERE state IN ('collected', 'dissolved') AND discarded = 0 AND retry_at <= :now ORDER BY retry_at LIMIT :limit;

-- name: discarded
UPDATE batches SET discarded = 1 WHERE id = :id;

-- name: open_of
SELECT b.id FROM batches b INDEXED BY batches_live CROSS JOIN lanes l ON l.id = b.lane
WHERE b.state NOT IN ('collected', 'dissolved') AND l.provider = :provider ORDER BY b.id;

-- name: open_beside
-- An account without a name is its provider's own.
SELECT b.id FROM batches b INDEXED BY batches_live CROSS JOIN lanes l ON l.id = b.lane
WHERE b.state NOT IN ('collected', 'dissolved') AND b.account = :account AND (:account <> '' OR l.provider = :provider)
ORDER BY b.id;

-- name: open_counts
SELECT l.provider, b.state, count(*) FROM batches b INDEXED BY batches_live CROSS JOIN lanes l ON l.id = b.lane
WHERE b.state NOT IN ('collected', 'dissolved') GROUP BY l.provider, b.state;

-- name: known_remote_ids
-- Which of these names (a JSON array) a batch of ours has.
SELECT b.remote_id FROM json_each(:among) j CROSS JOIN batches b INDEXED BY batches_remote ON b.remote_id = j.value
JOIN lanes l ON l.id = b.lane
WHERE b.remote_id IS NOT NULL
  AND (l.provider = :provider OR (:account <> '' AND b.account = :account AND b.base_url = :base_url));

-- name: wished_unsent
-- Nothing of it is at the provider, and somebody does not want their line any more. :batch null asks for any batch.
SELECT b.id FROM batches b
WHERE b.state NOT IN ('collected', 'dissolved') AND b.state = 'sealed' AND b.submissions = 0 AND b.file_id IS NULL
  AND (:batch IS NULL OR b.id = :batch)
  AND EXISTS (SELECT 1 FROM requests r INDEXED BY requests_wished
              WHERE r.batch = b.id AND r.state = 'batched' AND r.cancel_at IS NOT NULL)
ORDER BY b.id LIMIT :limit;

-- name: cancelled_whole
-- In flight, with unsettled lines, of which nobody wants any: as many wishes as lines, both counted by an index.
-- One that came back unsent is not being cancelled any more.
SELECT b.id FROM batches b
WHERE b.state NOT IN ('collected', 'dissolved') AND b.state IN ('sealed', 'submitting', 'submitted', 'reconciling')
  AND (b.cancel_at IS NULL OR b.state = 'sealed')
  AND EXISTS (SELECT 1 FROM requests r INDEXED BY requests_wished
              WHERE r.batch = b.id AND r.state = 'batched' AND r.cancel_at IS NOT NULL)
  AND (SELECT count(*) FROM requests r INDEXED BY requests_wished
       WHERE r.batch = b.id AND r.state = 'batched' AND r.cancel_at IS NOT NULL)
    = (SELECT count(*) FROM requests r INDEXED BY requests_members WHERE r.batch = b.id AND r.state = 'batched')
ORDER BY b.id LIMIT :limit;

-- name: wished
-- Whether one line of a batch is not wanted any more.
SELECT 1 FROM requests INDEXED BY requests_wished
WHERE batch = :batch AND state = 'batched' AND cancel_at IS NOT NULL LIMIT 1;

-- name: unwanted
-- Whether a batch has unsettled lines, and nobody wants any of them: see cancelled_whole.
SELECT EXISTS (SELECT 1 FROM requests INDEXED BY requests_wished
               WHERE batch = :batch AND state = 'batched' AND cancel_at IS NOT NULL)
   AND (SELECT count(*) FROM requests INDEXED BY requests_wished
        WHERE batch = :batch AND state = 'batched' AND cancel_at IS NOT NULL)
     = (SELECT count(*) FROM requests INDEXED BY requests_members WHERE batch = :batch AND state = 'batched');

-- name: forgettable_batches
-- Over long ago, remote files gone, no request left. The newest stays, so that its number is never given again.
SELECT b.id FROM batches b
WHERE b.state IN ('collected', 'dissolved') AND b.discarded = 1 AND b.retry_at <= :before
  AND b.id < (SELECT max(id) FROM batches)
  AND NOT EXISTS (SELECT 1 FROM lines i JOIN requests r ON r.seq = i.seq WHERE i.batch = b.id AND r.batch = b.id)
ORDER BY b.retry_at LIMIT :limit;

-- name: keep_bill
-- The first lines of a batch are about to be forgotten; their sums are kept.
INSERT INTO bills (provider, model, requests, lines, cost_usd, saved_usd, wasted_usd, wasted_lines, unpriced_lines)
SELECT l.provider, l.model,
       coalesce(sum(i.state IS NOT NULL), 0), count(*),
       coalesce(sum(i.cost_usd), 0), coalesce(sum(CASE WHEN i.wasted = 0 THEN i.saved_usd END), 0),
       coalesce(sum(CASE WHEN i.wasted = 1 THEN i.cost_usd END), 0), coalesce(sum(i.wasted), 0),
       coalesce(sum(i.billed = 1 AND i.cost_usd IS NULL), 0)
FROM (SELECT * FROM lines WHERE batch = :batch ORDER BY n LIMIT :limit) i
JOIN batches b ON b.id = i.batch JOIN lanes l ON l.id = b.lane
WHERE true GROUP BY l.provider, l.model
ON CONFLICT (provider, model) DO UPDATE SET
    requests = bills.requests + excluded.requests, lines = bills.lines + excluded.lines,
    cost_usd = bills.cost_usd + excluded.cost_usd, saved_usd = bills.saved_usd + excluded.saved_usd,
    wasted_usd = bills.wasted_usd + excluded.wasted_usd, wasted_lines = bills.wasted_lines + excluded.wasted_lines,
    unpriced_lines = bills.unpriced_lines + excluded.unpriced_lines;

-- name: forget_lines
DELETE FROM lines WHERE id IN (SELECT id FROM lines WHERE batch = :batch ORDER BY n LIMIT :limit);

-- name: forget_batch
DELETE FROM batches WHERE id = :batch;

-- name: bills
SELECT provider, model, sum(requests), sum(lines), sum(cost_usd), sum(saved_usd), sum(wasted_usd), sum(wasted_lines),
       sum(unpriced_lines), sum(undiscounted_lines)
FROM (
    SELECT provider, model, requests, lines, cost_usd, saved_usd, wasted_usd, wasted_lines, unpriced_lines,
           undiscounted_lines
    FROM bills
    UNION ALL
    SELECT l.provider, l.model,
           coalesce(sum(i.state IS NOT NULL), 0), count(*),
           coalesce(sum(i.cost_usd), 0), coalesce(sum(CASE WHEN i.wasted = 0 THEN i.saved_usd END), 0),
           coalesce(sum(CASE WHEN i.wasted = 1 THEN i.cost_usd END), 0), coalesce(sum(i.wasted), 0),
           coalesce(sum(i.billed = 1 AND i.cost_usd IS NULL), 0), 0
    FROM lines i JOIN batches b ON b.id = i.batch JOIN lanes l ON l.id = b.lane GROUP BY l.provider, l.model)
GROUP BY provider, model ORDER BY provider, model;

-- name: wasted
-- Of all that was paid, what nobody could use. Lines that were of use are not looked at.
SELECT provider, sum(usd) FROM (
    SELECT provider, 0 AS usd FROM lanes
    UNION ALL
    SELECT provider, wasted_usd FROM bills
    UNION ALL
    SELECT l.provider, coalesce(i.cost_usd, 0)
    FROM lines i INDEXED BY lines_wasted CROSS JOIN batches b ON b.id = i.batch CROSS JOIN lanes l ON l.id = b.lane
    WHERE i.wasted = 1)
GROUP BY provider ORDER BY provider;
