"""Ask one request of a provider without batches, and write down what came of it.

Takes requests in `queued` that are claimed; leaves them ended, or `queued` without a claim for a later try. If the process
dies half-way, the claim stays on a request in `queued`: it is asked again, which is counted, as its first call may be paid.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TypeVar

import structlog

from gateway.accounts import Account
from gateway.config import Retries
from gateway.configured import ConfiguredProvider
from gateway.delivery import Delivery, count_ended
from gateway.endings import Judged, Way, refused, settle_by
from gateway.errors import (
    LedgerError,
    Missing,
    PluginFault,
    ProviderError,
    Rejected,
    Retryable,
    TokenLimit,
    Unauthorised,
    Unsupported,
)
from gateway.pipeline.waiters import Waiters
from gateway.provider import Provider
from gateway.records import ErrorBody, RequestState, Result
from gateway.store.cache import Cache
from gateway.store.shipping import AskableLane, Asked, Claimed, Settlement
from gateway.troubles import LEDGER_PAUSE_SECONDS, PARK_SECONDS, trouble
from gateway.upstream import Upstream

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """One claimed request and whom it is asked."""

    provider: ConfiguredProvider
    plugin: Provider
    account: Account
    lane: AskableLane
    claimed: Claimed

    @property
    def way(self) -> Way:
        """By itself."""
        return Way(provider=self.provider.name)


class Asker:
    """Makes the one call of each errand it is given; several at a time."""

    def __init__(self, upstream: Upstream, waiters: Waiters, cache: Cache, retries: Retries) -> None:
        """`waiters` and `cache` are told of what has been settled."""
        self._upstream = upstream
        self._completions = upstream.ledger.completions
        self._delivery = Delivery(wake=waiters.wake, cache=cache, metrics=upstream.metrics)
        self._waiters = waiters
        self._retries = retries

    async def run(self, errand: Errand) -> None:
        """One errand; whatever escapes from it is logged, and the request is left for a later try."""
        try:
            await self._ask(errand)
        except Exception as error:  # noqa: BLE001 - one request must not stop the others
            self._log(errand).exception("completion_failed")
            await self._pause_lane(errand, trouble(error))

    async def _ask(self, errand: Errand) -> None:
        """Make the one call, and write down what came of it. Its claim is durable by now."""
        if errand.claimed.again:
            self._upstream.metrics.asked_again.of(errand.provider.name).inc()
            self._log(errand).warning("asked_again", reason="a crash or a stop hid what its first call came to")
        try:
            result = await self._call(errand)
        except (Retryable, TokenLimit) as error:
            self._hold_back(errand, trouble(error), error.retry_after)
            await self._release(errand, "retryable")
        except Unauthorised:
            await self._release(errand, "unauthorised")
        except (Rejected, Unsupported, Missing) as error:
            errand.account.created()
            field_in_the_way = error.field if isinstance(error, Unsupported) else None
            await self._settle(errand, refused(errand.way, 0, error.reason, param=field_in_the_way))
        except PluginFault as error:
            await self._faulty(errand, error)
        except (ProviderError, TimeoutError) as error:
            self._hold_back(errand, trouble(error), None)
            await self._settle_result(errand, _unanswered(error))
        else:
            self._judge_account(errand, result)
            await self._settle_result(errand, result)

    async def _call(self, errand: Errand) -> Result:
        lane, claimed, plugin = errand.lane.lane, errand.claimed, errand.plugin
        work = plugin.complete_payload(lane.endpoint, lane.model, claimed.payload)
        return await self._upstream.accounts.call(errand.provider, "complete", work, plugin.completion_seconds)

    def _judge_account(self, errand: Errand, result: Result) -> None:
        """Any answer shows that the server is there; one of "too many requests" that it should have a rest."""
        if result.status == 429:
            self._hold_back(errand, "status 429", None)
        elif 0 < result.status < 500:
            errand.account.created()

    def _hold_back(self, errand: Errand, reason: str, wish: float | None) -> None:
        """Ask nothing of this account for a while. Calls that fail together are one failure: the pause grows once."""
        account = errand.account
        if account.may_create() or (wish or 0.0) > account.seconds_left():
            pause = account.create_failed(reason, wish)
            self._log(errand).warning("provider_pauses", reason=reason, seconds=round(pause, 1))

    async def _settle_result(self, errand: Errand, result: Result) -> None:
        upstream = self._upstream
        # The first time it loads a price list.
        pricing = await asyncio.to_thread(upstream.single_pricing, errand.provider, errand.lane.lane.model)
        now = upstream.clock.now()
        looks = self._retries.invalid_output != "accept"
        judged = await asyncio.to_thread(self._judged, errand, result) if looks else None
        try:
            settlement = settle_by(
                errand.way, result, errand.claimed.member, pricing, self._retries, now=now, judged=judged
            )
        except Exception as error:  # noqa: BLE001 - a body that is no JSON, say
            await self._faulty(errand, upstream.accounts.fault(errand.provider, "complete", error))
            return
        await self._settle(errand, settlement)

    def _judged(self, errand: Errand, result: Result) -> Judged | None:
        """What was found of an answer whose request wanted it in a form; runs in a thread."""
        judge = self._upstream.judge(errand.provider, errand.plugin, 1)
        claimed = errand.claimed
        asked = Asked(n=0, payload=claimed.payload, trouble=claimed.trouble)
        return None if judge is None else judge.judge(asked, result)

    async def _faulty(self, errand: Errand, fault: PluginFault) -> None:
        """A bug in the plugin would strike the next request too: the lane waits. What it struck may have been answered."""
        await self._settle_result(errand, _unanswered(fault))
        await self._written(lambda: park(self._upstream, errand.lane, trouble(fault), PARK_SECONDS))

    async def _settle(self, errand: Errand, settlement: Settlement) -> None:
        """Commit what the call came to, then wake its callers and remember its answer."""
        name, now = errand.provider.name, self._upstream.clock.now()
        self._upstream.metrics.completions.of(name, settlement.trouble or "answered").inc()
        settled = await self._written(lambda: self._completions.settle(errand.claimed, settlement, now))
        self._delivery.deliver(name, [settlement], [] if settled is None else [settled], now)
        if settled is not None and settlement.ending is None:
            await self._wake(errand)
        if errand.lane.parked_reason is not None:
            await self._upstream.ledger.lanes.unpark(errand.lane.lane_id)

    async def _release(self, errand: Errand, outcome: str) -> None:
        """Nothing has happened: the request stays where it was in its lane."""
        self._upstream.metrics.completions.of(errand.provider.name, outcome).inc()
        await self._give_back(errand)

    async def _give_back(self, errand: Errand) -> None:
        now = self._upstream.clock.now()
        if await self._written(lambda: self._completions.release(errand.claimed, now)):
            count_ended(self._upstream.metrics, errand.provider.name, [RequestState.CANCELLED])
            await self._wake(errand)

    async def _wake(self, errand: Errand) -> None:
        """Its wished cancel has come true."""
        self._waiters.wake(await self._upstream.ledger.requests.endings([errand.claimed.member.seq]))

    async def _pause_lane(self, errand: Errand, reason: str) -> None:
        """A bug of ours would strike the next request too: the lane waits, and says why."""
        await self._written(lambda: park(self._upstream, errand.lane, reason, PARK_SECONDS))
        await self._give_back(errand)

    async def _written(self, write: Callable[[], Coroutine[object, object, T]]) -> T:
        """What `write` returns, however long the ledger cannot write: an answer that was paid is not dropped."""
        while True:
            try:
                return await write()
            except LedgerError as error:
                structlog.get_logger().error("answer_waits", reason=str(error))
                await self._upstream.clock.sleep(LEDGER_PAUSE_SECONDS)

    def _log(self, errand: Errand) -> structlog.typing.FilteringBoundLogger:
        logger: structlog.typing.FilteringBoundLogger = structlog.get_logger()
        return logger.bind(
            custom_id=errand.claimed.custom_id, provider=errand.provider.name, model=errand.lane.lane.model
        )


async def park(upstream: Upstream, lane: AskableLane, reason: str, seconds: float) -> None:
    """Ask nothing of a lane for `seconds`, and say why."""
    await upstream.ledger.lanes.park(lane.lane_id, reason, upstream.clock.now() + seconds, None, 0)


def _unanswered(error: ProviderError | PluginFault | TimeoutError) -> Result:
    """A call of which nobody knows what came: it may have been answered, so it counts as an attempt."""
    late = isinstance(error, TimeoutError)
    said = "the call took longer than its time limit" if late else trouble(error)
    told = ErrorBody(message=said, type="upstream_error", code="request_timeout" if late else None)
    return Result(line_id=None, status=0, error=told, retriable=True)
