"""f: a start after `kill -9`, with a large backlog and with none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.backlog import Backlog, record
from benchmarks.goals import Figure
from benchmarks.measures.bench import Bench
from benchmarks.stand import STORAGE, Gateway, Setting

#: Memory is looked at when what goes on behind the accept loop is over.
SETTLE_SECONDS = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start."""

    seconds: float
    resident_bytes: int


def after_a_kill(bench: Bench) -> Iterator[Figure]:
    """Time and memory of a start, by turns with the backlog and without."""
    pending = bench.pick(1_000_000, 50_000)
    began = time.monotonic()
    record(bench.directory / "backlog" / STORAGE, Backlog(pending=pending))
    filled = time.monotonic() - began
    empty: list[Start] = []
    full: list[Start] = []
    with bench.simulator() as upstream:
        for number in range(bench.pick(7, 2) + 1):
            for name, starts in (("empty", empty), ("backlog", full)):
                starts.append(_start(bench.directory / name, upstream, f"{name}{number}"))
    # The first start of each made the schema, or read the file for the first time.
    del empty[0], full[0]
    more = tuple(
        (ours.resident_bytes - bare.resident_bytes) / (1 << 20) for ours, bare in zip(full, empty, strict=True)
    )
    details = (
        f"{pending:,} pending: {median(each.seconds for each in full):.2f} s; none: "
        f"{median(each.seconds for each in empty):.2f} s. From the process's start to its first 202. "
        f"The backlog was recorded in {filled:.0f} s."
    )
    yield Figure(
        key="f",
        rounds=tuple(ours.seconds / bare.seconds for ours, bare in zip(full, empty, strict=True)),
        details=details,
    )
    yield Figure(key="f.seconds", rounds=tuple(each.seconds for each in full), details="as f.")
    memory = ", ".join(
        f"{median(each.resident_bytes for each in starts) / (1 << 20):.0f} MB" for starts in (full, empty)
    )
    yield Figure(key="f.memory", rounds=more, details=f"resident memory with the backlog and without: {memory}.")


def _start(directory: Path, upstream: str, tag: str) -> Start:
    began = time.perf_counter()
    with Gateway(directory, upstream, Setting()) as gateway:
        gateway.accept_one(tag)
        seconds = time.perf_counter() - began
        time.sleep(SETTLE_SECONDS)
        return Start(seconds=seconds, resident_bytes=gateway.resident_bytes)
