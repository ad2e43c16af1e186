"""A batch and its provider: who it belongs to, how its plugin sees it, and calls under guard.

Floor 3. What the pipeline's modules have in common when they talk to a provider.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import structlog

from gateway.accounts import Account, Accounts
from gateway.clock import Clock, as_datetime
from gateway.configured import ConfiguredProvider
from gateway.endings import Pricing
from gateway.errors import LedgerError, PluginFault, ProviderError, Retryable, StaleEpoch
from gateway.judging import Judge
from gateway.metrics import Metrics
from gateway.prices import Prices
from gateway.provider import Provider
from gateway.records import Batch, RemoteBatch, RemoteState, Result
from gateway.routing import Router
from gateway.spool import Spool
from gateway.store.ledger import Ledger
from gateway.store.shipping import BatchRow, Member
from gateway.troubles import (
    HITCHES,
    LEDGER_PAUSE_SECONDS,
    OUT_OF_SIGHT,
    PARK_SECONDS,
    backoff,
    is_out_of_sight,
    of_the_disk,
    trouble,
)

#: Bound on one call that asks a provider to stop a batch.
CANCEL_SECONDS = 60.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The provider of one batch, usable now."""

    provider: ConfiguredProvider
    plugin: Provider
    account: Account


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """What every step needs to talk to the providers."""

    ledger: Ledger
    router: Router
    accounts: Accounts
    spool: Spool
    prices: Prices
    metrics: Metrics
    clock: Clock
    #: Set when requests went back to a lane.
    arrived: asyncio.Event
    #: Set when batches were sealed.
    sealed: asyncio.Event
    #: Remote batches that repeat one of ours, counted by this process.
    known_copies: set[str] = field(default_factory=set)
    #: Remote batches that were shown not to be one of ours, by the number of ours.
    disproven: set[tuple[int, str]] = field(default_factory=set)
    #: Batches in doubt for which the provider's list has been read since.
    looked_for: set[int] = field(default_factory=set)

    async def side(self, batch: BatchRow) -> Side | None:
        """The provider a batch was made for; parks the batch and returns None when it cannot be used now.

        A batch stays with the provider, kind, base URL and account it was made for: under other ones it is not to be found,
        and sending it there would pay twice.
        """
        provider = self.router.providers.get(batch.lane.provider)
        plugin = reason = None
        if provider is None:
            reason = f"provider {batch.lane.provider!r} is not configured"
        elif (plugin := await provider.ready()) is None:
            reason = provider.disabled_reason or "its plugin is gone"
        elif not plugin.batch:
            reason = "the provider's kind has no batches; this batch was made for another kind"
        else:
            reason = estranged(provider, batch)
        if provider is None or plugin is None or reason is not None:
            await self.park(batch, reason or "", PARK_SECONDS)
            return None
        account = self.accounts.of(provider)
        if not account.may_call():
            await self.park(batch, account.reason, account.seconds_left())
            return None
        return Side(provider=provider, plugin=plugin, account=account)

    def in_use(self, batch: BatchRow) -> bool:
        """Whether the provider a batch was made for is still the one that is configured, and not disabled."""
        provider = self.router.providers.get(batch.lane.provider)
        if provider is None or provider.disabled_reason is not None:
            return False
        return estranged(provider, batch) is None

    def is_keyless(self, batch: BatchRow, side: Side) -> bool:
        """Whether a batch is in the same list as those of `side`, and the key of its own table is refused."""
        provider = self.router.providers.get(batch.lane.provider)
        if provider is None or not self.in_use(batch):
            return False
        one_list = (provider.kind, provider.home) == (side.provider.kind, side.provider.home)
        return one_list and self.accounts.of(provider).key_refused

    async def later(self, batch: BatchRow, reason: str, seconds: float) -> None:
        """Leave a batch where it stands for `seconds`: a hitch at first, parked when it goes on like that."""
        if batch.troubles >= HITCHES:
            await self.park(batch, reason, seconds)
            return
        self.log(batch).info("batch_hitch", reason=reason, seconds=round(seconds, 1))
        await self.ledger.batches.release(
            batch, retry_at=self.clock.now() + seconds, parked_reason=None, troubles=batch.troubles + 1
        )

    async def park(self, batch: BatchRow, reason: str, seconds: float) -> None:
        """Leave a batch where it stands, with the reason, until `seconds` have passed."""
        if is_out_of_sight(batch) and not reason.startswith(OUT_OF_SIGHT):
            reason = f"{OUT_OF_SIGHT}; now: {reason}"
        self.log(batch).warning("batch_parked", reason=reason, seconds=round(seconds, 1))
        await self.ledger.batches.release(
            batch, retry_at=self.clock.now() + seconds, parked_reason=reason, troubles=batch.troubles + 1
        )

    async def guard(self, batch: BatchRow, work: Coroutine[object, object, None]) -> None:
        """One step of one batch: whatever escapes from it is logged, and the batch is left for a later try."""
        try:
            await work
        except StaleEpoch:
            self.log(batch).warning("batch_taken_over")
        except Exception as error:  # noqa: BLE001 - one batch must not stop the others
            pause = PARK_SECONDS
            if of_the_disk(error):
                # Nothing is wrong with the batch: it goes on soon after the disk does.
                pause = backoff(batch.troubles, LEDGER_PAUSE_SECONDS, PARK_SECONDS)
                self.log(batch).error("batch_waits_for_disk", reason=trouble(error), seconds=pause)
            else:
                self.log(batch).exception("batch_step_failed")
            await self._let_go(batch, trouble(error), pause)

    async def _let_go(self, batch: BatchRow, reason: str, seconds: float) -> None:
        """Give the claim back, however long the ledger cannot write: a claim that stays would hold the batch for ever."""
        with suppress(StaleEpoch):
            while True:
                try:
                    await self.park(batch, reason, seconds)
                except StaleEpoch:
                    raise
                except LedgerError:
                    await self.clock.sleep(LEDGER_PAUSE_SECONDS)
                else:
                    return

    async def call(self, side: Side, verb: str, work: Coroutine[object, object, T], at_most_seconds: float) -> T:
        """A plugin's coroutine under guard; time-outs are `Retryable` (use `accounts.call` where they are not)."""
        try:
            return await self.accounts.call(side.provider, verb, work, at_most_seconds)
        except TimeoutError as error:
            raise Retryable(f"{verb} took longer than {at_most_seconds:.0f} s") from error

    async def fetch(self, side: Side, remote: RemoteBatch, to: Path, at_most_seconds: float) -> None:
        """A remote batch's rows, in the file `to`; one that was not written is the plugin's fault, not the disk's."""
        await self.call(side, "fetch", side.plugin.fetch(remote, to), at_most_seconds)
        if not await asyncio.to_thread(to.exists):
            raise self.accounts.fault(side.provider, "fetch", PluginFault("wrote no file in fetch"))

    def members(self, batch: BatchRow) -> list[Member]:
        """The requests that are in a batch and not settled; for threads."""
        with self.ledger.database.reader() as session:
            return list(self.ledger.batches.members(session, batch.id))

    async def cancel_copies(self, batch: BatchRow, side: Side, copies: Sequence[RemoteBatch]) -> None:
        """Stop remote batches that repeat one of ours; each is counted once, whatever it still costs.

        One that runs on, since the call to stop it was lost, is asked to stop again each time.
        """
        for copy in copies:
            if copy.remote_id not in self.known_copies:
                self.known_copies.add(copy.remote_id)
                self.metrics.duplicate_batches.of(side.provider.name).inc()
                self.log(batch).error("duplicate_batch", remote_id=copy.remote_id)
        await self.stop(batch, side, copies)

    async def stop(self, batch: BatchRow, side: Side, remotes: Sequence[RemoteBatch]) -> None:
        """Ask the provider to stop those that run."""
        for remote in remotes:
            if remote.state is not RemoteState.RUNNING:
                continue
            try:
                await self.call(side, "cancel", side.plugin.cancel(remote), CANCEL_SECONDS)
            except (ProviderError, PluginFault) as error:
                self.log(batch).warning("cancel_failed", remote_id=remote.remote_id, reason=trouble(error))

    def decode(self, side: Side, row: bytes) -> Result:
        """What a fetched row says. Raises `PluginFault`, logged under the plugin's name, where `decode` raises; for threads."""
        try:
            return side.plugin.decode(row)
        except (Exception, SystemExit) as error:
            raise self.accounts.fault(side.provider, "decode", error) from error

    def judge(self, provider: ConfiguredProvider, plugin: Provider, lines: int) -> Judge | None:
        """Who looks at the answers of so many lines; None: nobody is to (`retries.invalid_output = "accept"`)."""
        if self.accounts.retries.invalid_output == "accept":
            return None
        return Judge(plugin, lines, fault=lambda verb, error: self.accounts.fault(provider, verb, error))

    def pricing(self, batch: BatchRow, side: Side) -> Pricing:
        """What the lines of a batch cost; asked once for a batch."""
        table, address, model = side.provider.table, side.provider.price_address, batch.lane.model
        return Pricing(
            batch=self.prices.price(table, model, batch=True, address=address),
            full=self.prices.price(table, model, batch=False, address=address),
        )

    def single_pricing(self, provider: ConfiguredProvider, model: str) -> Pricing:
        """What a request costs that is asked by itself: one price, and nothing saved."""
        price = self.prices.single_price(
            provider.table, model, batches=provider.batches, address=provider.price_address
        )
        return Pricing(batch=price, full=price, discounted=False)

    def view(self, batch: BatchRow) -> Batch:
        """The batch as its plugin sees it."""
        return Batch(
            marker=batch.marker,
            endpoint=batch.lane.endpoint,
            model=batch.lane.model,
            count=batch.count,
            size=batch.size,
            spool=self.spool.lines(batch.marker),
            file_id=batch.file_id,
            first_sent=None if batch.first_sent_at is None else as_datetime(batch.first_sent_at),
        )

    def log(self, batch: BatchRow) -> structlog.typing.FilteringBoundLogger:
        """A logger that says which batch it is about."""
        logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
        return logger.bind(batch_id=batch.id, provider=batch.lane.provider, model=batch.lane.model)


def estranged(provider: ConfiguredProvider, batch: BatchRow) -> str | None:
    """Why a batch is not for its provider as it is configured now; None: it is."""
    reason = provider.estranged(batch.lane)
    if reason is None and (provider.home, provider.account) != (batch.base_url, batch.account):
        return "the provider's base_url or account is not the one this batch was made for"
    return reason


def remote_of(batch: BatchRow) -> RemoteBatch:
    """The provider's object as it was last seen; for batches that have one."""
    return RemoteBatch(
        remote_id=batch.remote_id or "",
        state=batch.remote_state or RemoteState.RUNNING,
        created=None if batch.remote_created_at is None else as_datetime(batch.remote_created_at),
        total=batch.total,
        done=batch.done,
        where=batch.where,
    )
