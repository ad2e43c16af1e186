"""What has just been settled is told to whoever waits, to the cache and to the metrics.

Floor 3. Nothing of it is durable, nor needs to be: the ledger has it already, callers come again, the cache may miss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from msgspec.structs import replace

from gateway.errors import LedgerError
from gateway.metrics import Metrics
from gateway.records import RequestState
from gateway.store.cache import Cache, Entry
from gateway.store.ledger import Ledger
from gateway.store.rows import Ending, Sample
from gateway.store.shipping import Settled, Settlement

#: Requests that one line of the log names.
NAMED_AT_MOST = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Hands endings on, in whichever way their answers came."""

    #: Gives callers their endings: `Waiters.wake`.
    wake: Callable[[Mapping[int, Ending]], None]
    cache: Cache
    metrics: Metrics

    def deliver(self, provider: str, settlements: Sequence[Settlement], settled: Sequence[Settled], now: float) -> None:
        """Wake the callers of `settled` with the endings of `settlements`, one for each place; keep answers; count.

        Each of `settlements` was booked by the commit that returned `settled`, and by none before it.
        """
        instead = {request.n: request.instead for request in settled if request.instead is not None}
        settlements = [
            replace(line, ending=instead[line.n], output="served") if line.n in instead else line
            for line in settlements
        ]
        endings = {settlement.n: settlement.ending for settlement in settlements}
        self.wake({request.seq: ending for request in settled if (ending := endings[request.n]) is not None})
        self._count(provider, settlements, settled)
        self.cache.write(list(_entries(settled, endings, now)))

    def _count(self, provider: str, settlements: Sequence[Settlement], settled: Iterable[Settled]) -> None:
        metrics = self.metrics
        states = {request.n: request.state for request in settled}
        ended = [line for line in settlements if line.n in states]
        for outcome, lines in Counter(line.output for line in settlements if line.output).items():
            metrics.structured_outputs.of(provider, outcome).inc(lines)
        count_ended(metrics, provider, states.values())
        # An answer that nobody gets (its request goes back for another one, was cancelled, has ended) was paid all the same.
        paid = [line for line in settlements if line.billed]
        metrics.unpriced_lines.of(provider).inc(sum(line.cost_usd is None for line in paid))
        metrics.cost_usd.of(provider).inc(sum(line.cost_usd or 0.0 for line in paid))
        metrics.saved_usd.of(provider).inc(sum(max(0.0, line.saved_usd or 0.0) for line in ended))


def count_ended(metrics: Metrics, provider: str, states: Iterable[RequestState]) -> None:
    """Count requests whose ending has just been committed, by how they ended; each has one ending, and is counted with it."""
    for state, requests in Counter(states).items():
        metrics.requests_ended.of(provider, state.value).inc(requests)


async def names_of(ledger: Ledger, settled: Iterable[Settled]) -> list[str]:
    """By which callers and commands know these requests, for a log: of the first few, and as far as the ledger can be read."""
    names: list[str] = []
    with suppress(LedgerError):
        for request in islice(settled, NAMED_AT_MOST):
            rows = await ledger.requests.listed(None, limit=1, after_seq=request.seq - 1)
            names += [row.custom_id for row in rows if row.seq == request.seq]
    return names


def _entries(settled: Iterable[Settled], endings: Mapping[int, Ending | None], now: float) -> Iterator[Entry]:
    """What the cache keeps of them."""
    for request in settled:
        ending = endings[request.n]
        entry = None if ending is None else kept(request, ending, now)
        if entry is not None:
            yield entry


def kept(request: Settled, ending: Ending, now: float) -> Entry | None:
    """What the cache keeps of a request that has ended so; None: nothing, of failures, without a slot, or by its wish."""
    if ending.state is not RequestState.SUCCEEDED or request.ordinal is None or request.no_store:
        return None
    return Entry(
        fingerprint=request.fingerprint, sample=Sample(ordinal=request.ordinal, body=ending.body, ended_at=now)
    )
