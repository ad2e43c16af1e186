-- Queries on slots (requests with an ordinal) and on what runs were given. "Held" is always: by this boot, or by one alive.

-- name: slot_extent
-- One above the highest ordinal of a fingerprint.
SELECT coalesce(max(ordinal) + 1, 0) FROM requests WHERE fingerprint = :fingerprint AND ordinal IS NOT NULL;

-- name: slots_among
-- Which of these ordinals (a JSON array) a fingerprint has.
SELECT ordinal FROM requests
WHERE fingerprint = :fingerprint AND ordinal IN (SELECT value FROM json_each(:ordinals)) AND ordinal IS NOT NULL;

-- name: slots_all
-- Every slot of a fingerprint that has few.
SELECT r.seq, r.ordinal, r.state,
       r.held_by IS NOT NULL AND (r.held_by = :boot OR coalesce(b.ended_at IS NULL AND b.alive_until > :now, 0)),
       r.deliveries, r.first_delivered_at, r.last_delivered_at,
       CASE WHEN r.held_by IS NULL THEN r.left_at ELSE coalesce(b.ended_at, b.alive_until, r.left_at) END,
       r.ended_at, r.permanent, r.owed_until, r.no_cache, r.no_store, r.token, r.cancel_at
FROM requests r LEFT JOIN boots b ON b.id = r.held_by
WHERE r.fingerprint = :fingerprint AND r.ordinal IS NOT NULL
ORDER BY r.ordinal LIMIT :limit;

-- name: slots_free
-- The next ones the general rule would take, those left out that cannot match any more.
SELECT r.seq, r.ordinal, r.state, 0, r.deliveries, r.first_delivered_at, r.last_delivered_at, r.left_at,
       r.ended_at, r.permanent, r.owed_until, r.no_cache, r.no_store, r.token, r.cancel_at
FROM requests r
WHERE r.fingerprint = :fingerprint AND r.ordinal IS NOT NULL AND r.held_by IS NULL
  AND ((r.ended_at IS NULL AND (r.cancel_at IS NULL OR :retry))
       OR (r.state = 'succeeded' AND (r.no_store = 0 OR coalesce(r.first_delivered_at, :now) >= :no_store_since))
       OR (r.state <> 'succeeded' AND (r.ended_at >= :failed_since
           OR (r.permanent = 1 AND coalesce(r.first_delivered_at, :now) >= :failed_since))))
ORDER BY r.deliveries, r.ended_at IS NULL, r.ordinal LIMIT :limit;

-- name: slots_born_no_cache
-- Undelivered ones that a call which wants no stored answer may still take: its own, before it hung up.
SELECT r.seq, r.ordinal, r.state, 0, r.deliveries, r.first_delivered_at, r.last_delivered_at, r.left_at,
       r.ended_at, r.permanent, r.owed_until, r.no_cache, r.no_store, r.token, r.cancel_at
FROM requests r
WHERE r.fingerprint = :fingerprint AND r.ordinal IS NOT NULL AND r.held_by IS NULL AND r.deliveries = 0
  AND r.no_cache = 1 AND r.left_at >= :left_since
ORDER BY r.ended_at IS NULL, r.ordinal LIMIT :limit;

-- name: slots_held
-- Those marked as held, by boots alive and dead.
SELECT r.seq, r.ordinal, r.state,
       r.held_by = :boot OR coalesce(b.ended_at IS NULL AND b.alive_until > :now, 0),
       r.deliveries, r.first_delivered_at, r.last_delivered_at, coalesce(b.ended_at, b.alive_until, r.left_at),
       r.ended_at, r.permanent, r.owed_until, r.no_cache, r.no_store, r.token, r.cancel_at
FROM requests r LEFT JOIN boots b ON b.id = r.held_by
WHERE r.fingerprint = :fingerprint AND r.ordinal IS NOT NULL AND r.held_by IS NOT NULL
ORDER BY r.ordinal LIMIT :limit;

-- name: slots_orphaned
-- Those a dead boot held and the janitor has not released yet: there are none but for a while after a crash.
SELECT r.seq, r.ordinal, r.state, 0, r.deliveries, r.first_delivered_at, r.last_delivered_at,
       coalesce(d.ended_at, d.alive_until),
       r.ended_at, r.permanent, r.owed_until, r.no_cache, r.no_store, r.token, r.cancel_at
FROM boots d CROSS JOIN requests r INDEXED BY requests_held ON r.held_by = d.id
WHERE d.id <> :boot AND (d.ended_at IS NOT NULL OR d.alive_until <= :now)
  AND r.held_by IS NOT NULL AND r.fingerprint = :fingerprint AND r.ordinal IS NOT NULL
