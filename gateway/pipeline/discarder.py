"""Leave nothing of a batch that is over: no files, and no copy of it that a create in doubt may still bring.

Takes batches that are `collected` or `dissolved`, leaves them discarded: at once, but for those whose creation was ever in
doubt. If the process dies half-way, files are deleted again, and copies are looked for again.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from gateway.candidates import look_for_copies
from gateway.errors import PluginFault, ProviderError, StaleEpoch
from gateway.records import BatchState, Limits
from gateway.store.shipping import BatchRow
from gateway.troubles import OVERDUE_SECONDS, PARK_SECONDS, backoff, trouble
from gateway.upstream import Side, Upstream, estranged, remote_of

TICK_SECONDS = 15.0
BATCHES_AT_ONCE = 20
DISCARD_SECONDS = 120.0
LONGEST_TROUBLE_SECONDS = 3600.0
#: Why a batch that is over is kept in mind.
LOOKED_FOR = "its creation was in doubt: copies of it are looked for"


class Discarder:
    """Goes round every now and then, apart from the janitor, whom a provider that does not answer would hold up."""

    def __init__(self, upstream: Upstream, quarantine_seconds: float) -> None:
        """`quarantine_seconds`: the shortest time between two looks for copies."""
        self._upstream = upstream
        self._ledger = upstream.ledger
        self._quarantine_seconds = quarantine_seconds

    async def run(self) -> None:
        """Go round for ever."""
        while True:
            await self.round()
            await self._upstream.clock.sleep(TICK_SECONDS)

    async def round(self) -> None:
        """Do once what is due; the batches beside each other, so within the time limits of one."""
        due = await self._ledger.batches.undiscarded(self._upstream.clock.now(), BATCHES_AT_ONCE)
        for outcome in await asyncio.gather(*map(self._discard, due), return_exceptions=True):
            if outcome is not None:
                raise outcome

    async def _discard(self, batch: BatchRow) -> None:
        side = await self._side(batch)
        if batch.parked_reason != LOOKED_FOR:
            await self._delete_files(batch, side)
        if not may_have_copies(batch) or (side is not None and not side.plugin.marked and not _is_collected(batch)):
            await self._ledger.batches.discarded(batch)
            return
        window_seconds = Limits().window_seconds if side is None else side.provider.limits.window_seconds
        if side is not None and await self._look_for_copies(batch, side):
            now = self._upstream.clock.now()
            look_at, troubles = next_look(batch, window_seconds, self._quarantine_seconds, now), 0
            if _is_collected(batch):
                # By now its provider shows what it made; each further look may download what strangers have made.
                look_at = None
        else:
            now = self._upstream.clock.now()
            look_at, troubles = another_try(batch, window_seconds, now), batch.troubles + 1
            if look_at is None:
                self._upstream.log(batch).error("copies_unknown", marker=batch.marker)
        if look_at is None:
            await self._ledger.batches.discarded(batch)
            return
        with suppress(StaleEpoch):
            await self._ledger.batches.release(batch, retry_at=look_at, parked_reason=LOOKED_FOR, troubles=troubles)

    async def _side(self, batch: BatchRow) -> Side | None:
        """The provider its files are at; None: it cannot be used."""
        provider = self._upstream.router.providers.get(batch.lane.provider)
        plugin = await provider.ready() if provider is not None else None
        if provider is None or plugin is None:
            return None
        return Side(provider=provider, plugin=plugin, account=self._upstream.accounts.of(provider))

    async def _delete_files(self, batch: BatchRow, side: Side | None) -> None:
        """At the provider and here. Once: what fails expires by itself."""
        reason = None if side is None else estranged(side.provider, batch)
        if reason is not None:
            # Under the names of its files there may be somebody else's where the provider is now.
            self._upstream.log(batch).info("files_stay", reason=reason)
        elif side is not None:
            remote = remote_of(batch) if batch.remote_id is not None else None
            discard = side.plugin.discard(self._upstream.view(batch), remote)
            try:
                await self._upstream.accounts.call(side.provider, "discard", discard, DISCARD_SECONDS)
            except (ProviderError, PluginFault, OSError) as error:
                # A time limit, and an error of our own disk, are an `OSError` too.
                self._upstream.log(batch).warning("discard_failed", reason=trouble(error))
        try:
            await asyncio.to_thread(self._upstream.spool.drop, batch.marker)
        except OSError as error:
            # No reason to end the gateway, and every one after it: doctor finds files that nobody needs.
            self._upstream.log(batch).warning("spool_stays", reason=trouble(error))

    async def _look_for_copies(self, batch: BatchRow, side: Side) -> bool:
        """Whether there is nothing more to stop by now: the provider told what it has, and nothing of it was running."""
        if estranged(side.provider, batch) is not None or not side.account.may_call():
            return False
        try:
            return await look_for_copies(self._upstream, batch, side)
        except (ProviderError, PluginFault, OSError) as error:
            # What may be a copy is read by way of our own disk.
            self._upstream.log(batch).warning("copies_not_looked_for", reason=trouble(error))
            return False


def may_have_copies(batch: BatchRow) -> bool:
    """Whether a create of a batch that is over may come to light, or arrive, after all."""
    return batch.ambiguous and batch.last_sent_at is not None


def _is_collected(batch: BatchRow) -> bool:
    return batch.state is BatchState.COLLECTED


def next_look(batch: BatchRow, window_seconds: float, quarantine_seconds: float, now: float) -> float | None:
    """When to look for copies again, each time after twice as long; None: what was made by its creates has long been over."""
    age = now - (batch.last_sent_at or 0.0)
    if age >= window_seconds:
        return None
    return now + min(max(age, quarantine_seconds), window_seconds - age)


def another_try(batch: BatchRow, window_seconds: float, now: float) -> float | None:
    """When to look again after a look that failed, or at what was to stop; None: it is not worth it any more."""
    if now - max(batch.last_sent_at or 0.0, batch.collected_at or 0.0) >= window_seconds + OVERDUE_SECONDS:
        return None
    return now + backoff(batch.troubles, PARK_SECONDS, LONGEST_TROUBLE_SECONDS)
