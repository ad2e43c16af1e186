"""The provider of a case: its simulator in a process of its own, which outlives the gateways that die in front of it."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec
from aiohttp import web

from gateway.sandbox import Fault, SandboxServer, SandboxSettings, Simulator
from gateway.sandbox.lifecycle import Stage, life
from tests.crashes.points import Point
from tests.crashes.times import SharedClock
from tests.crashes.wire import Victim, Wire

#: Until a process that was just forked answers; real time.
DEADLINE_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the provider saw, after a case."""

    #: Answers that it gave, in batches or one by one, and what they were made of.
    answers: int
    input_tokens: int
    output_tokens: int
    batches: int
    #: Lines (by the hash of their bodies) that were in several live batches at once, and in how many.
    together: Mapping[str, int]
    #: Batches that still run.
    running: int
    #: Calls that asked one request by itself, by the hash of its body.
    asked: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A running simulator, spoken to by its tests."""

    base_url: str
    control_port: int

    def begin(self, settings: SandboxSettings, faults: Sequence[Fault]) -> None:
        """Forget everything; then this is how it behaves."""
        order = {"settings": msgspec.to_builtins(settings), "faults": [msgspec.to_builtins(fault) for fault in faults]}
        self._ask("POST", "/begin", json.dumps(order))

    def aim(self, target: Point | None) -> None:
        """Kill the next gateway at this point, if it is one of the provider's."""
        order = None if target is None else [target.name, target.turn]
        self._ask("POST", "/aim", json.dumps(order))

    def passed(self) -> list[Point]:
        """The provider's points that the gateway has come by since."""
        return [Point(name=name, turn=turn) for name, turn in json.loads(self._ask("GET", "/passed"))]

    def report(self) -> Report:
        """What it saw since."""
        return Report(**json.loads(self._ask("GET", "/report")))

    def _ask(self, method: str, path: str, body: str | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.control_port, timeout=DEADLINE_SECONDS)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        assert response.status == 200, content
        return content


@contextmanager
def opened(simulator_class: type[Simulator], clock: SharedClock, victim: Victim, log: Path) -> Iterator[World]:
    """Fork the provider, which keeps its files beside its log; it ends with the block."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        _serve(simulator_class, clock, Wire(victim), theirs, log)
    os.close(theirs)
    try:
        with os.fdopen(ours, "r") as told:
            base_url, control_port = json.loads(told.readline())
        yield World(base_url=base_url, control_port=control_port)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _serve(simulator_class: type[Simulator], clock: SharedClock, wire: Wire, told: int, log: Path) -> None:
    """The life of the forked process; does not return."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        simulator = wire.watched(simulator_class)(clock=clock, name="sim", directory=log.with_name("provider"))
        asyncio.run(_provide(simulator, wire, told))
    finally:
        os._exit(1)


async def _provide(simulator: Simulator, wire: Wire, told: int) -> None:
    if hidden(simulator):
        # What the provider does with a cancelled batch is not known; here what was answered can be read.
        simulator.keeps_cancelled = True  # type: ignore[attr-defined]
    async with SandboxServer([simulator]) as server:
        app = web.Application()
        control = _Control(simulator, wire)
        app.router.add_post("/begin", control.begin)
        app.router.add_post("/aim", control.aim)
        app.router.add_get("/passed", control.passed)
        app.router.add_get("/report", control.report)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        with os.fdopen(told, "w") as ready:
            ready.write(json.dumps([server.base_url(simulator), runner.addresses[0][1]]) + "\n")
        await asyncio.Event().wait()


class _Control:
    def __init__(self, simulator: Simulator, wire: Wire) -> None:
        self._simulator = simulator
        self._wire = wire

    async def begin(self, request: web.Request) -> web.Response:
        """See `World.begin`."""
        order = json.loads(await request.read())
        self._simulator.reset()
        self._simulator.settings = msgspec.convert(order["settings"], type=SandboxSettings)
        for fault in order["faults"]:
            self._simulator.faults.order(msgspec.convert(fault, type=Fault))
        return web.Response()

    async def aim(self, request: web.Request) -> web.Response:
        """See `World.aim`."""
        order = json.loads(await request.read())
        self._wire.aim(None if order is None else Point(name=order[0], turn=order[1]))
        return web.Response()

    async def passed(self, _request: web.Request) -> web.Response:
        """See `World.passed`."""
        return web.json_response([(point.name, point.turn) for point in self._wire.passed])

    async def report(self, _request: web.Request) -> web.Response:
        """See `World.report`."""
        return web.json_response(asdict(await report_of(self._simulator)))


def hidden(simulator: Simulator) -> bool:
    """Whether nobody sees, nor pays, what was done of an expired batch."""
    return hasattr(simulator, "keeps_cancelled")


async def report_of(simulator: Simulator) -> Report:
    """Add up what a simulator has kept."""
    await simulator.submissions()
    lines: defaultdict[str, list[str]] = defaultdict(list)
    asked: Counter[str] = Counter()
    for line in simulator.ledger.lines():
        if line.batch_id:
            lines[line.batch_id].append(line.hash)
        else:
            asked[line.hash] += 1
    for batch_id in list(simulator.store.batches):
        await simulator.current(batch_id)
    now = simulator.clock.now()
    spans: list[tuple[float, float, str]] = []
    yields, running = [], 0
    for batch in simulator.store.batches.values():
        where = life(batch, now)
        running += not where.stage.ended
        if batch.results is not None and not (where.stage is Stage.EXPIRED and hidden(simulator)):
            yields.append(batch.results)
        if not batch.problems:
            ended = float("inf") if where.ended_at is None else where.ended_at
            spans += [(batch.created, ended, hashed) for hashed in lines[batch.id]]
    return Report(
        answers=sum(each.succeeded for each in yields),
        input_tokens=sum(each.input_tokens for each in yields),
        output_tokens=sum(each.output_tokens for each in yields),
        batches=len(simulator.store.batches),
        together={hashed: most for hashed, most in _together(spans).items() if most > 1},
        running=running,
        asked=dict(asked),
    )


def _together(spans: Sequence[tuple[float, float, str]]) -> dict[str, int]:
    """How many live batches each line was in at once, at most: a batch lives from its creation until it ends."""
    most: dict[str, int] = {}
    for created, _, hashed in spans:
        alive = sum(begun <= created < ended for begun, ended, other in spans if other == hashed)
        most[hashed] = max(most.get(hashed, 0), alive)
    return most
