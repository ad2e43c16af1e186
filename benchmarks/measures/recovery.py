"""r: a start with a million requests pending and a hundred batches at the provider, against one with nothing."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from openai import AsyncOpenAI

from benchmarks.backlog import ENDPOINT, WAITING, Backlog, record
from benchmarks.bodies import Bodies
from benchmarks.goals import Figure
from benchmarks.measures.bench import Bench, ask_and_wait
from benchmarks.processes import OTHER_CORE, Servant
from benchmarks.stand import STORAGE, Gateway, Setting, until

BATCHES = 100
#: Folders of this measure, beside those of others in the same run.
IDLE, BUSY = "recovery-idle", "recovery-busy"
#: Whatever a gateway does behind its accept loop after a start, it has begun with by then: its janitor has gone round.
SETTLE_SECONDS = 4.0
LOOK_SECONDS = 0.002
#: Made at the same time.
CREATES_AT_ONCE = 8
MEGABYTE = 1 << 20
HIT = Bodies(tag="hit").of(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start; seconds since the process was made."""

    ready: float
    answer: float
    #: When every batch had been asked for; without batches as `answer`.
    polled: float
    stall_ms: float
    peak_bytes: int
    #: User and system time until the first answer, which other work on the machine hardly moves.
    cpu: float


def after_a_crash(bench: Bench) -> Iterator[Figure]:
    """Starts by turns on the one ledger and on the other."""
    pending = bench.pick(1_000_000, 50_000)
    with ExitStack() as stack:
        simulator = stack.enter_context(
            Servant("benchmarks.floors.simulator", bench.directory / "simulator", core=OTHER_CORE)
        )
        upstream = f"http://127.0.0.1:{simulator.ready['port']:.0f}/sim/v1"
        load = stack.enter_context(bench.load())
        seconds = _prepare(bench, simulator, load, upstream, pending)
        empty: list[Start] = []
        full: list[Start] = []
        for _ in range(bench.pick(7, 2) + 1):
            empty.append(_start(bench.directory / IDLE, upstream, load, simulator, 0))
            full.append(_start(bench.directory / BUSY, upstream, load, simulator, BATCHES))
    # The first start of each finds the holds of a process that died, and reads the file for the first time.
    first = full[0]
    del empty[0], full[0]
    half = pending // 2
    yield _ratio(
        "r.ready", full, empty, "ready",
        f"{half:,} requests queued, {half:,} in {BATCHES} batches that the provider is running; recorded in {seconds:.0f} s.",
    )  # fmt: skip
    cpu = " and ".join(f"{median(each.cpu for each in starts):.2f} s" for starts in (full, empty))
    yield _ratio(
        "r.answer", full, empty, "answer", f"a stored answer, asked for when /readyz said 200; CPU until then: {cpu}."
    )
    yield Figure(
        key="r.polled",
        rounds=tuple(each.polled - each.ready for each in full),
        details=f"the very first start, which ends {WAITING:,} holds: {first.polled - first.ready:.2f} s.",
    )
    yield Figure(
        key="r.stall",
        rounds=tuple(each.stall_ms for each in full),
        details=(
            f"longest answer of /healthz to a caller that asks every 2 ms, until {SETTLE_SECONDS:g} s after the last first poll; "
            f"empty: {median(each.stall_ms for each in empty):.1f} ms; the very first start: {first.stall_ms:.1f} ms."
        ),
    )
    yield Figure(
        key="r.memory",
        rounds=tuple(
            (ours.peak_bytes - bare.peak_bytes) / MEGABYTE for ours, bare in zip(full, empty, strict=True)
        ),
        details=(
            f"{_megabytes(full):.0f} MB, with an empty ledger {_megabytes(empty):.0f} MB; the very first start: "
            f"{_megabytes([first]):.0f} MB."
        ),
    )  # fmt: skip


def _megabytes(starts: Sequence[Start]) -> float:
    return median(each.peak_bytes for each in starts) / MEGABYTE


def _ratio(key: str, full: Sequence[Start], empty: Sequence[Start], what: str, details: str) -> Figure:
    pairs = [(float(getattr(ours, what)), float(getattr(bare, what))) for ours, bare in zip(full, empty, strict=True)]
    seconds = " and ".join(f"{median(side):.2f} s" for side in zip(*pairs, strict=True))
    return Figure(key=key, rounds=tuple(ours / bare for ours, bare in pairs), details=f"{seconds}. {details}")


def _prepare(bench: Bench, simulator: Servant, load: Servant, upstream: str, pending: int) -> float:
    """Two storage directories with one answer in store, the second with the backlog too; the seconds that this one took."""
    empty, backlog = bench.directory / IDLE, bench.directory / BUSY
    with bench.gateway(IDLE, upstream, Setting()) as gateway:
        ask_and_wait(load, gateway, "hit")
    shutil.copytree(empty / STORAGE, backlog / STORAGE)
    simulator.ask("endless")
    began = time.monotonic()
    remotes = asyncio.run(_create(upstream))
    lines = pending // 2 // BATCHES
    record(backlog / STORAGE, Backlog(pending=pending, remotes=remotes, lines=lines, base_url=upstream))
    return time.monotonic() - began


async def _create(upstream: str) -> list[str]:
    """The names of batches that the provider runs without end; what is in them it never comes to say."""
    room = asyncio.Semaphore(CREATES_AT_ONCE)
    line = b'{"custom_id":"a-0","method":"POST","url":"%b","body":%b}\n' % (ENDPOINT.encode(), HIT)

    async def one(client: AsyncOpenAI) -> str:
        async with room:
            file = await client.files.create(file=("lines.jsonl", line), purpose="batch")
            batch = await client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            return batch.id

    async with AsyncOpenAI(api_key="sandbox", base_url=upstream) as client:
        return list(await asyncio.gather(*(one(client) for _ in range(BATCHES))))


def _start(directory: Path, upstream: str, load: Servant, simulator: Servant, batches: int) -> Start:
    simulator.ask("forget")
    began = time.perf_counter()
    with Gateway(directory, upstream, Setting()) as gateway:
        gateway.wait(LOOK_SECONDS)
        ready = time.perf_counter() - began
        gateway.answer(HIT)
        answer = polled = time.perf_counter() - began
        cpu = gateway.cpu_seconds
        load.ask(
            "start", port=gateway.port, connections=1, tag="probe", vary=False, headers={},
            pause_ms=2.0, method="GET", path="/healthz",
        )  # fmt: skip
        if batches:
            until(lambda: simulator.ask("polled")["batches"] >= batches, "all batches have been polled", LOOK_SECONDS)
            polled = time.perf_counter() - began
        time.sleep(SETTLE_SECONDS)
        return Start(
            ready=ready,
            answer=answer,
            polled=polled,
            stall_ms=load.ask("stop")["max_ms"],
            peak_bytes=gateway.peak_bytes,
            cpu=cpu,
        )
