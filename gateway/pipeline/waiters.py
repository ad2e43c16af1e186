"""Callers that wait for an answer, and the mark each leaves when it goes.

Takes requests in any state and leaves them as they are; if the process dies half-way, its callers' connections break,
the holds of its boot end with it, and the callers' retries find their requests by name or fingerprint.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from msgspec.structs import replace

from gateway.clock import Clock
from gateway.errors import BatchwayError
from gateway.store.ledger import Ledger
from gateway.store.rows import Departure, Ending, Slot

#: Pause between two looks at the ledger for endings that no event told of.
SWEEP_SECONDS = 1.0
#: At most this many ids are read again in one look; more waiters take turns.
SWEEP_AT_MOST = 2_000
#: Whoever watches a request looks again within this time, or has lost interest.
WATCHED_SECONDS = 120.0
#: Marks are committed together, at the latest after this long.
FOLD_SECONDS = 0.05


class Stopping(BatchwayError):
    """The process is shutting down: callers are sent away, their requests stay."""


@dataclass(slots=True)
class Deliveries:
    """Answers of one request that were written whole, not in the ledger yet."""

    count: int
    first_at: float
    last_at: float


class Waiters:
    """From a request's seq to the callers of this process that wait for it."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        """Nobody waits yet."""
        self._ledger = ledger
        self._clock = clock
        self._futures: dict[int, list[asyncio.Future[Ending]]] = {}
        self._holders: Counter[int] = Counter()
        #: When a watcher last went, the earliest first.
        self._unwatched: dict[int, float] = {}
        self._departures: list[Departure] = []
        self._writing: Counter[int] = Counter()
        self._delivered: dict[int, Deliveries] = {}
        self._released: Counter[int] = Counter()
        self._resume = 0
        self._count = 0
        self._stopping = False
        self.departed = asyncio.Event()

    def __len__(self) -> int:
        """How many callers wait."""
        return self._count

    def counts(self, seqs: Iterable[int]) -> dict[int, int]:
        """How many callers of this process hold each of `seqs`."""
        return {seq: self._holders[seq] for seq in seqs if seq in self._holders}

    def attach(self, seq: int) -> asyncio.Future[Ending]:
        """Register a caller that holds request `seq`; whoever attaches must `leave`."""
        self._holders[seq] += 1
        return self.watch(seq)

    def watch(self, seq: int) -> asyncio.Future[Ending]:
        """Register somebody who waits for request `seq` and does not hold it; whoever watches must `unwatch`."""
        future: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        if self._stopping:
            _send_away(future)
        self._futures.setdefault(seq, []).append(future)
        self._count += 1
        return future

    async def look(self, seq: int, future: asyncio.Future[Ending]) -> Ending | None:
        """The ending of request `seq` if it has one already.

        To be called once after attaching: an ending committed in between would be told to nobody.
        """
        return None if future.done() else await self._ledger.requests.ending(seq)

    def leave(self, seq: int, future: asyncio.Future[Ending], departure: Departure) -> None:
        """The caller behind `future` is gone; `departure` is its mark, `last` filled in here."""
        self._let_go(seq, future)
        _count_down(self._holders, seq)
        self.mark(replace(departure, last=seq not in self._holders))

    def unwatch(self, seq: int, future: asyncio.Future[Ending]) -> None:
        """Whoever watched by `future` is gone."""
        self._let_go(seq, future)
        now = self._clock.monotonic()
        self._unwatched.pop(seq, None)
        self._unwatched[seq] = now
        for old in list(takewhile(lambda each: self._unwatched[each] <= now - WATCHED_SECONDS, self._unwatched)):
            del self._unwatched[old]

    def watched(self) -> set[int]:
        """Requests that somebody waits for without holding them, or did so until a moment ago: not abandoned."""
        since = self._clock.monotonic() - WATCHED_SECONDS
        lately = {seq for seq, at in self._unwatched.items() if at > since}
        return lately | (self._futures.keys() - self._holders.keys())

    def _let_go(self, seq: int, future: asyncio.Future[Ending]) -> None:
        future.cancel()
        others = self._futures.get(seq, [])
        if future in others:
            others.remove(future)
            self._count -= 1
        if not others:
            self._futures.pop(seq, None)

    def mark(self, departure: Departure) -> None:
        """Keep a mark until it is committed, and let choices see it at once."""
        self._departures.append(departure)
        if departure.delivered:
            self._deliver(departure)
        if departure.last:
            self._released[departure.seq] += 1
        self.departed.set()

    def stop(self) -> None:
        """Send every caller away, those that come from now on too."""
        self._stopping = True
        for futures in self._futures.values():
            for future in futures:
                _send_away(future)

    def book(self, seq: int) -> None:
        """An answer from store is about to be written: the next caller must get another sample. Undone by `unbook`."""
        self._writing[seq] += 1

    def unbook(self, seq: int) -> None:
        """It has been written (and marked so), or given up."""
        _count_down(self._writing, seq)

    def _deliver(self, departure: Departure) -> None:
        at = departure.at
        known = self._delivered.setdefault(departure.seq, Deliveries(count=0, first_at=at, last_at=at))
        known.count += 1
        known.first_at, known.last_at = min(known.first_at, at), max(known.last_at, at)

    def _undeliver(self, seq: int) -> None:
        self._delivered[seq].count -= 1
        if not self._delivered[seq].count:
            del self._delivered[seq]

    def wake(self, endings: Mapping[int, Ending]) -> None:
        """Give their callers the endings, which are durable."""
        for seq, ending in endings.items():
            for future in self._futures.get(seq, ()):
                if not future.done():
                    future.set_result(ending)

    def overlay(self, slots: Sequence[Slot]) -> list[Slot]:
        """`slots` as they are once this process's uncommitted marks are folded in."""
        if not (self._writing or self._delivered or self._released or self._futures):
            return list(slots)
        return [self._overlaid(slot) for slot in slots]

    def _overlaid(self, slot: Slot) -> Slot:
        writing = self._writing.get(slot.seq, 0)
        delivered = self._delivered.get(slot.seq)
        waiters = self._holders.get(slot.seq, 0)
        released = slot.held and not waiters and slot.seq in self._released
        if not (writing or waiters or released) and delivered is None:
            return slot
        first, last = slot.first_delivered_at, slot.last_delivered_at
        if delivered is not None:
            first, last = _known(min, first, delivered.first_at), _known(max, last, delivered.last_at)
        return replace(
            slot,
            waiters=waiters,
            held=slot.held and not released,
            deliveries=slot.deliveries + writing + (0 if delivered is None else delivered.count),
            first_delivered_at=first,
            last_delivered_at=self._clock.now() if writing else last,
        )

    @property
    def unfolded(self) -> int:
        """At most so many requests have marks that are not in the ledger yet: a read of slots reaches that much further."""
        return len(self._writing) + len(self._delivered)

    def take_departures(self) -> list[Departure]:
        """The marks so far, for a write that carries them; give them back through `folded` or `put_back`."""
        taken, self._departures = self._departures, []
        return [self._as_of_now(departure) for departure in taken]

    def _as_of_now(self, departure: Departure) -> Departure:
        """Nobody was the last to leave if somebody has joined since: the request is held on."""
        if not departure.last or departure.seq not in self._holders:
            return departure
        _count_down(self._released, departure.seq)
        return replace(departure, last=False)

    def folded(self, departures: Sequence[Departure]) -> None:
        """These marks are in the ledger now."""
        for departure in departures:
            if departure.delivered:
                self._undeliver(departure.seq)
            if departure.last:
                _count_down(self._released, departure.seq)

    def put_back(self, departures: Sequence[Departure]) -> None:
        """The write that carried these marks failed: they go with the next one."""
        self._departures[:0] = departures
        self.departed.set()

    async def fold(self) -> None:
        """Commit the marks so far. When it is cancelled, the ledger finishes what it was given: nothing is put back."""
        departures = self.take_departures()
        if not departures:
            return
        try:
            await self._ledger.requests.depart(departures)
        except Exception:
            self.put_back(departures)
            raise
        self.folded(departures)

    async def sweep(self) -> None:
        """Wake whoever's request ended without an event: another replica's work, or a lost wake-up."""
        seqs = sorted(self._futures)
        if not seqs:
            return
        later = [seq for seq in seqs if seq > self._resume]
        turn = (later + seqs)[: min(SWEEP_AT_MOST, len(seqs))]
        self._resume = turn[-1]
        self.wake(await self._ledger.requests.endings(turn))

    async def run_folds(self) -> None:
        """Commit marks for ever, together, soon after they are made."""
        while True:
            await self.departed.wait()
            await self._clock.sleep(FOLD_SECONDS)
            self.departed.clear()
            await self.fold()

    async def run_sweeps(self) -> None:
        """Sweep for ever."""
        while True:
            await self._clock.sleep(SWEEP_SECONDS)
            await self.sweep()


def _known(choose: Callable[[float, float], float], stored: float | None, marked: float) -> float:
    return marked if stored is None else choose(stored, marked)


def _count_down(counts: Counter[int], seq: int) -> None:
    counts[seq] -= 1
    if counts[seq] <= 0:
        del counts[seq]


def _send_away(future: asyncio.Future[Ending]) -> None:
    if not future.done():
        future.set_exception(Stopping())
        future.exception()
