"""A batch and its provider: who it belongs to, how its plugin sees it, calls under guard, and what a refusal does.

Floor 3. What the pipeline's modules have in common when they talk to a provider.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from gateway.accounts import Account, Accounts
from gateway.clock import Clock, as_datetime
from gateway.configured import ConfiguredProvider
from gateway.endings import Pricing, dissolution
from gateway.errors import LedgerError, PluginFault, ProviderError, Retryable, StaleEpoch, TokenLimit
from gateway.judging import Judge
from gateway.metrics import Metrics
from gateway.prices import Prices
from gateway.provider import Provider
from gateway.records import Batch, BatchState, RemoteBatch, RemoteState, Result, new_marker
from gateway.routing import Router
from gateway.spool import Spool
from gateway.store.batches import SETTLE_AT_MOST
from gateway.store.ledger import Ledger
from gateway.store.rows import Ending
from gateway.store.shipping import BatchRow, Member, Settled, Settlement

#: A batch whose provider is gone, or whose plugin misbehaves, is looked at again after this long.
PARK_SECONDS = 300.0
#: Between two tries to give a claim back to a ledger that cannot write.
LEDGER_PAUSE_SECONDS = 2.0
#: So many lost calls in a row are no reason yet to call a batch parked, which takes it out of its lane's reckoning.
HITCHES = 3
#: After so many in a row, which with their pauses take the better part of an hour, a batch whose time is over is given up: a
#: gateway that was off for days, and starts before its network does, must not take the first minute for the last.
LOST_TROUBLES = 15
#: A lane refused for its tokens waits this long for one of its batches to end, doubling up to the second.
TOKEN_PAUSE_SECONDS = 60.0
LONGEST_TOKEN_PAUSE_SECONDS = 3600.0

#: How the reason begins for which a batch is parked that went missing together with all others. It is read again: such a
#: batch is not sent again until one of them is seen, so no other reason takes its place.
OUT_OF_SIGHT = "every open batch of the account is missing: check key, project and base_url"
#: Why results are not fetched now.
NO_ROOM = "the disk is nearly full: the results stay at the provider until there is room"

#: A remote batch that is older than its window and this is cancelled by us: some providers never end one.
OVERDUE_SECONDS = 86_400.0
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

        A batch stays with the provider, base URL and account it was made for: under other ones it is not to be found, and
        sending it there would pay twice.
        """
        provider = self.router.providers.get(batch.lane.provider)
        plugin = reason = None
        if provider is None:
            reason = f"provider {batch.lane.provider!r} is not configured"
        elif (plugin := await provider.ready()) is None:
            reason = provider.disabled_reason or "its plugin is gone"
        elif not plugin.batch:
            reason = "the provider's kind has no batches; this batch was made for another kind"
        elif (provider.home, provider.account) != (batch.base_url, batch.account):
            reason = "the provider's base_url or account is not the one this batch was made for"
        if provider is None or plugin is None or reason is not None:
            await self.park(batch, reason or "", PARK_SECONDS)
            return None
        account = self.accounts.of(provider)
        if not account.may_call():
            await self.park(batch, account.reason, account.seconds_left())
            return None
        return Side(provider=provider, plugin=plugin, account=account)

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
            if _of_the_disk(error):
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

    async def dissolve(self, batch: BatchRow, refusal: ProviderError) -> list[Settled]:
        """Take a batch apart that its provider refused as a whole; nothing of it was run or paid."""
        plan = dissolution(batch, refusal)
        now = self.clock.now()
        pause = await self._shrink(batch, refusal, now) if plan.shrink else 0.0
        # One that found no room all by itself lets the others go first: they may be smaller.
        not_before = now + pause if plan.shrink and batch.count == 1 else None
        parts, settled = await self.ledger.batches.dissolve(
            batch, now, plan.refused, [new_marker() for _ in range(plan.parts)], not_before
        )
        self.metrics.batches_dissolved.of(batch.lane.provider, type(refusal).__name__).inc()
        self.log(batch).warning(
            "batch_dissolved",
            reason=unquoted(refusal.reason),
            cause=type(refusal).__name__,
            refused_requests=len(plan.refused),
            parts=len(parts),
        )
        (self.sealed if parts else self.arrived).set()
        return settled

    async def _shrink(self, batch: BatchRow, refusal: ProviderError, now: float) -> float:
        """Halve what the lane's batches may hold, and wait until one of them ends or a growing pause is over: its seconds."""
        wish = refusal.retry_after if isinstance(refusal, TokenLimit) else None
        # As corrected by what the lane has learned by now: so its windows are counted.
        counted = await self.ledger.batches.get(batch.id) or batch
        return await self.ledger.lanes.shrink(
            batch.lane_id,
            target_tokens=max(1, counted.tokens // 2),
            now=now,
            first_pause=TOKEN_PAUSE_SECONDS,
            longest_pause=LONGEST_TOKEN_PAUSE_SECONDS,
            at_least=wish or 0.0,
        )

    async def give_up(self, batch: BatchRow, ending: Ending) -> list[Settled]:
        """End what is left of a claimed batch that was sent, and of which nothing more will be heard.

        It is never sent again: the provider may have run it, and may run it still. Lines whose cancel was wished end cancelled,
        the others with `ending`; what they cost is not known.
        """
        now = self.clock.now()
        members = await asyncio.to_thread(self.members, batch)
        self.log(batch).error("batch_given_up", state=batch.state.value, reason=batch.parked_reason, lines=len(members))
        self.metrics.batches_dissolved.of(batch.lane.provider, "given_up").inc()
        if batch.state is not BatchState.ENDED:
            refused = {member.n: ending for member in members if member.cancel_at is None}
            _, settled = await self.ledger.batches.dissolve(batch, now, refused)
        else:
            settled = await self._settle_lost(batch, members, ending, now)
            await self.ledger.batches.collected(batch, now)
        self.arrived.set()
        return settled

    async def _settle_lost(
        self, batch: BatchRow, members: Sequence[Member], ending: Ending, now: float
    ) -> list[Settled]:
        settled: list[Settled] = []
        for start in range(0, len(members), SETTLE_AT_MOST):
            lines = [
                Settlement(
                    n=member.n, status=0, ending=None if member.cancel_at is not None else ending, trouble="missing"
                )
                for member in members[start : start + SETTLE_AT_MOST]
            ]
            settled += await self.ledger.batches.settle(batch, lines, now)
        return settled

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
            if copy.state is not RemoteState.RUNNING:
                continue
            try:
                await self.call(side, "cancel", side.plugin.cancel(copy), CANCEL_SECONDS)
            except (ProviderError, PluginFault) as error:
                self.log(batch).warning("cancel_failed", remote_id=copy.remote_id, reason=trouble(error))

    def decode(self, side: Side, row: bytes) -> Result:
        """What a fetched row says. Raises `PluginFault`, logged under the plugin's name, where `decode` raises; for threads."""
        try:
            return side.plugin.decode(row)
        except Exception as error:
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


def deadline(batch: BatchRow, window_seconds: float, give_up_hours: float) -> float:
    """When a batch that was sent is given up: `give_up_hours` after the provider should have ended it, or has."""
    if batch.ended_at is not None:
        return batch.ended_at + OVERDUE_SECONDS + give_up_hours * 3600
    sent = batch.submitted_at if batch.submitted_at is not None else batch.last_sent_at
    return (batch.sealed_at if sent is None else sent) + window_seconds + OVERDUE_SECONDS + give_up_hours * 3600


def is_out_of_sight(batch: BatchRow) -> bool:
    """Whether a batch in doubt went missing together with all others of its account, none of which has been seen since."""
    return batch.state is BatchState.RECONCILING and (batch.parked_reason or "").startswith(OUT_OF_SIGHT)


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


def backoff(troubles: int, first: float, longest: float) -> float:
    """A pause that doubles with each trouble in a row."""
    return min(longest, first * 2.0 ** min(troubles, 20))


def _of_the_disk(error: Exception) -> bool:
    """Whether the ledger or a file could not be read or written; a plugin's own errors are told by class."""
    return isinstance(error, LedgerError) or (isinstance(error, OSError) and error.errno is not None)


def unquoted(reason: str) -> str:
    """A refusal for the log: without the provider's own words, which may quote the request that they are about."""
    told = re.match(r"(?:[a-z ]+: )?status \d{3}", reason)
    return told[0] if told else f"{len(reason)} characters, told to whose request it was"


def trouble(error: Exception) -> str:
    """What went wrong in a call, for a log or a parked batch."""
    if isinstance(error, PluginFault):
        return str(error)
    return f"{type(error).__name__}: {error}"
