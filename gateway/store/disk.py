"""Room on the disk: when to refuse new work, and a reserve to finish the old with."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_BLOCK = bytes(1 << 20)


class DiskRoom:
    """Watches the disk of a directory and keeps a reserve file on it.

    New work is refused below `min_free_bytes`. If the disk is full all the same, the reserve is given up, so that
    results can still be stored and delivered; it is made again once there is room for it and more.
    """

    def __init__(self, directory: Path, *, min_free_bytes: int, reserve_bytes: int) -> None:
        """Nothing is written before `refill`."""
        self._directory = directory
        self._min_free_bytes = min_free_bytes
        self._reserve_bytes = reserve_bytes
        self._path = directory / "reserve"

    def has_room(self) -> bool:
        """Whether new work may be accepted."""
        return self.free_bytes() >= self._min_free_bytes

    def free_bytes(self) -> int:
        """What an ordinary user may still write."""
        room = os.statvfs(self._directory)
        return room.f_bavail * room.f_frsize

    def give_up_reserve(self) -> bool:
        """Free the reserve; whether there was one."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True

    def refill(self) -> None:
        """Make the reserve, if it is missing and there is plenty of room. Never raises."""
        missing = self._reserve_bytes > 0 and not self._path.exists()
        if missing and self.free_bytes() >= self._min_free_bytes + 2 * self._reserve_bytes:
            with contextlib.suppress(OSError):
                self._allocate()

    def _allocate(self) -> None:
        # Zeros are written where blocks cannot be claimed without: a sparse file would reserve nothing.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, self._reserve_bytes)
            else:
                for start in range(0, self._reserve_bytes, len(_BLOCK)):
                    os.write(descriptor, _BLOCK[: self._reserve_bytes - start])
        finally:
            os.close(descriptor)
