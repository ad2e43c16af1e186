"""d, d2, d3, d4: what callers cost while they wait, and when their answers come."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.bodies import KILOBYTE
from benchmarks.goals import Figure
from benchmarks.measures.bench import DETACHED, Bench
from benchmarks.processes import SERVER_CORE, Servant
from benchmarks.stand import Gateway, Setting, until

#: A caller that announces so long a timeout is given the longest grace.
PATIENT = {"x-stainless-read-timeout": "600"}
GRACE_SECONDS = 10.0
HEARTBEAT_SECONDS = 15.0
LARGE = 100 * KILOBYTE
#: Requests in store before memory is looked at, so that the caches of SQLite are full.
WARM = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """10,000 callers held by one gateway, and answered."""

    grace_kb: float
    beats_kb: float
    beats_percent: float
    answer_us: float
    stall_ms: float
    whole_us: float


def holding(bench: Bench) -> Iterator[Figure]:
    """Memory and CPU of callers that wait."""
    count = bench.pick(10_000, 1_000)
    bare: list[float] = []
    held: list[Held] = []
    for number in range(bench.pick(2, 1)):
        bare.append(_bare(bench, count))
        held.append(_gateway(bench, count, f"held{number}"))
    yield Figure(
        key="d",
        rounds=tuple(each.grace_kb for each in held),
        details=f"{count:,} callers, bytes above idle; bare aiohttp {sum(bare) / len(bare):.1f} KB.",
    )
    yield Figure(
        key="d.held",
        rounds=tuple(each.grace_kb / floor for each, floor in zip(held, bare, strict=True)),
        details="as d.",
    )
    yield Figure(
        key="d.beats", rounds=tuple(each.beats_kb for each in held), details="after the grace, response begun."
    )
    yield Figure(
        key="d3",
        rounds=tuple(each.beats_percent for each in held),
        details=f"all CPU of a gateway that holds {count:,} callers and does nothing else, over {HEARTBEAT_SECONDS:g} s.",
    )
    whole = ", ".join(f"{each.whole_us:.0f}" for each in held)
    yield Figure(
        key="d4.cpu",
        rounds=tuple(each.answer_us for each in held),
        details=f"CPU of a batch of {count:,} with its callers waiting, less the same batch without; with them {whole} us.",
    )
    yield Figure(
        key="d4.stall",
        rounds=tuple(each.stall_ms for each in held),
        details="longest answer of /healthz to a caller that asks every 2 ms meanwhile.",
    )


def large_bodies(bench: Bench) -> Iterator[Figure]:
    """Memory of callers whose bodies were large: the body is in the ledger and nowhere else."""
    count = bench.pick(4_000, 500)
    with bench.simulator() as upstream, bench.load() as load:
        kilobytes = []
        for size in (KILOBYTE, LARGE):
            with bench.gateway(f"size{size}", upstream, Setting()) as gateway:
                _warm(load, gateway, WARM)
                idle = gateway.resident_bytes
                _hold(load, gateway, count, "large", size)
                kilobytes.append((gateway.resident_bytes - idle) / count / 1024)
            load.ask("close")
    yield Figure(
        key="d2",
        rounds=(kilobytes[1] / kilobytes[0],),
        details=f"{count:,} callers: {kilobytes[0]:.1f} KB each with 1 KB bodies, {kilobytes[1]:.1f} KB with 100 KB.",
    )


def _bare(bench: Bench, count: int) -> float:
    """Kilobytes for each caller that a bare aiohttp server holds."""
    with Servant("benchmarks.floors.bare", core=SERVER_CORE) as bare, bench.load() as load:
        port = int(bare.ready["port"])
        load.ask("open", port=port, count=100)
        load.ask("send", tag="warm", headers={})
        load.ask("answers")
        load.ask("close")
        idle = bare.resident_bytes
        load.ask("open", port=port, count=count)
        load.ask("send", tag="held", headers={}, path="/hold")
        until(lambda: bare.ask("waiting")["count"] == count, "all are held")
        kilobytes = (bare.resident_bytes - idle) / count / 1024
        bare.ask("release")
        load.ask("answers")
        return kilobytes


def _gateway(bench: Bench, count: int, name: str) -> Held:
    with (
        bench.simulator() as upstream,
        bench.gateway(name, upstream, Setting()) as gateway,
        bench.load() as load,
        bench.load() as probe,
    ):
        _warm(load, gateway, 1_000)
        _batch(gateway)
        _warm(load, gateway, count)
        alone, _ = _watched_batch(probe, gateway)
        idle = gateway.resident_bytes
        _hold(load, gateway, count, name, KILOBYTE)
        grace = gateway.resident_bytes - idle
        time.sleep(GRACE_SECONDS + 2)
        beats = gateway.resident_bytes - idle
        before = gateway.cpu_seconds
        time.sleep(HEARTBEAT_SECONDS)
        beating = (gateway.cpu_seconds - before) / HEARTBEAT_SECONDS
        attended, stall = _watched_batch(probe, gateway)
        answers = load.ask("answers")
        if answers["wrong"]:
            raise RuntimeError(f"{answers['wrong']:.0f} answers are wrong")
    return Held(
        grace_kb=grace / count / 1024,
        beats_kb=beats / count / 1024,
        beats_percent=beating * 100,
        answer_us=(attended - alone) / count * 1e6,
        stall_ms=stall,
        whole_us=attended / count * 1e6,
    )


def _warm(load: Servant, gateway: Gateway, count: int) -> None:
    """Queue `count` requests that nobody waits for."""
    before = gateway.accepted()
    load.ask(
        "start", port=gateway.port, connections=64, tag=f"warm{before}", vary=True, headers=dict(DETACHED), most=count
    )
    gateway.until_accepted(before + count)
    load.ask("stop")


def _hold(load: Servant, gateway: Gateway, count: int, tag: str, size: int) -> None:
    before = gateway.accepted()
    load.ask("open", port=gateway.port, count=count)
    load.ask("send", tag=tag, headers=PATIENT, size=size)
    gateway.until_accepted(before + count)


def _batch(gateway: Gateway) -> None:
    done = gateway.collected()
    gateway.flush()
    gateway.until_collected(done + 1)


def _watched_batch(probe: Servant, gateway: Gateway) -> tuple[float, float]:
    """CPU seconds of the gateway from a flush until the batch is collected, and the longest stall meanwhile, in ms."""
    probe.ask(
        "start", port=gateway.port, connections=1, tag="probe", vary=False, headers={},
        pause_ms=2.0, method="GET", path="/healthz",
    )  # fmt: skip
    time.sleep(0.3)
    probe.ask("mark")
    before = gateway.cpu_seconds
    _batch(gateway)
    # Answers of the last chunk are still being written.
    time.sleep(0.3)
    used = gateway.cpu_seconds - before
    return used, probe.ask("stop")["max_ms"]
