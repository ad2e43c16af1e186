"""g: how long a hit takes while a large batch is sealed, spooled, fetched and settled beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

from benchmarks.goals import Figure
from benchmarks.measures.bench import DETACHED, Bench, ask_and_wait
from benchmarks.processes import Servant
from benchmarks.stand import Gateway, Setting

#: Callers that ask for a stored answer meanwhile, each this long after its last answer.
CALLERS = 16
PAUSE_MS = 5.0


def beside_a_batch(bench: Bench) -> Iterator[Figure]:
    """The 99th percentile of hits, quiet and beside the batch."""
    count = bench.pick(50_000, 5_000)
    quiet: list[dict[str, float]] = []
    busy: list[dict[str, float]] = []
    seconds: list[float] = []
    with (
        bench.simulator() as upstream,
        bench.gateway("sealing", upstream, Setting()) as gateway,
        bench.load() as load,
    ):
        ask_and_wait(load, gateway, "hit")
        for number in range(bench.pick(3, 1)):
            _queue(load, gateway, count, f"line{number}")
            quiet.append(_quiet(load, gateway, bench.pick(4, 1)))
            result, took = _beside(load, gateway)
            busy.append(result)
            seconds.append(took)
    yield Figure(
        key="g",
        rounds=tuple(during["p99_ms"] / before["p99_ms"] for during, before in zip(busy, quiet, strict=True)),
        details=(
            f"{CALLERS} callers, {PAUSE_MS:g} ms between answer and next question. Quiet: {_shown(quiet)}. "
            f"Beside {count:,} lines: {_shown(busy)}; sealed to collected in {median(seconds):.1f} s."
        ),
    )


def _queue(load: Servant, gateway: Gateway, count: int, tag: str) -> None:
    before = gateway.accepted()
    load.ask("start", port=gateway.port, connections=64, tag=tag, vary=True, headers=dict(DETACHED), most=count)
    gateway.until_accepted(before + count)
    load.ask("stop")


def _quiet(load: Servant, gateway: Gateway, seconds: float) -> dict[str, float]:
    _start(load, gateway)
    time.sleep(seconds)
    return load.ask("stop")


def _beside(load: Servant, gateway: Gateway) -> tuple[dict[str, float], float]:
    done = gateway.collected()
    _start(load, gateway)
    began = time.monotonic()
    gateway.flush()
    gateway.until_collected(done + 1)
    took = time.monotonic() - began
    return load.ask("stop"), took


def _start(load: Servant, gateway: Gateway) -> None:
    load.ask("start", port=gateway.port, connections=CALLERS, tag="hit", vary=False, headers={}, pause_ms=PAUSE_MS)
    time.sleep(0.5)
    load.ask("mark")


def _shown(rounds: list[dict[str, float]]) -> str:
    return ", ".join(f"{name} {median(each[f'{name}_ms'] for each in rounds):.1f} ms" for name in ("p50", "p99", "max"))
