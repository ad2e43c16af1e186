"""Moving files between a provider and the disk, piece by piece: memory does not grow with their size.

Floor 1. For authors of plugins, in `upload` and `fetch`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from gateway.clock import Clock
from gateway.errors import Missing, Retryable

__all__ = ["PIECE_BYTES", "append_files", "append_rows", "end_row", "opened", "result_file", "until_usable"]

#: A good size for the pieces of a download: few enough for a large file, each written in well under a millisecond.
PIECE_BYTES = 1 << 18

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 10.0

_File = TypeVar("_File")


def opened(path: Path) -> IO[bytes]:
    """The file, to be read. Most SDKs send a handle piece by piece, and a path all at once."""
    return path.open("rb")


@contextmanager
def result_file(to: Path) -> Iterator[IO[bytes]]:
    """A new file at `to`, for the rows of one result file after the other. Whatever is raised, nothing of it stays."""
    try:
        with to.open("w+b", buffering=PIECE_BYTES) as target:
            yield target
    except BaseException:
        to.unlink(missing_ok=True)
        raise


async def append_files(names: Iterable[str | None], download: Callable[[str], Awaitable[None]]) -> None:
    """Have `download` fetch each result file that has a name, answers first, failures behind them.

    A file that is gone behind one that came is passed over: the answers are there, and were paid for; what was in it counts as
    missing. `Missing` for the first comes out, and whatever else `download` raises.
    """
    came = False
    for name in filter(None, names):
        try:
            await download(name)
        except Missing:
            if not came:
                raise
        came = True


async def append_rows(pieces: AsyncIterable[bytes], target: IO[bytes]) -> None:
    """Write one result file behind what `target` holds, byte by byte as it comes, its last row ended.

    That a body is shorter than was promised, by length or by chunks, is for the HTTP library behind `pieces` to raise.
    """
    async for piece in pieces:
        target.write(piece)
    end_row(target)


def end_row(target: IO[bytes]) -> None:
    """Give the last row in `target` the newline that it may lack. `target` is at its end, and can be read."""
    if target.tell():
        target.seek(-1, os.SEEK_END)
        if target.read(1) != b"\n":
            target.write(b"\n")


async def until_usable(
    file: _File,
    look: Callable[[], Awaitable[_File]],
    *,
    pending: Callable[[_File], str | None],
    clock: Clock,
    wait_seconds: float,
) -> _File:
    """An uploaded `file` as it is when the provider has read it: `look` shows it anew as long as it is `pending`, in the words
    that `pending` gives; None: it is not.

    It is looked at after half a second, then ever more seldom, up to ten seconds. Raises `Retryable` when it would take more
    than `wait_seconds`, and what `look` raises.
    """
    deadline = clock.monotonic() + wait_seconds
    pause = _FIRST_PAUSE_SECONDS
    while word := pending(file):
        if clock.monotonic() + pause > deadline:
            raise Retryable(f"upload: the file is still {word} after {wait_seconds:g} seconds")
        await clock.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        file = await look()
    return file
