"""The create call's body, made of the spool while it is sent: no batch is ever in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

_OPENING = b'{"requests":['
_CLOSING = b"]}"
_CHUNK_BYTES = 1 << 19

#: Bytes of the body around the lines, with room to spare.
FRAME_BYTES = 100


async def create_body(spool: Path, size: int) -> AsyncIterator[bytes]:
    """The body for the `size` bytes of `spool`: the line ends between its lines become commas, the last one goes.

    JSON has no newline byte of its own, so that pieces can be cut anywhere.
    """
    yield _OPENING
    with await asyncio.to_thread(spool.open, "rb") as lines:
        left = size - 1
        while left > 0:
            piece = await asyncio.to_thread(lines.read, min(left, _CHUNK_BYTES))
            if not piece:
                raise EOFError(f"{spool.name} is shorter than it was")
            left -= len(piece)
            yield piece.replace(b"\n", b",")
    yield _CLOSING


def body_length(size: int) -> int:
    """The body's length for a spool of `size` bytes."""
    return len(_OPENING) + size - 1 + len(_CLOSING)
