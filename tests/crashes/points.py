"""Crash points: every durable step of a gateway has one, found by watching its borders, without a hook in it.

The borders are the ledger's database (`requests.admit:committed`), the calls of a plugin (`submit:begun`,
`submit:acted`), the files of batches (`rows:renamed`) and, seen from the other side, each request to a provider
(`http.upload.1:done`, see `wire`). A step that is new in the gateway has its points by itself.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TypeVar

from gateway.provider import Provider
from gateway.store.database import Database, Session

T = TypeVar("T")

#: The exit status of a process that was ended at its point.
CRASHED = 77
#: The calls of a plugin that reach its provider.
VERBS = ("upload", "submit", "find", "poll", "fetch", "cancel", "discard", "complete_payload")
#: As points name them.
CALLS = frozenset(verb.removesuffix("_payload") for verb in VERBS)
#: The commits before and after which a call is made.
COMMITS_OF_CALLS = frozenset({"batches.uploaded", "batches.intend", "batches.submitted", "batches.mark_cancelling"})
#: What the names of points at the provider's own door begin with, see `wire`.
WIRE = "http"
#: Phases in which a step has left something behind, so that the next process finds another world than before it.
DURABLE = ("committed", "acted", "done", "renamed", "removed")
_in_call: ContextVar[bool] = ContextVar("in_call", default=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The `turn`-th time that a step reaches a phase: `batches.intend:committed`, the second."""

    name: str
    turn: int = 1

    def __str__(self) -> str:
        return f"{self.name}#{self.turn}"

    @property
    def by_call(self) -> bool:
        """Whether it stands beside a call of the provider: before, in or after it, or after the commit that belongs to it."""
        step = self.name.partition(":")[0]
        return self.on_the_wire or step in CALLS or step in COMMITS_OF_CALLS

    @property
    def on_the_wire(self) -> bool:
        """Whether it is the provider who is there, between two requests of one call."""
        return self.name.startswith(f"{WIRE}.")

    @property
    def operation(self) -> str:
        """Of a point on the wire: what its request is for, `upload`."""
        return self.name.split(".")[1]

    @property
    def durable(self) -> bool:
        """Whether something lasting was done just before."""
        return self.name.rpartition(":")[2] in DURABLE


class Watch:
    """Counts the points of one process, and ends the process at the one it was told; knows what is under way."""

    def __init__(self, target: Point | None = None) -> None:
        """`target` None: the process goes on, and `passed` is its trace."""
        self.passed: list[Point] = []
        self._target = target
        self._turns: Counter[str] = Counter()
        self._lock = threading.Lock()
        #: Writes, calls and errands in threads that have not come back.
        self.under_way = 0

    def reach(self, name: str) -> None:
        """The process is at this point now; from any thread."""
        with self._lock:
            self._turns[name] += 1
            point = Point(name=name, turn=self._turns[name])
            self.passed.append(point)
            if point == self._target:
                os._exit(CRASHED)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Something is under way in the block; in the loop only."""
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1

    async def quiet(self, turns: int = 12) -> None:
        """Return when nothing is under way and nobody in the loop has anything to do before the clock is turned."""
        calm = 0
        while calm < turns:
            calm = calm + 1 if not self.under_way else 0
            await asyncio.sleep(0 if not self.under_way else 0.0002)


class WatchedDatabase:
    """A `Database` whose commits are points, named after the ledger's room and verb that asked for them."""

    def __init__(self, database: Database, watch: Watch) -> None:
        """Everything but writes goes through."""
        self._database = database
        self._watch = watch

    async def write(self, op: Callable[[Session], T], *, bulk: bool = False) -> T:
        """As the database's; a write that changes no row is no step."""
        name = verb_of(sys._getframe(1))
        changes = 0

        def counted(session: Session) -> T:
            nonlocal changes
            connection = session._connection  # type: ignore[attr-defined]
            before = connection.total_changes
            outcome = op(session)
            changes = connection.total_changes - before
            if changes:
                self._watch.reach(f"{name}:open")
            return outcome

        with self._watch.busy():
            outcome = await self._database.write(counted, bulk=bulk)
            if changes:
                self._watch.reach(f"{name}:committed")
            return outcome

    def __getattr__(self, name: str) -> object:
        """All but writes is as the database's."""
        return getattr(self._database, name)


