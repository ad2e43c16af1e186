"""Commit arrivals together: all of one turn of the loop in one group, with the marks of callers who have gone.

Takes arrivals of calls that nothing stored has answered; leaves requests in `queued`, each caller with its admission, or all
of a group with the reason why nothing was recorded. If the process dies half-way, a group is committed as a whole or not at
all: whoever was in it asks again, and is recognised or accepted anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial

from gateway.clock import Clock
from gateway.errors import LedgerError, Refusal, StorageFull
from gateway.metrics import Metrics
from gateway.pipeline.waiters import Waiters
from gateway.routing import Router
from gateway.store.ledger import Ledger
from gateway.store.rows import Admission, Arrival, Departure
from gateway.tasks import Tasks

#: Arrivals handed to the ledger together; it goes on with them while the loop reads the next ones.
GROUP_AT_MOST = 64

#: An arrival, and whoever waits for its admission.
Gathered = tuple[Arrival, asyncio.Future[Admission]]


class Gathering:
    """Arrivals of one turn of the loop share one commit."""

    def __init__(
        self,
        ledger: Ledger,
        router: Router,
        waiters: Waiters,
        metrics: Metrics,
        *,
        clock: Clock,
        tasks: Tasks,
        arrived: asyncio.Event,
        unbatched: asyncio.Event,
    ) -> None:
        """`arrived` is set when a request has been queued that goes in a batch, `unbatched` for one that goes by itself."""
        self._ledger = ledger
        self._router = router
        self._waiters = waiters
        self._metrics = metrics
        self._clock = clock
        self._tasks = tasks
        self._arrived = arrived
        self._unbatched = unbatched
        self._gathered: list[Gathered] = []

    async def admit(self, arrival: Arrival) -> Admission:
        """Record with whatever else arrived in this turn of the loop; the commit goes on when the caller hangs up.

        Durable when it returns. Raises `Refusal`: nothing has been recorded.
        """
        future: asyncio.Future[Admission] = asyncio.get_running_loop().create_future()
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._flush)
        self._gathered.append((arrival, future))
        if len(self._gathered) >= GROUP_AT_MOST:
            self._flush()
        try:
            return await future
        except asyncio.CancelledError:
            # The commit came first, and nobody was told of it any more; else `_tell` finds the future cancelled.
            if not future.cancelled() and future.exception() is None:
                self._let_go(arrival, future.result())
            raise

    def _let_go(self, arrival: Arrival, admission: Admission) -> None:
        """The caller hung up while its commit was under way: release what it took."""
        if not (admission.conflict or admission.absent or admission.full):
            departure = Departure(
                seq=admission.seq,
                at=self._clock.now(),
                delivered=False,
                last=False,
                client=arrival.client,
                run=arrival.ask.run,
            )
            self._waiters.leave(admission.seq, self._waiters.attach(admission.seq), departure)

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, []
        if gathered:
            recording = self._tasks.spawn("intake.admit", self._record(gathered))
            recording.add_done_callback(partial(_send_away, gathered))

    async def _record(self, gathered: list[Gathered]) -> None:
        began = self._clock.monotonic()
        departures = self._waiters.take_departures()
        try:
            admissions = await self._admitted([arrival for arrival, _ in gathered], departures)
        except Exception as error:  # noqa: BLE001 - every caller of the group must hear of it
            _fail(gathered, not_accepted(error))
            return
        self._metrics.commit_size.observe(len(gathered))
        self._metrics.commit_seconds.observe(self._clock.monotonic() - began)
        self._tell(gathered, admissions)

    async def _admitted(self, arrivals: list[Arrival], departures: list[Departure]) -> list[Admission]:
        """As the ledger says; on a full disk, asked again with nothing to write but for what is new."""
        try:
            admissions = await self._ledger.requests.admit(arrivals, departures)
        except StorageFull:
            self._waiters.put_back(departures)
            return await self._ledger.requests.admit(arrivals)
        except Exception:
            self._waiters.put_back(departures)
            raise
        self._waiters.folded(departures)
        return admissions

    def _tell(self, gathered: list[Gathered], admissions: list[Admission]) -> None:
        """Give every caller its admission; then the stages that go on with what is new hear of it."""
        fresh: set[str] = set()
        for (arrival, future), admission in zip(gathered, admissions, strict=True):
            if admission.fresh:
                fresh.add(arrival.lane.provider)
            if future.cancelled():
                self._let_go(arrival, admission)
            else:
                future.set_result(admission)
        for name in sorted(fresh):
            provider = self._router.providers.get(name)
            (self._unbatched if provider is not None and not provider.batches else self._arrived).set()


def not_accepted(error: Exception) -> Exception:
    """What callers are told of an error of the ledger; of any other, the error itself."""
    if isinstance(error, StorageFull):
        return storage_full()
    if isinstance(error, LedgerError):
        refusal = Refusal("storage_failed", "The gateway could not record the request: it was not accepted. Try again.")
        # For the log: whoever is told this is one of a group, and none of them has raised it.
        refusal.__cause__ = error
        return refusal
    return error


def storage_full() -> Refusal:
    """There is no room for what is new."""
    return Refusal(
        "storage_full", "The gateway's disk is full: the request was not accepted. Try again when there is room."
    )


def _send_away(gathered: Iterable[Gathered], recording: asyncio.Task[None]) -> None:
    """The gateway stops before a group is recorded, or while it is: its callers must not wait for the end of that.

    The commit may go through all the same; then their next try finds it.
    """
    if recording.cancelled():
        _fail(gathered, Refusal("stopping", "The gateway is shutting down. Ask again in a moment."))


def _fail(gathered: Iterable[Gathered], error: Exception) -> None:
    """Tell every caller of a group that it was not accepted."""
    for _, future in gathered:
        if not future.done():
            future.set_exception(error)
            future.exception()
