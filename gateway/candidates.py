"""Which of the remote batches in a listing are ours: also where the provider has no place for a marker, and also copies.

Floor 3. A provider without markers shows when a batch was made and how many lines it has; that makes candidates. Only line ids
prove one, and they can be read only when it has ended: until then a candidate is held, and nothing is sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gateway.errors import Missing, Retryable
from gateway.records import BatchState, RemoteBatch, RemoteState, line_number
from gateway.spool import read_rows
from gateway.store.shipping import BatchRow
from gateway.troubles import NO_ROOM
from gateway.upstream import Side, Upstream

FETCH_SECONDS = 3600.0
FIND_SECONDS = 300.0
#: A look for copies, with all that it downloads, holds up what comes after it for so long at most.
LOOK_SECONDS = 600.0
#: Rows that are read before a result file is believed to hold nothing of ours.
ROWS_TO_READ = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What is known of the candidates of one batch."""

    #: Proven to be the batch; oldest first, and more than one when it was created twice.
    ours: tuple[RemoteBatch, ...] = ()
    #: May be the batch: still running, or over and without readable results.
    open: tuple[RemoteBatch, ...] = ()
    #: Why one of them could not be read this time; None: all were, as far as they can be.
    unread: Retryable | None = None


async def look_for_copies(upstream: Upstream, batch: BatchRow, side: Side) -> bool:
    """Stop and count what the provider made of a create in doubt beside the batch itself; whether none of it runs any more.

    Raises what `find` and `weigh` raise, and `Retryable` where not all that may be a copy was read within `LOOK_SECONDS`.
    """
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await _copies_are_over(upstream, batch, side)
    except TimeoutError as error:
        raise Retryable(f"the look for copies took longer than {LOOK_SECONDS:.0f} s") from error


async def _copies_are_over(upstream: Upstream, batch: BatchRow, side: Side) -> bool:
    find = side.plugin.find(upstream.view(batch))
    found: Sequence[RemoteBatch] = await upstream.call(side, "find", find, FIND_SECONDS)
    unread = None
    if not side.plugin.marked:
        # What still runs may be a stranger's: only proven copies are touched.
        weighed = await weigh(upstream, batch, side, found)
        found, unread = weighed.ours, weighed.unread
    # What we know as the batch itself repeats nothing, and of what was refused nothing was run.
    known = batch.remote_id if batch.submitted_at is not None else None
    copies = [remote for remote in found if remote.state is not RemoteState.REFUSED and remote.remote_id != known]
    # Given up while it was out of sight, it runs for nobody.
    own = [remote for remote in found if remote.remote_id == known and batch.state is BatchState.DISSOLVED]
    await upstream.cancel_copies(batch, side, copies)
    await upstream.stop(batch, side, own)
    if unread is not None:
        raise unread
    return all(remote.state is not RemoteState.RUNNING for remote in (*copies, *own))


async def weigh(upstream: Upstream, batch: BatchRow, side: Side, remotes: Sequence[RemoteBatch]) -> Weighed:
    """Sort the candidates that `find` gave for `batch`, oldest first. Those known to be another batch's are left out.

    Fetches the results of each candidate that has ended and was not looked at before. Raises what `fetch` raises, but for
    `Missing` (a candidate whose results are gone stays open) and `Retryable`: one that cannot be read now, which may be
    anybody's, does not stand before the others.
    """
    if not remotes:
        return Weighed()
    known = await upstream.ledger.batches.known_remote_ids(batch, [remote.remote_id for remote in remotes])
    others = known - {batch.remote_id}
    ours: list[RemoteBatch] = []
    unsure: list[RemoteBatch] = []
    unread: Retryable | None = None
    for remote in remotes:
        if remote.remote_id in others or (batch.id, remote.remote_id) in upstream.disproven:
            continue
        try:
            proof = await _proof(upstream, batch, side, remote)
        except Retryable as error:
            proof, unread = None, error
        if proof:
            ours.append(remote)
        elif proof is None:
            unsure.append(remote)
        else:
            upstream.disproven.add((batch.id, remote.remote_id))
            upstream.log(batch).info("candidate_disproven", remote_id=remote.remote_id)
    return Weighed(ours=tuple(ours), open=tuple(unsure), unread=unread)


async def _proof(upstream: Upstream, batch: BatchRow, side: Side, remote: RemoteBatch) -> bool | None:
    """Whether this remote batch holds our lines; None: it cannot be told yet, or ever."""
    if remote.remote_id == batch.remote_id:
        return True
    if remote.state is RemoteState.RUNNING:
        return None
    if not upstream.ledger.database.has_room():
        raise Retryable(NO_ROOM)
    rows = upstream.spool.proof(batch.marker)
    rows.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        await upstream.fetch(side, remote, rows, FETCH_SECONDS)
        return await asyncio.to_thread(_told_by, upstream, batch, side, rows)
    except Missing:
        return None
    finally:
        # A stranger's results may be large, and a slow disk takes its time to free them.
        await asyncio.to_thread(rows.unlink, missing_ok=True)


def _told_by(upstream: Upstream, batch: BatchRow, side: Side, rows: Path) -> bool | None:
    """Whether the first rows name a line of ours; None: they name none at all. Runs in a thread.

    One that does proves the batch, whatever stands before it: a row that belongs to nobody disproves nothing.
    """
    results = (upstream.decode(side, row) for row in islice(read_rows(rows), ROWS_TO_READ))
    named = (result.line_id for result in results if result.line_id is not None)
    ours = [line_number(batch.marker, name) is not None for name in named]
    return any(ours) if ours else None