def verb_of(frame: FrameType | None) -> str:
    """`room.verb` of the outermost frame that is still in the ledger: `batches.intend`, whatever helps it inside."""
    name = "database.write"
    while frame is not None and frame.f_globals.get("__name__", "").startswith("gateway.store."):
        owner, _, verb = frame.f_code.co_qualname.partition(".<locals>")[0].rpartition(".")
        name = f"{owner.lower()}.{verb}" if owner else verb
        frame = frame.f_back
    return name


def watched_kind(kind: type[Provider], watch: Watch) -> type[Provider]:
    """The kind, with a point before each call of its provider and one after it."""
    return type(kind.__name__, (kind,), {verb: _watched(verb, getattr(kind, verb), watch) for verb in VERBS})


def _watched(verb: str, call: Callable[..., Awaitable[T]], watch: Watch) -> Callable[..., Awaitable[T]]:
    name = verb.removesuffix("_payload")

    async def watched(*arguments: object, **named: object) -> T:
        if _in_call.get():
            return await call(*arguments, **named)
        token = _in_call.set(True)
        try:
            with watch.busy():
                watch.reach(f"{name}:begun")
                outcome = await call(*arguments, **named)
                watch.reach(f"{name}:acted")
                return outcome
        finally:
            _in_call.reset(token)

    return watched


def watch_files(directory: Path, watch: Watch) -> None:
    """Points where a file below `directory` gets its name or goes; for the rest of this process."""
    replace, unlink = Path.replace, Path.unlink

    def watched_replace(self: Path, target: Path) -> Path:
        if self.parent != directory:
            return replace(self, target)
        name = _file(Path(target))
        watch.reach(f"{name}:written")
        moved = replace(self, target)
        watch.reach(f"{name}:renamed")
        return moved

    def watched_unlink(self: Path, missing_ok: bool = False) -> None:
        there = self.parent == directory and self.exists()
        unlink(self, missing_ok=missing_ok)
        if there:
            watch.reach(f"{_file(self)}:removed")

    Path.replace = watched_replace  # type: ignore[method-assign, assignment]
    Path.unlink = watched_unlink  # type: ignore[method-assign]


def _file(path: Path) -> str:
    """What points call a file of a batch: `lines`, `rows`, `proof`, `part`."""
    return {".jsonl": "lines"}.get(path.suffix, path.suffix[1:])


class WatchedThreads(ThreadPoolExecutor):
    """The loop's threads; what they do is under way until the loop has heard of its end."""

    def __init__(self, watch: Watch) -> None:
        """For the running loop."""
        super().__init__(max_workers=4)
        self._watch = watch
        self._loop = asyncio.get_running_loop()

    def submit(self, work: Callable[..., T], /, *arguments: object, **named: object) -> Future[T]:
        """As any pool of threads."""
        self._watch.under_way += 1
        future = super().submit(work, *arguments, **named)
        future.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._done))
        return future

    def _done(self) -> None:
        self._watch.under_way -= 1


def thinned(trace: Iterable[Point], most: int) -> list[Point]:
    """Of each name at most so many turns, the first and the last among them, spread evenly; in the trace's order."""
    trace = list(trace)
    turns = Counter(point.name for point in trace)
    kept: set[Point] = set()
    for name, count in turns.items():
        steps = min(most, count)
        chosen = {1 + round(step * (count - 1) / max(steps - 1, 1)) for step in range(steps)}
        kept |= {Point(name=name, turn=turn) for turn in chosen}
    return [point for point in trace if point in kept]
