"""Seal windows into batches.

Takes requests in `queued`, leaves them in `batched`, in a batch that is `sealed`. If the process dies half-way, the
sealing transaction was committed, and the submitter finds the batch, or it was not, and the requests are still
queued.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from statistics import median

import structlog

from gateway.accounts import Accounts
from gateway.clock import Clock
from gateway.config import Batching
from gateway.configured import ConfiguredProvider
from gateway.metrics import Metrics
from gateway.records import Limits, new_marker
from gateway.routing import Router
from gateway.store.lanes import TOKEN_LIMIT
from gateway.store.ledger import Ledger
from gateway.store.shipping import BatchRow, Cut, Load, Window, account_key
from gateway.tasks import wait_for_event

#: While arrivals pour in, windows are looked at no more often than this.
LOOK_SECONDS = 0.05
#: Windows are looked at this often even when nothing is heard.
TICK_SECONDS = 1.0
RIPEN_AT_MOST = 500
#: Windows looked at without a break, a few ms.
LOOKS_AT_ONCE = 500
#: A lane without its provider is looked at again after this long.
PARK_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A window that should seal now, and why."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotYet:
    """A window that goes on gathering."""

    seconds: float


def when_to_seal(window: Window, cut: Cut, batching: Batching, now: float) -> Due | NotYet:
    """Whether a window seals: on count, bytes, tokens, quiet or age, whichever holds first."""
    for reason, amount, limit in (
        ("count", window.count, cut.max_requests),
        ("bytes", window.size, cut.max_bytes),
        ("tokens", window.tokens, cut.max_tokens),
    ):
        if limit is not None and amount >= limit:
            return Due(reason=reason)
    quiet_in = _quiet_in(window, batching, now)
    if quiet_in is not None and quiet_in <= 0:
        return Due(reason="quiet")
    age_in = window.oldest_at + age_to_seal(window, batching, now) - now
    if age_in <= 0:
        return Due(reason="age")
    return NotYet(seconds=age_in if quiet_in is None else min(age_in, quiet_in))


def _quiet_in(window: Window, batching: Batching, now: float) -> float | None:
    """Seconds until the lane counts as quiet; None while something is in flight or nothing in it is new."""
    if window.in_flight or not window.fresh:
        return None
    return window.last_arrival_at + batching.idle_seconds - now


def age_to_seal(window: Window, batching: Batching, now: float) -> float:
    """The age at which the oldest request has waited long enough: a tenth of the turnaround, within bounds.

    With nothing in flight there is nothing to be in step with, so the shortest age holds.
    """
    if not window.in_flight:
        return batching.window_seconds
    flying = now - window.oldest_in_flight_at if window.oldest_in_flight_at is not None else 0.0
    turnaround = max(median(window.turnarounds) if window.turnarounds else 0.0, flying)
    return min(max(turnaround / 10, batching.window_seconds), batching.max_window_seconds)


def largest_cut(limits: Limits, batching: Batching, window: Window) -> Cut:
    """The most one batch of this lane may hold: the provider's limits, capped by ours, and its target after refusals."""
    return Cut(
        max_requests=_least(limits.max_requests, batching.max_requests),
        max_bytes=_least(limits.max_bytes, batching.max_bytes),
        max_tokens=_least(limits.enqueued_tokens(window.lane.model), window.target_tokens),
    )


