"""A copy of the project to do harm to."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tests.guards.records import ROOT, Guard

#: Python takes compiled code for current when second and size of its source fit, so each mutation gets a second of its own.
_SECONDS = count(1_000_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The copy."""

    root: Path

    @classmethod
    def committed(cls, to: Path) -> Tree:
        """The project as it was last committed."""
        to.mkdir()
        archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as members:
            members.extractall(to, filter="data")
        return cls(root=to)

    @classmethod
    def copied(cls, to: Path) -> Tree:
        """The project as it lies in the working tree, less what git ignores."""
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
        for name in filter(None, listed.decode().split("\0")):
            if (ROOT / name).is_file():
                (to / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, to / name)
        return cls(root=to)

    @contextmanager
    def without(self, guard: Guard) -> Iterator[bool]:
        """The copy without a guard; False: its text is not there, or not once, and nothing was changed."""
        path = self.root / guard.file
        before = path.read_text(encoding="utf-8") if path.is_file() else ""
        after = guard.removed_from(before)
        if after is None:
            yield False
            return
        stat = path.stat()
        path.write_text(after, encoding="utf-8")
        second = next(_SECONDS)
        os.utime(path, (second, second))
        try:
            yield True
        finally:
            path.write_text(before, encoding="utf-8")
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    def environment(self) -> dict[str, str]:
        """Variables under which the copy's packages are found before those that are installed."""
        packages = sorted(self.root.glob("plugins/gateway-*"))
        return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [self.root, *packages]))}
