"""The lock on a data directory: one process works with it, a second one is refused and told whom it met."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from gateway.errors import LedgerError, LedgerLocked

#: Pause between two tries.
RETRY_SECONDS = 0.05


class DirectoryLock:
    """Held from `acquire` until `release` or the end of the process, however that comes."""

    def __init__(self, directory: Path, descriptor: int) -> None:
        """Use `acquire`."""
        self.directory = directory
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(
        cls, directory: Path, *, wait_seconds: float = 10.0, sleep: Callable[[float], None] = time.sleep
    ) -> DirectoryLock:
        """Make `directory` (0700) if need be and lock it; blocks for up to `wait_seconds`, then raises `LedgerLocked`.

        Raises `LedgerError` for a directory that cannot be made or written.
        """
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LedgerError(
                f"the data directory {directory} cannot be used ({error.strerror}): "
                "make it a directory that this user can write, or set another [storage] directory"
            ) from error
        for remaining in range(int(wait_seconds / RETRY_SECONDS), -1, -1):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if remaining:
                    sleep(RETRY_SECONDS)
            else:
                # Whose it is, is only told to people; on a full disk there may be no room for that.
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
                return cls(directory, descriptor)
        owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise LedgerLocked(
            f"the data directory {directory} is in use by process {owner}: "
            "stop that one, or give this one another [storage] directory"
        )

    def release(self) -> None:
        """Let another process have the directory."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
