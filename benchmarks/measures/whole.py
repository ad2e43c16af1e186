"""c, c2: many calls at once, from the first request sent to the last answer read, each caller's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median

from benchmarks.goals import Figure
from benchmarks.measures.bench import Bench
from benchmarks.processes import SERVER_CORE, Servant
from benchmarks.stand import Gateway, Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One pass of all three, in seconds."""

    script: float
    gateway: float
    bare: float
    #: CPU of the gateway for each call, in microseconds.
    cpu_us: float


def ten_thousand(bench: Bench) -> Iterator[Figure]:
    """10,000 calls."""
    count = bench.pick(10_000, 2_000)
    rounds = _rounds(bench, count, bench.pick(5, 2))
    details = _shown(rounds, count)
    yield Figure(key="c.sdk", rounds=tuple(each.gateway / each.script for each in rounds), details=details)
    yield Figure(key="c.burst", rounds=tuple(each.gateway / each.bare for each in rounds), details="as c.sdk.")


def one_thousand(bench: Bench) -> Iterator[Figure]:
    """1,000 calls."""
    rounds = _rounds(bench, 1_000, bench.pick(9, 3))
    yield Figure(key="c2", rounds=tuple(each.gateway / each.script for each in rounds), details=_shown(rounds, 1_000))


def _rounds(bench: Bench, count: int, passes: int) -> list[Round]:
    # The window seals when it is full, as a script would send all it has: no time goes into waiting for more.
    setting = Setting(idle_seconds=0.1, window_seconds=0.5, max_requests=count)
    with (
        bench.simulator() as upstream,
        bench.gateway(f"whole{count}", upstream, setting) as gateway,
        Servant("benchmarks.floors.bare", core=SERVER_CORE) as bare,
        Servant("benchmarks.floors.script", upstream, core=SERVER_CORE) as script,
        bench.load() as load,
    ):
        # The first pass of each warms it up and is not counted.
        run = partial(_round, load=load, gateway=gateway, bare=bare, script=script, count=count)
        return [run(tag=f"pass{number}") for number in range(passes + 1)][1:]


def _round(*, load: Servant, gateway: Gateway, bare: Servant, script: Servant, count: int, tag: str) -> Round:
    by_script = script.ask("run", count=count, tag=tag)
    before = gateway.cpu_seconds
    by_gateway = _burst(load, gateway.port, count, tag)
    used = gateway.cpu_seconds - before
    by_bare = _burst(load, int(bare.ready["port"]), count, tag)
    wrong = by_script["wrong"] + by_gateway["wrong"] + by_bare["wrong"]
    if wrong:
        raise RuntimeError(f"{wrong:.0f} answers are wrong")
    return Round(
        script=by_script["seconds"],
        gateway=by_gateway["seconds"],
        bare=by_bare["seconds"],
        cpu_us=used / count * 1e6,
    )


def _burst(load: Servant, port: int, count: int, tag: str) -> dict[str, float]:
    load.ask("open", port=port, count=count)
    load.ask("send", tag=tag, headers={})
    answers = load.ask("answers")
    load.ask("close")
    return answers


def _shown(rounds: list[Round], count: int) -> str:
    return (
        f"{count:,} calls; script {median(each.script for each in rounds):.2f} s, "
        f"gateway {median(each.gateway for each in rounds):.2f} s "
        f"({median(each.cpu_us for each in rounds):.0f} us CPU a call), "
        f"bare burst {median(each.bare for each in rounds):.2f} s; every answer was checked."
    )