def within_headroom(cut: Cut, limits: Limits, load: Load, window: Window) -> Cut | None:
    """What of `cut` fits beside what the provider has already; None: nothing may seal now."""
    if limits.max_open_batches is not None and load.open_batches >= limits.max_open_batches:
        return None
    if limits.max_creates_per_hour is not None and load.creates_last_hour >= limits.max_creates_per_hour:
        return None
    allowed = limits.enqueued_tokens(window.lane.model)
    enqueued = load.enqueued_tokens.get(window.lane.model, 0)
    if allowed is None or not enqueued:
        return cut
    room = allowed - enqueued
    average = window.tokens / window.count
    if room < average:
        return None
    # The next request may be larger than the average: it waits for room, whose end is in sight.
    return replace(cut, max_tokens=_least(cut.max_tokens, room), at_least_one=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What lanes of one model share that go to one account under the same limits."""

    account: str
    model: str
    limits: Limits


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


class Batcher:
    """Looks at all windows and seals those that are due and have headroom."""

    def __init__(
        self,
        ledger: Ledger,
        router: Router,
        accounts: Accounts,
        batching: Batching,
        metrics: Metrics,
        *,
        clock: Clock,
        arrived: asyncio.Event,
        sealed: asyncio.Event,
    ) -> None:
        """Listens to `arrived`, tells by `sealed`."""
        self._ledger = ledger
        self._router = router
        self._accounts = accounts
        self._batching = batching
        self._metrics = metrics
        self._clock = clock
        self._arrived = arrived
        self._sealed = sealed
        self._flushed_at = 0.0
        #: By lane, when it had its last turn in this process.
        self._sealed_at: dict[int, float] = {}
        #: By lane, for what this process has parked it.
        self._parked: dict[int, str] = {}
        self._log = structlog.get_logger().bind(room="batcher")

    async def run(self) -> None:
        """Seal for ever."""
        while True:
            self._arrived.clear()
            pause = await self.tick()
            if not self._arrived.is_set():
                await wait_for_event(self._clock, self._arrived, pause)
            await self._clock.sleep(min(LOOK_SECONDS, self._batching.idle_seconds / 4))

    async def tick(self) -> float:
        """Look at every window once; returns the seconds until one may be due without a new arrival.

        Scarce room goes to the lane that has waited longest, for its requests or for its turn: in any other order a busy lane, or
        one whose batches are refused and come back as old as they were, could take all of it for ever.
        While the disk is short nothing is sealed: spools and results would fill it.
        """
        if not self._ledger.database.has_room():
            return TICK_SECONDS
        now = self._clock.now()
        while await self._ledger.requests.ripen(now, RIPEN_AT_MOST) == RIPEN_AT_MOST:
            pass
        pause, full = TICK_SECONDS, list[Room]()
        windows = sorted(await self._ledger.lanes.windows(), key=self._waits_since)
        for place, window in enumerate(windows, start=1):
            pause = min(pause, await self._look(window, now, full))
            if place % LOOKS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return pause

    def _waits_since(self, window: Window) -> float:
        return max(window.oldest_at, self._sealed_at.get(window.lane_id, 0.0))

    def flush(self) -> None:
        """Whatever is queued by now is due at the next look, without waiting for quiet or age."""
        self._flushed_at = self._clock.now()
        self._arrived.set()

    async def _look(self, window: Window, now: float, full: list[Room]) -> float:
        """Seal a window if it is due and has headroom; returns the seconds until it may be due.

        `full`: where a window that has waited longer found too little room; this one's goes there too if it does not fit.
        """
        provider = self._router.providers.get(window.lane.provider)
        if provider is not None and not provider.batches:
            return TICK_SECONDS
        if window.retry_at > now:
            return window.retry_at - now
        reason: str | None = "provider is not configured"
        if provider is not None:
            reason = provider.disabled_reason or provider.estranged(window.lane)
        if provider is None or reason is not None:
            return await self._park(window, reason or "", now)
        if window.parked_reason not in (None, TOKEN_LIMIT):
            await self._unpark(window)
        most = largest_cut(provider.limits, self._batching, window)
        due = when_to_seal(window, most, self._batching, now)
        if isinstance(due, NotYet) and window.oldest_at > self._flushed_at:
            return due.seconds
        account = self._accounts.of(provider)
        if not account.may_create(window.lane):
            return min(TICK_SECONDS, account.seconds_left(window.lane))
        return await self._seal_within(window, most, provider, due.reason if isinstance(due, Due) else "flush", full)

    async def _park(self, window: Window, reason: str, now: float) -> float:
        """A lane without the provider it was made for waits, and says why; returns the seconds until its next look."""
        if self._parked.get(window.lane_id) != reason:
            self._parked[window.lane_id] = reason
            lane = window.lane
            self._log.warning(
                "lane_parked", provider=lane.provider, model=lane.model, requests=window.count, reason=reason
            )
        await self._ledger.lanes.park(
            window.lane_id, reason, now + PARK_SECONDS, window.target_tokens, window.park_steps
        )
        return PARK_SECONDS

    async def _unpark(self, window: Window) -> None:
        """The lane's provider is back: nobody is told any more that he waits for it."""
        self._parked.pop(window.lane_id, None)
        await self._ledger.lanes.unpark(window.lane_id)
        self._log.info("lane_goes_on", provider=window.lane.provider, model=window.lane.model)

    async def _seal_within(
        self, window: Window, most: Cut, provider: ConfiguredProvider, reason: str, full: list[Room]
    ) -> float:
        """Seal what of a window has headroom; returns the seconds until more may be sealed."""
        account = account_key(provider.account, provider.name)
        room = Room(account=account, model=window.lane.model, limits=provider.limits)
        if room in full:
            # What is left fits only small windows: they would take it again and again, and a large one none.
            return TICK_SECONDS
        load = await self._ledger.lanes.load(
            provider.name, self._clock.now(), provider.account, rehearsal=provider.rehearsal
        )
        cut = within_headroom(most, provider.limits, load, window)
        batch = None if cut is None else await self._seal(window, cut, provider, reason)
        if batch is None:
            full.append(room)
            return TICK_SECONDS
        return 0.0 if batch.count < window.count else TICK_SECONDS

    async def _seal(self, window: Window, cut: Cut, provider: ConfiguredProvider, reason: str) -> BatchRow | None:
        """The batch; None: the window was emptied meanwhile, or its first request does not fit into what room is left."""
        batch = await self._ledger.batches.seal(
            window.lane_id, cut, new_marker(), provider.account, provider.home, self._clock.now()
        )
        if batch is None:
            return None
        self._sealed_at[window.lane_id] = self._clock.now()
        self._metrics.batches_sealed.of(provider.name, reason).inc()
        self._metrics.batch_size.of(provider.name).observe(batch.count)
        self._log.info(
            "batch_sealed",
            batch_id=batch.id,
            provider=provider.name,
            model=batch.lane.model,
            requests=batch.count,
            bytes=batch.size,
            reason=reason,
        )
        self._sealed.set()
        return batch
