"""The reserve on the disk: making it holds up nobody, and giving it up is never forgotten."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from gateway.store.disk import DiskRoom
from gateway.store.sqlite import SqliteDatabase

RESERVE_BYTES = 1 << 16


class SlowDisk:
    """`posix_fallocate` takes until somebody lets it go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.waited = True
        allocate = os.posix_fallocate

        def slow(descriptor: int, offset: int, length: int) -> None:
            self.begun.set()
            self.waited = self.go_on.wait(10)
            allocate(descriptor, offset, length)

        monkeypatch.setattr(os, "posix_fallocate", slow)


async def test_making_the_reserve_holds_up_no_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a slow disk writes the reserve, the event loop goes on, and so do commits."""
    database = SqliteDatabase.open(tmp_path, reserve_bytes=RESERVE_BYTES)
    reserve = tmp_path / "reserve"
    reserve.unlink()
    disk = SlowDisk(monkeypatch)
    tending = asyncio.ensure_future(database.tend())
    assert await asyncio.to_thread(disk.begun.wait, 10)
    assert await database.write(lambda session: session.rows("open_counts", {})) == []
    disk.go_on.set()
    await tending
    assert disk.waited
    assert reserve.stat().st_size == RESERVE_BYTES
    await database.close()


def test_a_reserve_given_up_while_it_is_made_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gives the reserve up meanwhile gets all of it, and until there is one again new work is refused."""
    room = DiskRoom(tmp_path, min_free_bytes=0, reserve_bytes=RESERVE_BYTES)
    disk = SlowDisk(monkeypatch)
    making = threading.Thread(target=room.refill)
    making.start()
    assert disk.begun.wait(10)
    giving = threading.Thread(target=room.give_up_reserve)
    giving.start()
    # Time enough for whoever does not wait.
    giving.join(0.2)
    disk.go_on.set()
    making.join()
    giving.join()
    assert (tmp_path / "reserve").exists() or not room.has_room()
