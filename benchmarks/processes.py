"""Child processes of a run: each on its core, with what the kernel counts of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import orjson

ROOT = Path(__file__).resolve().parent.parent
#: The server under measurement has a core of its own; generator and upstream share the other.
SERVER_CORE = 0
OTHER_CORE = 1
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Child:
    """A process that ends with its block."""

    def __init__(
        self, *arguments: str | Path, core: int, log: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        """Starts `python ARGUMENTS`; its standard error goes to `log`, or is shown."""
        with contextlib.ExitStack() as stack:
            errors: IO[bytes] | None = stack.enter_context(log.open("ab")) if log is not None else None
            self.process = subprocess.Popen(
                [sys.executable, *map(str, arguments)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(environment or {}),
            )
        pin(self.process.pid, core)

    @property
    def cpu_seconds(self) -> float:
        """User and system time of all its threads so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def resident_bytes(self) -> int:
        """What it holds in memory now."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * _PAGE

    @property
    def peak_bytes(self) -> int:
        """The most that it has held in memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024

    def kill(self) -> None:
        """`kill -9`; returns when it is gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class Servant(Child):
    """A process that takes commands as lines of JSON and answers each with a line of JSON."""

    def __init__(self, module: str, *arguments: str | Path, core: int) -> None:
        """Runs `python -m MODULE ARGUMENTS`; returns once it says that it is ready."""
        super().__init__("-m", module, *arguments, core=core)
        self.ready = self._answer(module)

    def ask(self, do: str, **arguments: object) -> dict[str, float]:
        """Its answer to a command."""
        pipe = self.process.stdin
        assert pipe is not None
        pipe.write(orjson.dumps({"do": do, **arguments}) + b"\n")
        pipe.flush()
        return self._answer(do)

    def _answer(self, to: str) -> dict[str, float]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args!r} ended with {self.process.wait()} instead of answering {to!r}")
        answer: dict[str, float] = orjson.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{to!r}: {answer['error']}")
        return answer


def pin(pid: int, core: int) -> None:
    """Keep a process on one core where the system can; on a machine with one core all share it."""
    with contextlib.suppress(AttributeError, OSError):
        usable = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(pid, {usable[core % len(usable)]})


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would steer a gateway or a client."""
    steering = ("BATCHWAY_", "OPENAI_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    kept = {name: text for name, text in os.environ.items() if not name.upper().startswith(steering)}
    return {**kept, **extra}
