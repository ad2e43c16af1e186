"""Room on the disk: when to refuse new work, and a reserve to finish the old with."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

_BLOCK = bytes(1 << 20)


class DiskRoom:
    """Watches the disk of a directory and keeps a reserve file on it.

    New work is refused below `min_free_bytes`. If the disk is full all the same, the reserve is given up, so that
    results can still be stored and delivered; from then on there is no room for new work until the reserve is made again,
    once there is room for it and more. A quota, which the free space does not show, ends new work that way too.
    Any thread may use it; only making the reserve takes time, and giving it up waits for that.
    """

    def __init__(self, directory: Path, *, min_free_bytes: int, reserve_bytes: int) -> None:
        """Nothing is written before `refill`."""
        self._directory = directory
        self._min_free_bytes = min_free_bytes
        self._reserve_bytes = reserve_bytes
        self._path = directory / "reserve"
        self._spent = False
        #: Held while the reserve changes: one that is given up while it is made would pass for whole.
        self._changing = threading.Lock()

    def has_room(self) -> bool:
        """Whether new work may be accepted."""
        return not self._spent and self.free_bytes() >= self._min_free_bytes

    def free_bytes(self) -> int:
        """What an ordinary user may still write; 0 where nobody can tell."""
        try:
            room = os.statvfs(self._directory)
        except OSError:
            return 0
        return room.f_bavail * room.f_frsize

    def give_up_reserve(self) -> bool:
        """Free the reserve; whether there was one."""
        with self._changing:
            try:
                self._path.unlink()
            except OSError:
                return False
            self._spent = True
            return True

    def refill(self) -> None:
        """Make the reserve, if it is missing and there is plenty of room. Never raises."""
        with self._changing:
            if self._reserved_bytes() != self._reserve_bytes:
                plenty = self.free_bytes() >= self._min_free_bytes + 2 * self._reserve_bytes
                if self._reserve_bytes and not (plenty and self._made()):
                    return
            self._spent = False

    def _reserved_bytes(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def _made(self) -> bool:
        try:
            self._allocate()
        except OSError:
            # Half a reserve would pass for a whole one.
            with contextlib.suppress(OSError):
                self._path.unlink()
            return False
        return True

    def _allocate(self) -> None:
        # Zeros are written where blocks cannot be claimed without: a sparse file would reserve nothing.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, self._reserve_bytes)
            else:
                for start in range(0, self._reserve_bytes, len(_BLOCK)):
                    os.write(descriptor, _BLOCK[: self._reserve_bytes - start])
        finally:
            os.close(descriptor)
