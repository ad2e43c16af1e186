"""Children that are forked from a process in which everything is loaded, each with a disk that fails in its own way.

Run as a process with `faulty.so` preloaded: cases come as JSON on standard input, outcomes leave as JSON lines.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Path(__file__).with_name("faulty.c")
#: A child that takes longer hangs.
CHILD_SECONDS = 100.0
#: Most of their time they wait.
AT_ONCE = 4
#: Beyond what any scenario has.
NEVER = 1 << 40


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What the disk does to files whose path begins with `under` (relative to the child's directory)."""

    under: str
    #: Which call is struck; counted from 1.
    k: int = NEVER
    #: fail, cut (half of a write is done), drop (said to be done), full (all from then on that need room).
    manner: str = "fail"
    errno: int = errno.EIO

    def __str__(self) -> str:
        name = errno.errorcode[self.errno] if self.manner in {"fail", "full"} else ""
        return f"{self.under} {self.manner} {name} k={self.k}"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one child."""

    fault: Fault
    #: Empty: everything held.
    complaint: str
    calls: int
    fired: int
    seconds: float


class Disk:
    """The preloaded library, from inside a child."""

    def __init__(self, directory: Path) -> None:
        self._library = ctypes.CDLL(None)
        self._directory = directory

    def arm(self, fault: Fault) -> None:
        """From now on."""
        manner = ("fail", "cut", "drop", "full").index(fault.manner)
        path = os.fsencode(self._directory / fault.under)
        self._library.faulty_arm(path, ctypes.c_long(fault.k), manner, fault.errno)

    def disarm(self) -> tuple[int, int]:
        """The disk is well again; how many calls there were, and how many were struck."""
        self._library.faulty_disarm()
        return self._library.faulty_calls(), self._library.faulty_fired()

    def keep_synced(self, place: Path) -> None:
        """From now on keep there what a loss of power would leave."""
        place.mkdir()
        self._library.faulty_keep(os.fsencode(self._directory), os.fsencode(place))


def lose_power(directory: Path, kept: Path) -> None:
    """Put every file below `directory` back to what was synced of it: the process that wrote them is dead."""
    for path in [path for path in directory.rglob("*") if path.is_file()]:
        synced = kept / str(path).replace("/", "%")
        if path.name.endswith("-shm"):
            path.unlink()
        elif synced.exists():
            shutil.copyfile(synced, path)
        else:
            os.truncate(path, 0)


def compiled(directory: Path) -> Path | None:
    """The library, made anew; None where there is no compiler that works, or another kind of system."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        return None
    headers = subprocess.run(
        [compiler, "-E", "-x", "c", "-"], input=b"#include <stdio.h>", capture_output=True, check=False
    )
    if headers.returncode:
        return None
    library = directory / "faulty.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"], check=True)
    return library


def sweep(library: Path, scenario: str, directory: Path, fault: Fault, most: int) -> list[Outcome]:
    """Run the scenario (`module:function`) on a disk that is well, then once for each call to be struck, about `most` in CI.

    Each in a directory of its own below `directory`. The first outcome is of the disk that is well; `most` 0: only that.
    """
    order = {"scenario": scenario, "directory": str(directory), "fault": asdict(fault), "most": most}
    return [Outcome(**{**row, "fault": Fault(**row["fault"])}) for row in _told(library, order)]


#: Given a directory, the disk and what it shall do; says what did not hold.
Scenario = Callable[[Path, Disk, Fault], str]


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What a loss of power took."""

    acknowledged: int
    lost: int
    complaint: str


def outages(library: Path, durability: str, directory: Path, rounds: int) -> list[Loss]:
    """So many times: accept requests, lose power in the middle, look what is left."""
    order = {"durability": durability, "directory": str(directory), "rounds": rounds}
    return [Loss(**row) for row in _told(library, order)]


def _told(library: Path, order: dict[str, Any]) -> list[dict[str, Any]]:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.disk.forge"],
        input=json.dumps(order),
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": str(ROOT)},
        text=True,
        check=True,
    )
    return [json.loads(line) for line in ended.stdout.splitlines()]


def main() -> None:
    """Do what is ordered on standard input."""
    order = json.load(sys.stdin)
    if "rounds" in order:
        cut_power(order)
    else:
        run_cases(order)


def cut_power(order: dict[str, Any]) -> None:
    """Each round: a child accepts, is killed in the middle, its files are put back; another child looks for each name."""
    from tests.disk import outage

    outage.prepare()
    for number in range(int(str(order["rounds"]))):
        directory = Path(str(order["directory"])) / str(number)
        data, kept = directory / "data", directory / "kept"
        data.mkdir(parents=True, mode=0o700)

        def accept(tell: int, data: Path = data, kept: Path = kept) -> None:
            Disk(data).keep_synced(kept)
            outage.accept_for_ever(data, str(order["durability"]), tell)

        pid, pipe = _forked(accept)
        with os.fdopen(pipe, "rb") as told:
            names = [told.readline() for _ in range(20 + 2 * number)]
            os.kill(pid, signal.SIGKILL)
            names += told.readlines()
        os.waitpid(pid, 0)
        lose_power(data, kept)
        acknowledged = [name.decode().strip() for name in names if name.endswith(b"\n")]

        def find(tell: int, data: Path = data, acknowledged: list[str] = acknowledged) -> None:
            os.write(tell, json.dumps(outage.missing(data, acknowledged)).encode())

        pid, pipe = _forked(find)
        with os.fdopen(pipe, "rb") as told:
            said = told.read()
        os.waitpid(pid, 0)
        lost, complaint = json.loads(said) if said else (0, "the next start died without a word")
        loss = Loss(acknowledged=len(acknowledged), lost=lost, complaint=complaint)
        print(json.dumps(asdict(loss)), flush=True)  # noqa: T201 - the parent reads it


def _forked(work: Callable[[int], None]) -> tuple[int, int]:
    """A child that does `work` with the writing end of a pipe; its id, and the reading end."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid:
        os.close(theirs)
        return pid, ours
    os.close(ours)
    try:
        work(theirs)
    except BaseException:  # noqa: BLE001 - a child must not go on as its parent
        traceback.print_exc()
    os._exit(0)


