"""The floor of durable intake: one SQLite writer thread that commits whatever has gathered, tasks that wait for it."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.bodies import Bodies
from benchmarks.servants import Command, serve

Waiting = tuple[bytes, bytes, "asyncio.Future[None]"]


class GroupCommit:
    """Rows of 1 KB with a unique name and an index of states, synchronous = FULL."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: queue.SimpleQueue[Waiting] = queue.SimpleQueue()
        self._count = 0
        threading.Thread(target=self._write, daemon=True).start()

    async def run(self, waiting: int, seconds: float) -> dict[str, float]:
        """`waiting` tasks store row after row; how many rows a second became durable."""
        began, before = time.perf_counter(), self._count
        await asyncio.gather(*(self._store(began + seconds) for _ in range(waiting)))
        return {"per_second": (self._count - before) / (time.perf_counter() - began)}

    async def _store(self, until: float) -> None:
        bodies = Bodies(tag="floor")
        while time.perf_counter() < until:
            self._count += 1
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queue.put((bodies.name(self._count), bodies.of(self._count), future))
            await future

    def _write(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE r (seq INTEGER PRIMARY KEY, name TEXT UNIQUE, state TEXT, body BLOB)")
        connection.execute("CREATE INDEX s ON r (state, seq)")
        while True:
            group = [self._queue.get()]
            while not self._queue.empty():
                group.append(self._queue.get())
            connection.execute("BEGIN")
            rows = [(name.decode(), body) for name, body, _ in group]
            connection.executemany("INSERT INTO r (name, state, body) VALUES (?, 'queued', ?)", rows)
            connection.execute("COMMIT")
            group[0][2].get_loop().call_soon_threadsafe(_wake, group)


def _wake(group: Sequence[Waiting]) -> None:
    for _, _, future in group:
        future.set_result(None)


async def _commands() -> Mapping[str, Command]:
    return {"run": GroupCommit(Path(sys.argv[1])).run}


if __name__ == "__main__":
    serve(_commands)
