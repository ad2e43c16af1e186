"""Whose key it is, and whether that account takes calls at the moment; every call of a plugin goes through here.

Floor 3. It lives in this process only: after a restart every account is tried afresh, which costs one call. What a batch
waits for is in the ledger (`retry_at`), and is waited for all the same; but what waits for its key is tried with the account.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

import structlog

from gateway.clock import Clock
from gateway.config import Retries
from gateway.configured import ConfiguredProvider, log_fault
from gateway.errors import PluginFault, ProviderError, Unauthorised
from gateway.metrics import Metrics
from gateway.records import RemoteBatch, Result
from gateway.store.rows import LaneKey
from gateway.store.shipping import account_key

#: A breaker never stays open longer than this.
LONGEST_BREAK_SECONDS = 300.0
#: What the kernel says of a disk, never of a connection.
DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS})
#: What a verb returns: anything else would break far from the plugin that is to blame.
_RETURNS: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {
        "upload": (str, type(None)),
        "submit": (RemoteBatch,),
        "poll": (RemoteBatch,),
        "find": (list, tuple),
        "complete": (Result,),
    }
)
#: Verbs for which a key may be no good, for want of rights or money, that is good for all others.
_SENDING = frozenset({"submit", "upload"})

T = TypeVar("T")


@dataclass(slots=True)
class Breaker:
    """Whether an account's creates may be tried; of all tables of the account. Times are monotonic.

    Polls and listings that go well say that the provider answers, not that it creates: they end the pause after one failed
    create. When creates go on failing, the pause grows whatever else goes well, until one of them does. What the provider
    asked for by `Retry-After` is waited for in any case.
    """

    clock: Clock
    first_break_seconds: float
    #: A create is under way whose provider has no place for a marker.
    creating: bool = False
    #: Creates that failed in a row.
    failures: int = 0
    creates_from: float = 0.0
    #: As `creates_from`, by the provider's own wish.
    wished_from: float = 0.0
    reason: str = ""

    def seconds_left(self) -> float:
        """How long until a create may be tried."""
        return max(0.0, max(self.creates_from, self.wished_from) - self.clock.monotonic())

    def failed(self, reason: str, retry_after: float | None) -> float:
        """A create did not go through: stop creates, longer each time. Returns for how many seconds."""
        now = self.clock.monotonic()
        pause = min(LONGEST_BREAK_SECONDS, self.first_break_seconds * 2.0 ** min(self.failures, 10))
        self.failures += 1
        self.creates_from = now + pause
        self.wished_from = max(self.wished_from, now + (retry_after or 0.0))
        self.reason = reason
        return max(pause, retry_after or 0.0)

    def answered(self) -> None:
        """A poll or a listing went well."""
        if self.failures <= 1:
            self.creates_from = 0.0

    def created(self) -> None:
        """A create went well, or was refused for what it asked."""
        self.failures = 0
        self.creates_from = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Why a lane's creates are not tried, and until when. Monotonic."""

    until: float
    reason: str


@dataclass(slots=True)
class Account:
    """What may be asked with one table's key: its account's breaker, and its own stop when the key is refused.

    Tables of one account may have keys of their own: one that is refused says nothing of the others. Times are monotonic.
    """

    breaker: Breaker
    unauthorised_seconds: float
    calls_from: float = 0.0
    refusal: str = ""
    #: The key was refused, and nothing has gone well since.
    key_refused: bool = False
    #: Something has gone well with the key since it was last refused.
    key_works: bool = False
    #: Lanes whose creates were refused, for want of rights or money, while the key was good for other calls.
    stops: dict[LaneKey, Stop] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """Why nothing may be asked, or created, now; empty when nothing has gone wrong."""
        return self.breaker.reason if self.may_call() else self.refusal

    def reason_in(self, lane: LaneKey) -> str:
        """As `reason`, of what may be created in that lane."""
        stopped = self.may_call() and self._seconds_stopped(lane)
        return self.stops[lane].reason if stopped else self.reason

    def may_create(self, lane: LaneKey | None = None) -> bool:
        """Whether a create (and a seal) may be tried now, in that lane."""
        return not self.seconds_left(lane)

    def may_call(self) -> bool:
        """Whether anything may be asked with this key now."""
        return not self._seconds_without_key()

    def seconds_left(self, lane: LaneKey | None = None) -> float:
        """How long until a create may be tried, in that lane."""
        stopped = self._seconds_stopped(lane) if lane else 0.0
        return max(self._seconds_without_key(), self.breaker.seconds_left(), stopped)

    def create_failed(self, reason: str, retry_after: float | None = None) -> float:
        """A create did not go through: stop creates, longer each time. Returns for how many seconds."""
        return self.breaker.failed(reason, retry_after)

    def works(self) -> None:
        """A poll or a listing went well: the key is good, and the breaker hears of it."""
        self.calls_from = 0.0
        self.key_refused = False
        self.breaker.answered()

    def created(self) -> None:
        """A create went well: everything may be tried."""
        self.works()
        self.breaker.created()

    def unauthorised(self, reason: str) -> float:
        """The key was refused: nothing is asked with it for a while. Returns for how many seconds."""
        self.calls_from = self.breaker.clock.monotonic() + self.unauthorised_seconds
        self.refusal = f"unauthorised: {reason}"
        self.key_refused = True
        self.key_works = False
        return self.unauthorised_seconds

    def not_allowed(self, lane: LaneKey, reason: str) -> float:
        """A create of that lane, or an upload for one, was refused. Returns for how many seconds its batches wait.

        Where the key was not refused altogether, the lane alone stops: a model that a project may not use is no reason for
        anybody else to wait.
        """
        if self.may_call():
            now = self.breaker.clock.monotonic()
            self.stops = {other: stop for other, stop in self.stops.items() if stop.until > now}
            self.stops[lane] = Stop(until=now + self.unauthorised_seconds, reason=f"unauthorised: {reason}")
        return self.seconds_left(lane)

    def _seconds_stopped(self, lane: LaneKey) -> float:
        stop = self.stops.get(lane)
        return 0.0 if stop is None else max(0.0, stop.until - self.breaker.clock.monotonic())

    def _seconds_without_key(self) -> float:
        return max(0.0, self.calls_from - self.breaker.clock.monotonic())


