"""What every measurement is given, and the little that several of them do."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.processes import OTHER_CORE, Child, Servant
from benchmarks.stand import Gateway, Setting

DETACHED: Mapping[str, str] = {"Prefer": "respond-async"}
_WARM_SECONDS = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One run: where its files go, and whether it only has to show that everything works."""

    directory: Path
    quick: bool

    def pick(self, full: int, quick: int) -> int:
        """The one or the other."""
        return quick if self.quick else full

    @contextmanager
    def simulator(self) -> Iterator[str]:
        """A simulated provider; its base URL."""
        with Servant("benchmarks.floors.simulator", self.directory / "simulator", core=OTHER_CORE) as servant:
            yield f"http://127.0.0.1:{servant.ready['port']:.0f}/sim/v1"

    @contextmanager
    def gateway(self, name: str, upstream: str, setting: Setting, *, counted: bool = False) -> Iterator[Gateway]:
        """A gateway on a directory called `name`, ready."""
        with Gateway(self.directory / name, upstream, setting, counted=counted) as gateway:
            gateway.wait()
            yield gateway

    @contextmanager
    def load(self) -> Iterator[Servant]:
        """A load generator."""
        with Servant("benchmarks.load", core=OTHER_CORE) as servant:
            yield servant


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Closed loops against one server."""

    requests: float
    per_second: float
    p50_ms: float
    p99_ms: float
    #: User and system time of the server for each request.
    cpu_us: float


def rate(
    load: Servant,
    server: Child,
    port: int,
    *,
    seconds: float,
    tag: str,
    vary: bool,
    connections: int = 64,
    headers: Mapping[str, str] | None = None,
) -> Rate:
    """Callers in closed loops for so long; raises if any answer was not a 2xx."""
    load.ask("start", port=port, connections=connections, tag=tag, vary=vary, headers=dict(headers or {}))
    time.sleep(_WARM_SECONDS)
    load.ask("mark")
    before = server.cpu_seconds
    time.sleep(seconds)
    used = server.cpu_seconds - before
    result = load.ask("stop")
    if result["wrong"]:
        raise RuntimeError(f"{result['wrong']:.0f} of {result['requests']:.0f} answers were not what they should be")
    return Rate(
        requests=result["requests"],
        per_second=result["per_second"],
        p50_ms=result["p50_ms"],
        p99_ms=result["p99_ms"],
        cpu_us=used / max(result["requests"], 1) * 1e6,
    )


def shown(rates: list[Rate]) -> str:
    """Medians of several rounds, for the details of a figure."""
    return (
        f"{median(rate.per_second for rate in rates):,.0f} req/s, {median(rate.cpu_us for rate in rates):.0f} us CPU, "
        f"p50 {median(rate.p50_ms for rate in rates):.1f} ms, p99 {median(rate.p99_ms for rate in rates):.1f} ms"
    )


def ask_and_wait(load: Servant, gateway: Gateway, tag: str, count: int = 1) -> None:
    """Get `count` answers out of a batch, so that they are in store."""
    load.ask("open", port=gateway.port, count=count)
    before = gateway.accepted()
    load.ask("send", tag=tag, headers={})
    gateway.until_accepted(before + count)
    gateway.flush()
    answers = load.ask("answers")
    load.ask("close")
    if answers["wrong"]:
        raise RuntimeError(f"{answers['wrong']:.0f} of {count} answers are wrong")
