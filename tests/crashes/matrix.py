"""The crash-point matrix of one kind: record a scenario's points, die at each, start again, compare.

    python -m tests.crashes.matrix [--kind KIND ...] [--scenario NAME ...] [--turns N] [--every] [--wire OPERATION ...]
                                   [--twice POINT ...]

A process of its own, since gateways are forked off it: nothing here starts a thread or a loop.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from gateway.config import Configuration, ProviderTable, Storage
from gateway.plugins import load_plugins
from gateway.prices import Prices
from gateway.provider import Provider
from gateway.routing import build_router
from gateway.sandbox.temporary import TemporaryFolder
from gateway.testing.lab import simulator_of
from tests.crashes import judge, world
from tests.crashes.life import Broken, Ended, Stage, live, quiet_log
from tests.crashes.points import Point, thinned
from tests.crashes.scenario import SCENARIOS, Scenario
from tests.crashes.times import SharedClock
from tests.crashes.wire import Victim
from tests.crashes.world import World

__all__ = ["main"]

#: Sizes of SDKs beyond which a file is sent in parts: here every file is.
SMALL_PARTS: Mapping[tuple[str, str], int] = MappingProxyType(
    {("google.genai._api_client", "CHUNK_SIZE"): 1_024, ("google.cloud.storage.blob", "_MAX_MULTIPART_SIZE"): 0}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One kind before its simulator, ready to be put through cases."""

    kind: type[Provider]
    model: str
    clock: SharedClock
    victim: Victim
    prices: Prices
    world: World
    directory: Path

    def run(self, scenario: Scenario, targets: Sequence[Point | None]) -> tuple[list[Ended], Stage]:
        """One case: a life for each target, the last one to the end."""
        shutil.rmtree(self.directory / "case", ignore_errors=True)
        (self.directory / "case").mkdir()
        self.clock.reset()
        self.world.begin(scenario.simulated, scenario.faults)
        stage = Stage(
            kind=self.kind,
            model=self.model,
            base_url=self.world.base_url,
            clock=self.clock,
            victim=self.victim,
            prices=self.prices,
            directory=self.directory / "case",
            scenario=scenario.of(batch=self.kind.batch),
        )
        return [self._live(stage, target) for target in targets], stage

    def _live(self, stage: Stage, target: Point | None) -> Ended:
        """One life; its trace has also what the provider saw."""
        self.world.aim(target)
        ended = live(stage, target)
        ended.trace += self.world.passed()
        return ended

    def judged(
        self, scenario: Scenario, targets: Sequence[Point | None], whole: judge.Told | None
    ) -> tuple[judge.Told, list[str]]:
        """Run a case; what it left, and what is wrong with it. `whole` None: it is the one without a crash."""
        lives, stage = self.run(scenario, targets)
        told = judge.told_by(stage, lives, self.world.report())
        return told, list(judge.complaints(stage, told, whole or told))


@contextmanager
def bench(name: str) -> Iterator[Bench]:
    """Load one kind, and fork its provider. Everything forked has ended when the block has."""
    kind = load_plugins().classes()[name]
    simulator_class = simulator_of(kind)
    if simulator_class is None:
        raise LookupError(f"the kind {name} has no simulator")
    quiet_log()
    clock, victim = SharedClock(), Victim()
    prices = Prices(clock)
    with TemporaryFolder("batchway-crashes-") as directory:
        _preload(kind, clock, prices, directory, simulator_class.priced_model)
        gc.collect()
        gc.freeze()
        with world.opened(simulator_class, clock, victim, directory / "provider.log") as running:
            yield Bench(
                kind=kind,
                model=simulator_class.priced_model,
                clock=clock,
                victim=victim,
                prices=prices,
                world=running,
                directory=directory,
            )


def _preload(kind: type[Provider], clock: SharedClock, prices: Prices, directory: Path, model: str) -> None:
    """What every life would load for itself: the kind's SDK, and the list of prices."""
    table = ProviderTable(name="sim", kind=kind.kind, sandbox=True)
    settings = Configuration(storage=Storage(directory=directory), providers=MappingProxyType({"sim": table}))
    router = build_router(
        settings,
        {kind.kind: kind},
        clock=clock,
        directory=directory / "preloaded",
        simulators={"sim": "http://127.0.0.1:9"},
        prices=prices,
    )
    router.warm()
    for (module, constant), size in SMALL_PARTS.items():
        if module in sys.modules:
            assert hasattr(sys.modules[module], constant), f"{module} has no {constant} any more"
            setattr(sys.modules[module], constant, size)
    prices.price(table, model, batch=False, address=router.providers["sim"].price_address)