ORDER BY r.deliveries, r.ended_at IS NULL, r.ordinal LIMIT :limit;

-- name: slots_owed
SELECT r.seq, r.ordinal, r.state, 0, r.deliveries, r.first_delivered_at, r.last_delivered_at, r.left_at,
       r.ended_at, r.permanent, r.owed_until, r.no_cache, r.no_store, r.token, r.cancel_at
FROM requests r
WHERE r.fingerprint = :fingerprint AND r.owed_until IS NOT NULL AND r.owed_until > :now AND r.ordinal IS NOT NULL
ORDER BY r.owed_until LIMIT :limit;

-- name: slots_given_free
-- Given in this run, not delivered there, and nobody waits for it there.
SELECT r.seq, r.ordinal, r.state,
       r.held_by IS NOT NULL AND (r.held_by = :boot OR coalesce(b.ended_at IS NULL AND b.alive_until > :now, 0)),
       r.deliveries, r.first_delivered_at, r.last_delivered_at,
       CASE WHEN r.held_by IS NULL THEN r.left_at ELSE coalesce(b.ended_at, b.alive_until, r.left_at) END,
       r.ended_at, r.permanent, r.owed_until, r.no_cache, r.no_store, r.token, r.cancel_at
FROM runs u INDEXED BY runs_free
JOIN requests r ON r.fingerprint = u.fingerprint AND r.ordinal = u.ordinal AND r.ordinal IS NOT NULL
LEFT JOIN boots b ON b.id = r.held_by
WHERE u.client = :client AND u.run = :run AND u.fingerprint = :fingerprint AND u.held_by IS NULL AND u.delivered = 0
ORDER BY u.ordinal LIMIT :limit;

-- name: slots_given_orphaned
-- Given in this run to a caller of a dead boot, not delivered there, and not released yet.
SELECT r.seq, r.ordinal, r.state,
       r.held_by IS NOT NULL AND (r.held_by = :boot OR coalesce(b.ended_at IS NULL AND b.alive_until > :now, 0)),
       r.deliveries, r.first_delivered_at, r.last_delivered_at,
       CASE WHEN r.held_by IS NULL THEN r.left_at ELSE coalesce(b.ended_at, b.alive_until, r.left_at) END,
       r.ended_at, r.permanent, r.owed_until, r.no_cache, r.no_store, r.token, r.cancel_at
FROM boots d CROSS JOIN runs u INDEXED BY runs_held ON u.held_by = d.id
JOIN requests r ON r.fingerprint = u.fingerprint AND r.ordinal = u.ordinal AND r.ordinal IS NOT NULL
LEFT JOIN boots b ON b.id = r.held_by
WHERE d.id <> :boot AND (d.ended_at IS NOT NULL OR d.alive_until <= :now)
  AND u.held_by IS NOT NULL AND u.client = :client AND u.run = :run AND u.fingerprint = :fingerprint AND u.delivered = 0
ORDER BY u.ordinal LIMIT :limit;

-- name: slots_given_held
-- Given in this run to somebody who waits for it there.
SELECT r.seq, r.ordinal, r.state,
       r.held_by IS NOT NULL AND (r.held_by = :boot OR coalesce(b.ended_at IS NULL AND b.alive_until > :now, 0)),
       r.deliveries, r.first_delivered_at, r.last_delivered_at,
       CASE WHEN r.held_by IS NULL THEN r.left_at ELSE coalesce(b.ended_at, b.alive_until, r.left_at) END,
       r.ended_at, r.permanent, r.owed_until, r.no_cache, r.no_store, r.token, r.cancel_at
FROM runs u
JOIN requests r ON r.fingerprint = u.fingerprint AND r.ordinal = u.ordinal AND r.ordinal IS NOT NULL
LEFT JOIN boots b ON b.id = r.held_by
WHERE u.client = :client AND u.run = :run AND u.fingerprint = :fingerprint AND u.held_by IS NOT NULL
ORDER BY u.ordinal LIMIT :limit;

-- name: run_extent
-- How many samples of a fingerprint a run was given, and one above the highest of them: equal if there are no gaps.
SELECT count(*), coalesce(max(ordinal) + 1, 0) FROM runs
WHERE client = :client AND run = :run AND fingerprint = :fingerprint;

