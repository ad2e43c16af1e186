-- What is due, when the machine's clock was set back by :back while no gateway ran: it comes as much earlier.

-- name: set_back_batches
UPDATE batches SET retry_at = retry_at - :back WHERE state NOT IN ('collected', 'dissolved') AND retry_at > :now;

-- name: set_back_leftovers
-- Files at the provider; also when what is over is forgotten.
UPDATE batches SET retry_at = retry_at - :back WHERE state IN ('collected', 'dissolved') AND retry_at > :now;

-- name: set_back_lanes
UPDATE lanes SET retry_at = CASE WHEN retry_at > :now THEN retry_at - :back ELSE retry_at END,
    last_arrival_at = min(last_arrival_at, :now);

-- name: set_back_window
UPDATE requests SET ready_at = ready_at - :back
WHERE lane IN (SELECT id FROM lanes) AND state = 'queued' AND due = 1 AND ready_at > :now;

-- name: set_back_returned
UPDATE requests SET ready_at = ready_at - :back WHERE state = 'queued' AND due = 0 AND ready_at > :now;

-- name: set_back_boots
-- Nobody lived later than now, as this clock has it: the next start finds nothing to move.
UPDATE boots SET ended_at = min(coalesce(ended_at, :now), :now), alive_until = min(alive_until, :now)
WHERE coalesce(ended_at, alive_until) > :now AND id <> :boot;