@dataclass(slots=True)
class Accounts:
    """All accounts of this process; made on first use."""

    clock: Clock
    retries: Retries
    metrics: Metrics
    #: By name of table.
    known: dict[str, Account] = field(default_factory=dict)
    #: By account; a table without one is an account of its own.
    breakers: dict[str, Breaker] = field(default_factory=dict)

    def of(self, provider: ConfiguredProvider) -> Account:
        """What a table's key may do; tables of one account share its breaker."""
        if provider.name not in self.known:
            whose = account_key(provider.account, provider.name)
            if whose not in self.breakers:
                self.breakers[whose] = Breaker(clock=self.clock, first_break_seconds=self.retries.breaker_seconds)
            self.known[provider.name] = Account(
                breaker=self.breakers[whose], unauthorised_seconds=self.retries.unauthorised_seconds
            )
        return self.known[provider.name]

    def refused(self, providers: Iterable[ConfiguredProvider]) -> list[str]:
        """The names of those whose key was refused when it was last used: nothing is asked of them until it is tried again."""
        return [provider.name for provider in providers if self.of(provider).key_refused]

    async def call(
        self, provider: ConfiguredProvider, verb: str, work: Coroutine[object, object, T], at_most_seconds: float
    ) -> T:
        """What a plugin's coroutine returns, within a time.

        Raises the plugin's `ProviderError`; `TimeoutError` when the time is up; `PluginFault` for everything else, also for an
        answer that the verb does not have, with the traceback logged under the plugin's name; `OSError` as it is when our own
        disk is full or fails. A refused key stops the account; where it is no good for a create, and good for other calls,
        nothing stops here.
        """
        try:
            async with asyncio.timeout(at_most_seconds):
                answer = await work
        except Unauthorised as error:
            self._refused(provider, verb, error)
            raise
        except (ProviderError, TimeoutError):
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # The plugin's own, out of its libraries: it would end our step without a word, and the batch with it.
            raise self.fault(provider, verb, error) from error
        except OSError as error:
            # A result file that cannot be written is no fault of the plugin's, nor is it one of the line.
            if error.errno in DISK_ERRNOS:
                raise
            raise self.fault(provider, verb, error) from error
        except (Exception, SystemExit) as error:
            # Out of a task, SystemExit would end the gateway, and again at every start.
            raise self.fault(provider, verb, error) from error
        if not isinstance(answer, _RETURNS.get(verb, object)):
            returned = "nothing" if answer is None else type(answer).__name__
            raise self.fault(provider, verb, PluginFault(f"returned {returned} from {verb}"))
        account = self.of(provider)
        if account.may_call():
            account.key_refused = False
            account.key_works = True
        return answer

    def _refused(self, provider: ConfiguredProvider, verb: str, error: Unauthorised) -> None:
        account, log = self.of(provider), structlog.get_logger()
        if verb in _SENDING and account.key_works and not error.of_key:
            log.warning("create_not_allowed", provider=provider.name, verb=verb, reason=error.reason)
            return
        seconds = account.unauthorised(error.reason)
        log.warning("key_refused", provider=provider.name, verb=verb, reason=error.reason, seconds=seconds)

    def fault(self, provider: ConfiguredProvider, verb: str, error: BaseException) -> PluginFault:
        """As `plugin_fault`, of this provider."""
        return plugin_fault(self.metrics, provider.name, provider.table.kind, verb, error)


def plugin_fault(metrics: Metrics, provider: str, kind: str, verb: str, error: BaseException) -> PluginFault:
    """Count and log an exception that a plugin must not raise; returned for the reason of what waits for it."""
    metrics.plugin_faults.of(provider).inc()
    log_fault(provider, kind, verb, error)
    said = str(error) if isinstance(error, PluginFault) else f"raised {type(error).__name__} in {verb}"
    return PluginFault(f"plugin of kind {kind!r} {said}")
