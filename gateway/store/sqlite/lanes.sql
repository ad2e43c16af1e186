-- Queries on lanes and boots.

-- name: add_lane
INSERT INTO lanes (provider, endpoint, model, kind) VALUES (:provider, :endpoint, :model, :kind)
ON CONFLICT (provider, endpoint, model, kind) DO NOTHING;

-- name: name_lane
-- One from before lanes knew their kind is that of whoever comes first.
UPDATE lanes SET kind = :kind
WHERE provider = :provider AND endpoint = :endpoint AND model = :model AND kind = :unknown;

-- name: lane_id
SELECT id FROM lanes WHERE provider = :provider AND endpoint = :endpoint AND model = :model AND kind = :kind;

-- name: factor_of_lane
SELECT token_factor FROM lanes
WHERE provider = :provider AND endpoint = :endpoint AND model = :model AND kind = :kind;

-- name: lane_ids
SELECT id FROM lanes ORDER BY id;

-- name: lane_arrived
-- Fresh requests have joined the window.
UPDATE lanes SET
    due_count = due_count + :count, due_size = due_size + :size, due_tokens = due_tokens + :tokens,
    due_fresh = due_fresh + :fresh, last_arrival_at = max(last_arrival_at, :now)
WHERE id = :lane;

-- name: lane_changed
-- Requests have joined the window again (positive) or left it (negative).
UPDATE lanes SET
    due_count = due_count + :count, due_size = due_size + :size, due_tokens = due_tokens + :tokens,
    due_fresh = due_fresh + :fresh
WHERE id = :lane;

-- name: windows
SELECT l.id, l.provider, l.endpoint, l.model, l.due_count, l.due_size, CAST(l.due_tokens * l.token_factor AS INTEGER),
       l.due_fresh,
       (SELECT r.ready_at FROM requests r WHERE r.lane = l.id AND r.state = 'queued' AND r.due = 1
        ORDER BY r.ready_at, r.seq LIMIT 1),
       l.last_arrival_at, l.target_tokens, l.token_factor, l.parked_reason, l.retry_at, l.park_steps,
       l.kind
FROM lanes l WHERE l.due_count > 0 AND l.id > :after_id ORDER BY l.id LIMIT :limit;

-- name: in_flight
-- Per lane: batches that are at work, and since when the oldest is sealed.
SELECT b.lane, count(*), min(b.sealed_at) FROM batches b INDEXED BY batches_live
WHERE b.state NOT IN ('collected', 'dissolved') AND b.state IN ('sealed', 'submitting', 'submitted', 'ended')
  AND b.parked_reason IS NULL
GROUP BY b.lane;

-- name: turnarounds
-- From sealing to collecting, of the lane's last batches.
SELECT collected_at - sealed_at FROM batches
WHERE lane = :lane AND collected_at IS NOT NULL ORDER BY collected_at DESC LIMIT :limit;

-- name: open_load
-- Per model of a provider, and of whoever shares its account: open batches and their corrected tokens. What is rehearsed fills
-- no room at the provider, and what is meant none of a simulator.
SELECT l.model, count(*), CAST(sum(b.tokens * l.token_factor) AS INTEGER)
FROM batches b INDEXED BY batches_live CROSS JOIN lanes l ON l.id = b.lane
WHERE b.state NOT IN ('collected', 'dissolved') AND b.state <> 'ended'
  AND (l.provider = :provider OR (:account <> '' AND b.account = :account))
  AND (b.base_url LIKE 'sandbox:%') = :rehearsal
GROUP BY l.model;

-- name: creates_since
-- Create calls of the batches that were sent since; of an older batch only its last one counts.
SELECT coalesce(sum(CASE WHEN b.first_sent_at > :since THEN b.submissions ELSE 1 END), 0)
FROM batches b INDEXED BY batches_sent CROSS JOIN lanes l ON l.id = b.lane
WHERE b.last_sent_at > :since AND (l.provider = :provider OR (:account <> '' AND b.account = :account))
  AND (b.base_url LIKE 'sandbox:%') = :rehearsal;

