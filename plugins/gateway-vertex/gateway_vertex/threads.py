"""Blocking work beside the event loop: a thread cannot be cancelled, so it is told and stops by itself."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import IO, TypeVar

T = TypeVar("T")

#: A transfer works so long on end, then leaves the interpreter to the event loop.
_SLICE_SECONDS = 0.002
_REST_SECONDS = 0.001


class Abandoned(Exception):
    """Nobody waits for this transfer any more."""


class Leash:
    """What ties a thread to the coroutine that waits for it; `pull` is called by the thread, often."""

    def __init__(self) -> None:
        self._let_go = threading.Event()
        self._began: float | None = None

    def let_go(self) -> None:
        """Make the next `pull` raise."""
        self._let_go.set()

    def pull(self) -> None:
        """Give the event loop its turn. Raises `Abandoned`."""
        if self._let_go.is_set():
            raise Abandoned
        now = time.thread_time()
        if self._began is None:
            self._began = now
        elif now - self._began >= _SLICE_SECONDS:
            time.sleep(_REST_SECONDS)
            self._began = time.thread_time()


class LeashedFile:
    """A binary file, for an SDK that reads or writes it piece by piece."""

    def __init__(self, file: IO[bytes], leash: Leash) -> None:
        self._file = file
        self._leash = leash

    def read(self, size: int = -1) -> bytes:
        """As the file's."""
        self._leash.pull()
        return self._file.read(size)

    def write(self, chunk: bytes) -> int:
        """As the file's."""
        self._leash.pull()
        return self._file.write(chunk)

    def tell(self) -> int:
        """As the file's."""
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        """As the file's."""
        return self._file.seek(offset, whence)


async def leashed(work: Callable[[Leash], T]) -> T:
    """What `work` returns, done in a thread; when the wait is cancelled, the thread stops at its next `pull`.

    A thread of its own: a transfer takes minutes, and the loop's own few are for what is quick. It holds up no end of the
    process either.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()
    leash = Leash()

    def run() -> None:
        try:
            tell = partial(answer.set_result, work(leash))
        except BaseException as error:  # noqa: BLE001 - the coroutine that waits is the one to raise it
            tell = partial(answer.set_exception, error)
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(lambda: None if answer.done() else tell())

    threading.Thread(target=run, name="vertex-transfer", daemon=True).start()
    try:
        return await answer
    finally:
        leash.let_go()