def say(*lines: str) -> None:
    """For a person; at once, since what follows may hang."""
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def load(modules: Sequence[str]) -> None:
    """Load what a child needed, so that the next ones find it there."""
    for name in modules:
        if name not in sys.modules:
            with suppress(ImportError):
                importlib.import_module(name)
    gc.collect()
    gc.freeze()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which points of a trace are tried."""

    #: Of one name at most so many turns, the first and the last among them.
    turns: int = 2
    #: Also those before which nothing lasting was done: they leave what the point before them leaves.
    every: bool = False
    #: Of the points between the requests of one call, those of these operations; `every` has all of them.
    wire: frozenset[str] = frozenset()
    #: Only those around the calls of the provider.
    calls: bool = False
    #: Only names that contain this.
    only: str = ""
    #: Names at which a first process dies before those of its successor are tried.
    twice: tuple[str, ...] = ()

    def of(self, trace: Sequence[Point]) -> list[Point]:
        """Those points, in the trace's order."""
        return [point for point in thinned(trace, self.turns) if self.only in point.name and self._wants(point)]

    def _wants(self, point: Point) -> bool:
        if self.every:
            return not self.calls or point.by_call
        if point.on_the_wire:
            return point.durable and point.operation in self.wire
        return point.durable and (not self.calls or point.by_call)


@dataclass(slots=True)
class Tally:
    """How many cases there were, and which names failed."""

    cases: int = 0
    failed: int = 0


def sweep(here: Bench, scenario: Scenario, choice: Choice, tally: Tally, *, trace: bool = False) -> None:
    """Record the scenario, then die at each chosen point of it; what fails is printed."""
    began = time.perf_counter()
    whole = _case(here, scenario, [None], None, tally)
    if whole is None:
        return
    load(whole.last.modules)
    if trace:
        say(*map(str, whole.last.trace))
        return
    if not choice.twice:
        for point in choice.of(whole.last.trace):
            _case(here, scenario, [point, None], whole, tally)
    for name in choice.twice:
        first = Point(name=name)
        once = _case(here, scenario, [first, None], whole, tally)
        for point in choice.of(once.last.trace if once is not None else []):
            _case(here, scenario, [first, point, None], whole, tally)
    names = {point.name for point in whole.last.trace}
    took = time.perf_counter() - began
    say(f"{here.kind.kind} {scenario.name}: {len(names)} names, {tally.cases} cases so far, {took:.1f} s")


def _case(
    here: Bench, scenario: Scenario, targets: Sequence[Point | None], whole: judge.Told | None, tally: Tally
) -> judge.Told | None:
    """Run one case and say what is wrong with it; None: it is of no use for comparisons."""
    tally.cases += 1
    told: judge.Told | None = None
    try:
        told, wrong = here.judged(scenario, targets, whole)
    except Broken as error:
        wrong = [str(error)]
    else:
        # Which batch comes when is not quite the same each time; that each step comes is.
        missed = [target for target, life in zip(targets, told.lives, strict=True) if target and not life.crashed]
        wrong += [f"{point} was not reached" for point in missed if point.turn == 1 and len(targets) == 2]
    if wrong:
        tally.failed += 1
        where = ", ".join(map(str, targets[:-1])) or "no crash"
        log = "" if told is None else told.log[-3000:]
        say(f"FAILED {here.kind.kind} {scenario.name} {where}", *wrong, log)
    return told


def main(arguments: Sequence[str]) -> int:
    """See the module; 1 when a case failed, which is printed with all that is known of it."""
    parser = argparse.ArgumentParser(prog="tests.crashes.matrix", description=main.__doc__)
    parser.add_argument("--kind", action="append", help="default: all that have a simulator")
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), help="default: all")
    parser.add_argument("--turns", type=int, default=2, help="how many turns of one name are tried at most")
    parser.add_argument("--every", action="store_true", help="also points before which nothing lasting was done")
    parser.add_argument("--wire", action="append", default=[], help="also between the requests of such a call: upload")
    parser.add_argument("--calls", action="store_true", help="only points around calls of the provider")
    parser.add_argument("--only", default="", help="only points whose names contain this")
    parser.add_argument("--twice", action="append", default=[], help="die here first, then at each later point")
    parser.add_argument("--trace", action="store_true", help="print the points, and die at none")
    asked = parser.parse_args(arguments)
    choice = Choice(
        turns=asked.turns,
        every=asked.every,
        wire=frozenset(asked.wire),
        calls=asked.calls,
        only=asked.only,
        twice=tuple(asked.twice),
    )
    tally = Tally()
    for kind in asked.kind or sorted(load_plugins().classes()):
        with bench(kind) as here:
            for name in asked.scenario or SCENARIOS:
                if here.kind.batch or SCENARIOS[name].single:
                    sweep(here, SCENARIOS[name], choice, tally, trace=asked.trace)
    say(f"{tally.cases} cases, {tally.failed} failed")
    return int(tally.failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
