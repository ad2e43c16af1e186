"""Folders that last as long as their owner, however it ends: what a killed process has left, the next one removes.

Whoever has one holds a lock in it, and the system lets go of a lock when its process has gone.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from types import TracebackType

_LOCK = "lock"


class TemporaryFolder:
    """A fresh folder (0700) in the system's temporary directory, until `remove`, or the end of this object or of the process."""

    def __init__(self, prefix: str) -> None:
        """Its name begins with `prefix`. Folders of that prefix whose owners were killed are removed first."""
        remove_abandoned(prefix)
        self.path, descriptor = _made(prefix)
        self._removal = weakref.finalize(self, _removed, self.path, descriptor, os.getpid())

    def remove(self) -> None:
        """Delete it with all that is in it; may be called again."""
        self._removal()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def remove_abandoned(prefix: str) -> None:
    """Delete this user's folders of that prefix whose owners have gone without doing so.

    Folders without a lock are nobody's that we know of: they stay.
    """
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for path in [Path(entry.path) for entry in entries if entry.name.startswith(prefix)]:
            # Another process may be removing it, too.
            with suppress(OSError):
                _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    found = path.lstat()
    # Everybody may write there: a link, or a folder of somebody else, is not ours to follow.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return
    descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)


def _made(prefix: str) -> tuple[Path, int]:
    """A new folder, and the lock that we hold in it."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix))
        descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Between making and locking it looks abandoned: then it has been removed, lock and all.
        if os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)


def _removed(path: Path, descriptor: int, owner: int) -> None:
    """Delete the folder, unless this is a process that was forked off its owner."""
    if os.getpid() == owner:
        shutil.rmtree(path, ignore_errors=True)
    os.close(descriptor)