-- name: slots_from
-- From an ordinal on, whoever holds them.
SELECT r.seq, r.ordinal, r.state,
       r.held_by IS NOT NULL AND (r.held_by = :boot OR coalesce(b.ended_at IS NULL AND b.alive_until > :now, 0)),
       r.deliveries, r.first_delivered_at, r.last_delivered_at,
       CASE WHEN r.held_by IS NULL THEN r.left_at ELSE coalesce(b.ended_at, b.alive_until, r.left_at) END,
       r.ended_at, r.permanent, r.owed_until, r.no_cache, r.no_store, r.token, r.cancel_at
FROM requests r LEFT JOIN boots b ON b.id = r.held_by
WHERE r.fingerprint = :fingerprint AND r.ordinal IS NOT NULL AND r.ordinal >= :low
  AND ((r.ended_at IS NULL AND (r.cancel_at IS NULL OR :retry)) OR r.state = 'succeeded' OR r.ended_at >= :failed_since
       OR (r.permanent = 1 AND coalesce(r.first_delivered_at, :now) >= :failed_since))
ORDER BY r.ordinal LIMIT :limit;

-- name: slots_not_given
-- Never given in this run, lowest first, whoever holds them; for a run with gaps.
SELECT r.seq, r.ordinal, r.state,
       r.held_by IS NOT NULL AND (r.held_by = :boot OR coalesce(b.ended_at IS NULL AND b.alive_until > :now, 0)),
       r.deliveries, r.first_delivered_at, r.last_delivered_at,
       CASE WHEN r.held_by IS NULL THEN r.left_at ELSE coalesce(b.ended_at, b.alive_until, r.left_at) END,
       r.ended_at, r.permanent, r.owed_until, r.no_cache, r.no_store, r.token, r.cancel_at
FROM requests r LEFT JOIN boots b ON b.id = r.held_by
WHERE r.fingerprint = :fingerprint AND r.ordinal IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM runs u WHERE u.client = :client AND u.run = :run
                  AND u.fingerprint = :fingerprint AND u.ordinal = r.ordinal)
  AND ((r.ended_at IS NULL AND (r.cancel_at IS NULL OR :retry)) OR r.state = 'succeeded' OR r.ended_at >= :failed_since
       OR (r.permanent = 1 AND coalesce(r.first_delivered_at, :now) >= :failed_since))
ORDER BY r.ordinal LIMIT :limit;

-- name: run_marks
-- What this run was given of these ordinals (a JSON array): held there by a living caller, delivered there.
SELECT u.ordinal,
       u.held_by IS NOT NULL AND (u.held_by = :boot OR coalesce(b.ended_at IS NULL AND b.alive_until > :now, 0)),
       u.delivered
FROM runs u LEFT JOIN boots b ON b.id = u.held_by
WHERE u.client = :client AND u.run = :run AND u.fingerprint = :fingerprint
  AND u.ordinal IN (SELECT value FROM json_each(:ordinals));

-- name: take_slot
-- The one conditional update that settles who waits for a pending slot nobody held.
UPDATE requests SET held_by = :boot
WHERE seq = :seq AND ended_at IS NULL AND (held_by IS NULL OR (held_by <> :boot AND NOT EXISTS (
    SELECT 1 FROM boots b WHERE b.id = held_by AND b.ended_at IS NULL AND b.alive_until > :now)));

-- name: give
-- Giving a sample in a run; several callers of one boot may wait for it there (a retry beside its half-dead socket).
INSERT INTO runs (client, run, fingerprint, ordinal, held_by, holders, delivered, given_at)
VALUES (:client, :run, :fingerprint, :ordinal, :boot, 1, 0, :now)
ON CONFLICT (client, run, fingerprint, ordinal) DO UPDATE SET
    holders = CASE WHEN runs.held_by = excluded.held_by THEN runs.holders + 1 ELSE 1 END,
    held_by = excluded.held_by;

-- name: depart_run
-- A caller of a run has gone: count its delivery there, end the hold with the last of them.
UPDATE runs SET
    delivered = max(delivered, :delivered),
    held_by = CASE WHEN held_by = :boot AND holders <= 1 THEN NULL ELSE held_by END,
    holders = CASE WHEN held_by = :boot THEN max(holders - 1, 0) ELSE holders END
WHERE client = :client AND run = :run
  AND (fingerprint, ordinal) = (SELECT r.fingerprint, r.ordinal FROM requests r WHERE r.seq = :seq);

-- name: forget_runs
DELETE FROM runs WHERE (client, run, fingerprint, ordinal) IN (
    SELECT client, run, fingerprint, ordinal FROM runs WHERE given_at <= :before ORDER BY given_at LIMIT :limit);
