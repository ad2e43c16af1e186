"""A ledger with much in it, made by the rooms of the store as the gateway uses them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bodies import MODEL, Bodies
from gateway.clock import SystemClock
from gateway.records import RemoteBatch, RemoteState, new_marker
from gateway.store.ledger import Ledger
from gateway.store.rows import Arrival, Ask, LaneKey
from gateway.store.shipping import Cut
from gateway.store.sqlite import SqliteDatabase

ENDPOINT = "/v1/chat/completions"
LANE = LaneKey(provider="sim", endpoint=ENDPOINT, model=MODEL)
ROWS_AT_ONCE = 1_000
#: As many callers were connected as a gateway takes by default; the others had been told to come back.
WAITING = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What to record: requests, the first of them in batches of equal size that the provider is running."""

    pending: int
    #: Ids of remote batches.
    remotes: Sequence[str] = ()
    lines: int = 0
    #: Where the provider is, as its table has it.
    base_url: str = ""


def record(directory: Path, backlog: Backlog) -> None:
    """Into the ledger of a storage directory that nobody works with; the process that did it is gone."""
    asyncio.run(_record(directory, backlog))


async def _record(directory: Path, backlog: Backlog) -> None:
    clock = SystemClock()
    ledger = await Ledger.open(SqliteDatabase.open(directory, durability="relaxed"), clock)
    await ledger.begin(exclusive=True)
    for first in range(0, backlog.pending, ROWS_AT_ONCE):
        numbers = range(first, min(first + ROWS_AT_ONCE, backlog.pending))
        await ledger.requests.admit([_arrival(number, waits=number < WAITING) for number in numbers])
    for remote_id in backlog.remotes:
        await _send(ledger, clock, backlog, remote_id)
    await ledger.close()


async def _send(ledger: Ledger, clock: SystemClock, backlog: Backlog, remote_id: str) -> None:
    """One more batch, sealed and on its way."""
    [window] = await ledger.lanes.windows()
    sealed = await ledger.batches.seal(
        window.lane_id, Cut(max_requests=backlog.lines), new_marker(), "", backlog.base_url, clock.now()
    )
    assert sealed is not None
    batch = await ledger.batches.claim_one(sealed.id)
    assert batch is not None
    batch = await ledger.batches.uploaded(batch, f"file-{remote_id}")
    batch = await ledger.batches.intend(batch, clock.now())
    remote = RemoteBatch(
        remote_id=remote_id,
        state=RemoteState.RUNNING,
        created=None,
        total=backlog.lines,
        done=0,
        refusal=None,
        where={},
    )
    await ledger.batches.submitted(batch, remote, clock.now(), clock.now())


def _arrival(number: int, *, waits: bool) -> Arrival:
    payload = b'{"method":"POST","url":"%b","body":%b}' % (ENDPOINT.encode(), Bodies(tag="backlog").of(number))
    name = hashlib.sha256(payload).digest()
    return Arrival(
        client="",
        custom_id=None,
        lane=LANE,
        fingerprint=name,
        body_hash=name,
        payload=payload,
        size=len(payload) + 64,
        tokens=len(payload) // 3,
        ask=Ask(detached=not waits),
    )
