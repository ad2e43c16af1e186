"""Batches taken up beside each other, so many at once of each account: a call that hangs holds up nobody else's.

Floor 3. For the workers whose calls may take minutes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence

from gateway.records import BatchState
from gateway.store.shipping import BatchRow
from gateway.tasks import Tasks
from gateway.upstream import Upstream


class Turns:
    """Who has a turn now; the claims it takes are given back by the work, or by `Upstream.guard` after it."""

    def __init__(
        self,
        upstream: Upstream,
        tasks: Tasks,
        name: str,
        states: Sequence[BatchState],
        *,
        at_once: int,
        over: asyncio.Event,
    ) -> None:
        """`name` is the errands' in logs; `at_once` counts for each account; `over` is set when one has had its turn."""
        self._upstream = upstream
        self._tasks = tasks
        self._name = name
        self._states = states
        self._at_once = at_once
        self._over = over
        self._running: Counter[str] = Counter()

    async def begin(self, work: Callable[[BatchRow], Coroutine[object, object, None]]) -> int:
        """Begin `work` with every batch in these states that is due, as far as its account has room; returns how many."""
        begun = 0
        while True:
            busy = [account for account, running in self._running.items() if running >= self._at_once]
            claimed = await self._upstream.ledger.batches.claim(self._states, self._upstream.clock.now(), 1, busy)
            if not claimed:
                return begun
            self.give(claimed[0], lambda batch: self._upstream.guard(batch, work(batch)))
            begun += 1

    def has_room(self, batch: BatchRow) -> bool:
        """Whether its account has a turn left."""
        return self._running[batch.account_key] < self._at_once

    def give(self, batch: BatchRow, work: Callable[[BatchRow], Coroutine[object, object, None]]) -> None:
        """Begin `work` with a batch that was chosen elsewhere; it has to guard itself."""
        self._running[batch.account_key] += 1
        self._tasks.spawn(f"{self._name}.{batch.id}", self._one(batch, work))

    async def _one(self, batch: BatchRow, work: Callable[[BatchRow], Coroutine[object, object, None]]) -> None:
        try:
            await work(batch)
        finally:
            self._running[batch.account_key] -= 1
            self._over.set()