-- name: park_lane
UPDATE lanes SET parked_reason = :reason, retry_at = :retry_at, target_tokens = :target_tokens, park_steps = :steps
WHERE id = :lane;

-- name: park_steps
SELECT park_steps FROM lanes WHERE id = :lane;

-- name: queued_by_provider
SELECT provider, sum(due_count) FROM lanes GROUP BY provider;

-- name: unpark_lane
UPDATE lanes SET parked_reason = NULL, retry_at = 0 WHERE id = :lane;

-- name: lane_relieved
-- One of its batches ended: a wait for room is over.
UPDATE lanes SET parked_reason = NULL, retry_at = 0, park_steps = 0 WHERE id = :lane AND parked_reason = :reason;

-- name: lane_learned
-- One of its batches was collected: estimates move half-way to what was counted, the target grows until it is none any more.
UPDATE lanes SET
    token_factor = CASE WHEN :ratio IS NULL THEN token_factor ELSE min(max((token_factor + :ratio) / 2, 0.1), 10) END,
    target_tokens = CASE WHEN target_tokens < :no_target THEN CAST(target_tokens * :growth AS INTEGER) + 1 END
WHERE id = :lane;

-- name: recount
-- What the totals must equal; for tests and for doctors.
SELECT l.id, l.due_count, l.due_size, l.due_tokens, l.due_fresh, count(r.seq), coalesce(sum(r.size), 0),
       coalesce(sum(r.tokens), 0), coalesce(sum(r.fresh), 0)
FROM lanes l LEFT JOIN requests r ON r.lane = l.id AND r.state = 'queued' AND r.due = 1
GROUP BY l.id ORDER BY l.id;

-- name: add_boot
INSERT INTO boots (started_at, alive_until) VALUES (:now, :alive_until) RETURNING id;

-- name: end_other_boots
-- The lock proves every other process dead.
UPDATE boots SET ended_at = min(alive_until, :now) WHERE ended_at IS NULL AND id <> :boot;

-- name: renew_boot
UPDATE boots SET alive_until = :alive_until WHERE id = :boot AND ended_at IS NULL;

-- name: end_boot
UPDATE boots SET ended_at = :now WHERE id = :boot AND ended_at IS NULL;

-- name: last_alive
-- Until when the process lived that wrote last, before the boot :boot.
SELECT max(coalesce(ended_at, alive_until)) FROM boots WHERE id <> :boot;

-- name: dead_boots
SELECT id, coalesce(ended_at, alive_until) FROM boots
WHERE id <> :boot AND (ended_at IS NOT NULL OR alive_until <= :now) ORDER BY id LIMIT :limit;

-- name: release_holds
-- What a dead boot held was left when it died.
UPDATE requests SET held_by = NULL, left_at = CASE WHEN ended_at IS NULL OR deliveries = 0 THEN :left_at ELSE left_at END
WHERE seq IN (SELECT seq FROM requests WHERE held_by = :boot LIMIT :limit);

-- name: release_run_holds
UPDATE runs SET held_by = NULL, holders = 0 WHERE (client, run, fingerprint, ordinal) IN (
    SELECT client, run, fingerprint, ordinal FROM runs WHERE held_by = :boot LIMIT :limit);

-- name: forget_boot
-- A dead boot that owns and holds nothing. The newest stays, so that its number is never given again.
DELETE FROM boots WHERE id = :boot
  AND NOT EXISTS (SELECT 1 FROM batches b INDEXED BY batches_owned WHERE b.owner = :boot)
  AND NOT EXISTS (SELECT 1 FROM requests r WHERE r.held_by = :boot)
  AND NOT EXISTS (SELECT 1 FROM runs u WHERE u.held_by = :boot);