def run_cases(order: dict[str, Any]) -> None:
    """Fork a child for each case, a few at a time, and print what becomes of each."""
    place, _, name = order["scenario"].partition(":")
    module = importlib.import_module(place)
    module.prepare()
    scenario: Scenario = getattr(module, name)
    directory, fault = Path(order["directory"]), Fault(**order["fault"])
    [well] = _outcomes(scenario, directory, [replace(fault, k=NEVER)])
    struck = [replace(fault, k=k) for k in chosen(well.calls, order["most"])] if order["most"] else []
    for outcome in (well, *_outcomes(scenario, directory, struck)):
        print(json.dumps(asdict(outcome)), flush=True)  # noqa: T201 - the parent reads it


def _outcomes(scenario: Scenario, directory: Path, faults: Sequence[Fault]) -> list[Outcome]:
    waiting, running, outcomes = list(faults), dict[int, Child](), []
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            fault = waiting.pop(0)
            child = Child.begin(scenario, directory / str(fault.k), fault)
            running[child.pipe] = child
        ready, _, _ = select.select(list(running), [], [], 1.0)
        late = [pipe for pipe, child in running.items() if time.monotonic() - child.began > CHILD_SECONDS]
        outcomes.extend(running.pop(pipe).end(hung=pipe not in ready) for pipe in {*ready, *late})
    return outcomes


@dataclass(frozen=True, kw_only=True)
class Child:
    """One forked process, and the pipe on which it says how it went."""

    pid: int
    pipe: int
    fault: Fault
    directory: Path
    began: float

    @classmethod
    def begin(cls, scenario: Scenario, directory: Path, fault: Fault) -> Child:
        """Fork one that runs the scenario."""
        directory.mkdir(parents=True)
        ours, theirs = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(ours)
            disk = Disk(directory)
            complaint = "the child died"
            try:
                complaint = scenario(directory, disk, fault)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is what the parent must hear
                complaint = f"{error!r}\n{traceback.format_exc()}"
            calls, fired = disk.disarm()
            os.write(theirs, json.dumps([complaint, calls, fired]).encode()[:60_000])
            os._exit(0)
        os.close(theirs)
        return cls(pid=pid, pipe=ours, fault=fault, directory=directory, began=time.monotonic())

    def end(self, *, hung: bool) -> Outcome:
        """Hear what it says, or end it."""
        if hung:
            os.kill(self.pid, signal.SIGKILL)
        said = b"" if hung else b"".join(iter(lambda: os.read(self.pipe, 65_536), b""))
        os.close(self.pipe)
        os.waitpid(self.pid, 0)
        missing = "it hangs" if hung else "it died without a word"
        complaint, calls, fired = json.loads(said) if said else (missing, 0, 0)
        if not complaint:
            with contextlib.suppress(OSError):
                shutil.rmtree(self.directory)
        seconds = time.monotonic() - self.began
        return Outcome(fault=self.fault, complaint=complaint, calls=calls, fired=fired, seconds=seconds)


def chosen(count: int, most: int, *, start: int = 1) -> Iterator[int]:
    """Which of `count` calls to strike: all of them with BATCHWAY_DISK_SWEEP=all, else about `most`, evenly."""
    step = 1 if os.environ.get("BATCHWAY_DISK_SWEEP") == "all" else max(1, -(-count // most))
    return iter(range(min(start, step) if step > 1 else 1, count + 1, step))


if __name__ == "__main__":
    main()
