"""a, a2, b, b2, b3, b4: requests a second against the bare server, and commits for each of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median

from benchmarks.goals import Figure
from benchmarks.measures.bench import DETACHED, Bench, Rate, ask_and_wait, rate, shown
from benchmarks.processes import SERVER_CORE, Servant
from benchmarks.stand import Setting


def hits(bench: Bench) -> Iterator[Figure]:
    """One question over and over: an answer from store, against a body parsed and answered."""
    floors: list[Rate] = []
    gateways: list[Rate] = []
    with (
        bench.simulator() as upstream,
        bench.gateway("hits", upstream, Setting()) as gateway,
        Servant("benchmarks.floors.bare", core=SERVER_CORE) as bare,
        bench.load() as load,
    ):
        ask_and_wait(load, gateway, "hit")
        for _ in range(bench.pick(5, 2)):
            seconds = bench.pick(3, 1)
            port = int(bare.ready["port"])
            floors.append(rate(load, bare, port, seconds=seconds, tag="hit", vary=False))
            gateways.append(rate(load, gateway, gateway.port, seconds=seconds, tag="hit", vary=False))
    details = f"bare: {shown(floors)}. gateway: {shown(gateways)}."
    pairs = list(zip(gateways, floors, strict=True))
    cpu = median(ours.cpu_us / bare.cpu_us for ours, bare in pairs)
    yield Figure(
        key="a",
        rounds=tuple(ours.per_second / bare.per_second for ours, bare in pairs),
        details=f"{details} CPU: {cpu:.2f} times the bare server's.",
    )
    yield Figure(key="a2", rounds=tuple(ours.p99_ms / bare.p99_ms for ours, bare in pairs), details="as a.")


def accepted(bench: Bench) -> Iterator[Figure]:
    """A new question each time, answered with a 202 once it is durable."""
    floors: list[Rate] = []
    gateways: list[Rate] = []
    commits: list[float] = []
    with (
        bench.simulator() as upstream,
        bench.gateway("accepted", upstream, Setting()) as gateway,
        Servant("benchmarks.floors.bare", core=SERVER_CORE) as bare,
        Servant("benchmarks.floors.group_commit", bench.directory / "floor.sqlite", core=SERVER_CORE) as group,
        bench.load() as load,
    ):
        for number in range(bench.pick(5, 2)):
            seconds = bench.pick(3, 1)
            port = int(bare.ready["port"])
            floors.append(rate(load, bare, port, seconds=seconds, tag=f"new{number}", vary=True))
            gateways.append(
                rate(load, gateway, gateway.port, seconds=seconds, tag=f"new{number}", vary=True, headers=DETACHED)
            )
            commits.append(group.ask("run", waiting=64, seconds=seconds)["per_second"])
    pairs = list(zip(gateways, floors, strict=True))
    cpu = median(ours.cpu_us / bare.cpu_us for ours, bare in pairs)
    yield Figure(
        key="b",
        rounds=tuple(ours.per_second / bare.per_second for ours, bare in pairs),
        details=f"bare: {shown(floors)}. gateway: {shown(gateways)}. CPU: {cpu:.2f} times the bare server's.",
    )
    yield Figure(
        key="b2",
        rounds=tuple(ours.per_second / floor for ours, floor in zip(gateways, commits, strict=True)),
        details=f"bare group commit: {median(commits):,.0f} rows/s.",
    )


def commits(bench: Bench) -> Iterator[Figure]:
    """How many requests share a commit."""
    for connections in (64, 1024):
        with (
            bench.simulator() as upstream,
            bench.gateway(f"commits{connections}", upstream, Setting(), counted=True) as gateway,
            bench.load() as load,
        ):
            before = gateway.commits
            seconds = bench.pick(3, 1)
            load.ask("start", port=gateway.port, connections=connections, tag="c", vary=True, headers=dict(DETACHED))
            load.ask("mark")
            time.sleep(seconds)
            result = load.ask("stop")
            made = gateway.commits - before
        yield Figure(
            key=f"b3.{connections}",
            rounds=(made / result["requests"],),
            details=f"{made:,} commits for {result['requests']:,.0f} requests, 1 for {result['requests'] / made:,.0f}.",
        )


def durability(bench: Bench) -> Iterator[Figure]:
    """The same with every commit on the disk, and with the last ones left to the system."""
    full: list[Rate] = []
    relaxed: list[Rate] = []
    with (
        bench.simulator() as upstream,
        bench.gateway("full", upstream, Setting()) as careful,
        bench.gateway("relaxed", upstream, Setting(durability="relaxed")) as easy,
        bench.load() as load,
    ):
        for number in range(bench.pick(5, 2)):
            for gateway, rates in ((careful, full), (easy, relaxed)):
                tag, seconds = f"new{number}", bench.pick(3, 1)
                rates.append(rate(load, gateway, gateway.port, seconds=seconds, tag=tag, vary=True, headers=DETACHED))
    pairs = list(zip(full, relaxed, strict=True))
    details = f"full: {shown(full)}. relaxed: {shown(relaxed)}."
    yield Figure(key="b4", rounds=tuple(ours.per_second / easier.per_second for ours, easier in pairs), details=details)
    yield Figure(key="b4.p99", rounds=tuple(ours.p99_ms / easier.p99_ms for ours, easier in pairs), details="as b4.")
