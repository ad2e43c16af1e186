"""One life of a gateway: a forked process that starts on what it finds, serves its callers, and ends or is ended.

The whole gateway runs, as `serve` runs it. Whenever nothing in it is under way, the clock is turned: so a case takes as
long as its work, and happens in nearly the same order each time.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import aiohttp
import orjson
import structlog

from gateway.app import Gateway
from gateway.config import (
    Batching,
    Configuration,
    Polling,
    ProviderTable,
    Retries,
    Route,
    Server,
    Storage,
    TokenPrices,
    Waiting,
)
from gateway.listening import listen
from gateway.pipeline.discarder import LOOKED_FOR
from gateway.prices import Prices
from gateway.provider import Provider
from gateway.records import BatchState
from gateway.routing import build_router
from gateway.store.database import Database
from gateway.store.shipping import Bill
from gateway.store.sqlite import SqliteDatabase
from tests.crashes.points import CRASHED, Point, Watch, WatchedDatabase, WatchedThreads, watch_files, watched_kind
from tests.crashes.scenario import Question, Scenario
from tests.crashes.times import GatewayClock, PluginClock, SharedClock
from tests.crashes.wire import Victim

#: A case that has not ended after so many turns never will.
MOST_TURNS = 1_500
#: A life that takes longer hangs; real time.
DEADLINE_SECONDS = 60.0
PRICE = TokenPrices(input=1.0, cached=1.0, output=2.0)
RETENTION_DAYS = 30
DAY_SECONDS = 86_400.0
#: Where each state of a batch is on its way.
_WAY = (BatchState.SEALED, BatchState.SUBMITTING, BatchState.RECONCILING, BatchState.SUBMITTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What all lives of a case have in common."""

    kind: type[Provider]
    model: str
    base_url: str
    clock: SharedClock
    victim: Victim
    prices: Prices
    #: The gateway's folder and its callers' notes.
    directory: Path
    scenario: Scenario

    @property
    def notes(self) -> Path:
        """What callers know; a line for each thing they heard."""
        return self.directory / "notes"

    @property
    def outcome(self) -> Path:
        """What a life that came to its end says."""
        return self.directory / "outcome"

    @property
    def log(self) -> Path:
        """Everything the processes wrote."""
        return self.directory / "log"


@dataclass(slots=True, kw_only=True)
class Ended:
    """How a process ended: at its point, or with an outcome."""

    crashed: bool
    trace: list[Point] = field(default_factory=list)
    #: Lines, cost, wasted cost and wasted lines on the bill, before and after everything was forgotten.
    bills: list[list[float]] = field(default_factory=list)
    asked_again: int = 0
    duplicates: int = 0
    #: What went wrong that must not.
    faults: list[str] = field(default_factory=list)
    #: Modules that were loaded in the end: a parent that loads them before it forks spares its children that.
    modules: list[str] = field(default_factory=list)


class Broken(AssertionError):
    """A process did not end as it should."""


def live(stage: Stage, target: Point | None) -> Ended:
    """Fork a gateway, wait for its end. Raises `Broken` when it ends in a way of its own."""
    stage.outcome.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _become(stage, target)
    status = _wait(child)
    if status == CRASHED or (status == -signal.SIGKILL and target is not None and target.on_the_wire):
        return Ended(crashed=True)
    if status != 0:
        raise Broken(f"the gateway ended with {status}:\n{stage.log.read_text(errors='replace')[-6000:]}")
    told = json.loads(stage.outcome.read_bytes())
    told["trace"] = [Point(name=name, turn=turn) for name, turn in told["trace"]]
    return Ended(crashed=False, **told)


def _wait(child: int) -> int:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGABRT)
            os.waitpid(child, 0)
            return -signal.SIGABRT
        time.sleep(0.002)


def _become(stage: Stage, target: Point | None) -> None:
    """The life of the forked process; does not return."""
    stage.victim.become()
    descriptor = os.open(stage.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    faulthandler.enable()
    gc.disable()
    status = 1
    try:
        asyncio.run(_live(stage, Watch(target)))
        status = 0
    except BaseException:  # noqa: BLE001 - whatever it is, the parent has to be told
        traceback.print_exc()
    finally:
        os._exit(status)


async def _live(stage: Stage, watch: Watch) -> None:
    asyncio.get_running_loop().set_default_executor(WatchedThreads(watch))
    clock = GatewayClock(stage.clock)
    settings = configuration(stage)
    storage = settings.storage.directory
    storage.mkdir(exist_ok=True)
    watch_files(storage / "spool", watch)
    router = build_router(
        settings,
        {stage.kind.kind: watched_kind(stage.kind, watch)},
        clock=PluginClock(clock),
        directory=storage / "providers",
        simulators={"sim": stage.base_url},
        prices=stage.prices,
    )
    faults: list[str] = []
    # What a process wrote is there when it has died, synced or not: only a loss of power tells the difference.
    database: Database = WatchedDatabase(SqliteDatabase.open(storage, durability="relaxed"), watch)  # type: ignore[assignment]
    gateway = Gateway(settings, router, database, clock, fail=lambda: faults.append("a worker died"))
    listener = listen("127.0.0.1", 0)
    await gateway.start(listener)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with aiohttp.ClientSession(url) as http:
        callers = Callers(stage, gateway, http, watch)
        await callers.serve(clock)
        bills = [await billed(gateway)]
        clock.turn((RETENTION_DAYS + 1) * DAY_SECONDS)
        await callers.until(clock, callers.forgotten)
        bills.append(await billed(gateway))
    await gateway.stop()
    told = {
        "trace": [(point.name, point.turn) for point in watch.passed],
        "bills": bills,
        "asked_again": counted(gateway, "asked_again"),
        "duplicates": counted(gateway, "duplicate_batches"),
        "faults": faults,
        "modules": sorted(sys.modules),
    }
    stage.outcome.write_bytes(orjson.dumps(told))


def configuration(stage: Stage) -> Configuration:
    """Short times; the provider's own limits."""
    extra: Mapping[str, object] = {"refuse_fields": ["n"]} if stage.kind.kind == "openai-compatible" else {}
    table = ProviderTable(
        name="sim",
        kind=stage.kind.kind,
        sandbox=True,
        limits={"min_poll_seconds": 0.01},
        prices=MappingProxyType({"*": PRICE}),
        settings=extra,
    )
    return Configuration(
        server=Server(port=0),
        storage=Storage(directory=stage.directory / "storage", retention_days=RETENTION_DAYS),
        batching=Batching(window_seconds=5.0, idle_seconds=2.0),
        polling=Polling(min_seconds=stage.scenario.poll_seconds, max_seconds=max(10.0, stage.scenario.poll_seconds)),
        retries=Retries(max_attempts=6, backoff_seconds=2.0, breaker_seconds=2.0, quarantine_seconds=20.0),
        waiting=Waiting(grace_seconds=10.0),
        providers=MappingProxyType({"sim": table}),
        routes=(Route(model="*", provider="sim"),),
    )


class Callers:
    """Those who ask in a case. What they heard is in their notes, so that they go on where they were after a crash."""

    def __init__(self, stage: Stage, gateway: Gateway, http: aiohttp.ClientSession, watch: Watch) -> None:
        """Reads the notes of earlier lives."""
        self._stage = stage
        self._gateway = gateway
        self._http = http
        self._watch = watch
        self._notes = notes_of(stage)
        self._again = bool(self._notes)
        self._waiting: dict[str, asyncio.Task[None]] = {}

    async def serve(self, clock: GatewayClock) -> None:
        """Ask until everybody has an answer, and nothing of it is left to be tidied up."""

        async def over() -> bool:
            for question in self._stage.scenario.questions:
                if not self._has_ended(question.name) and (not question.after or self._has_ended(question.after)):
                    await self._go_on(question)
            return (
                all(self._has_ended(question.name) for question in self._stage.scenario.questions) and await self.tidy()
            )

        await self.until(clock, over)

    async def until(self, clock: GatewayClock, condition: object) -> None:
        """Turn the clock, whenever nothing is under way, until `condition` holds."""
        for _ in range(MOST_TURNS):
            await self._watch.quiet()
            if await condition():  # type: ignore[operator]
                return
            await self._watch.quiet()
            clock.turn(self._stage.scenario.step_seconds)
        batches = await self._gateway.ledger.batches.listed()
        raise Broken(f"it does not end: {self._notes}, {batches}")

    async def tidy(self) -> bool:
        """Whether every batch is over and discarded; one that was in doubt is kept in mind for a day, without its files."""
        ledger = self._gateway.ledger
        left = await ledger.batches.undiscarded(float("inf"), 100)
        looked_for = all(batch.parked_reason == LOOKED_FOR for batch in left)
        return looked_for and not await ledger.batches.open_of("sim")

    async def forgotten(self) -> bool:
        """Whether nothing is kept but the newest request, whose number must not be given again."""
        return len(await self._gateway.ledger.requests.listed(None)) <= 1

    def _has_ended(self, name: str) -> bool:
        return "status" in self._notes.get(name, {})

    async def _go_on(self, question: Question) -> None:
        if question.waits:
            if question.name not in self._waiting:
                self._waiting[question.name] = asyncio.create_task(self._wait(question))
        elif not self._notes.get(question.name):
            await self._leave(question)
        else:
            await self._look(question)

    async def _wait(self, question: Question) -> None:
        """An ordinary call, and after a crash its client's retry."""
        headers = {"x-stainless-retry-count": "1"} if self._again else {}
        async with self._http.post("/v1/chat/completions", json=self._body(question), headers=headers) as response:
            content = await response.read()
        self._note(question, status=response.status, answer=json.loads(content))

    async def _leave(self, question: Question) -> None:
        """Leave a request under its name; a caller that was told nothing leaves it again."""
        headers = {"Prefer": "respond-async", "x-batchway-custom-id": question.name}
        async with self._http.post("/v1/chat/completions", json=self._body(question), headers=headers) as response:
            content = await response.read()
        if response.status == 202:
            self._note(question, accepted=True)
            if question.cancel == "queued":
                await self._cancel(question)
        else:
            self._note(question, status=response.status, answer=json.loads(content))

    async def _look(self, question: Question) -> None:
        found = await self._gateway.ledger.requests.find("", "", question.name)
        if found is None:
            raise Broken(f"{question.name} was accepted, and is not there")
        if found.state.ended:
            async with self._http.get(f"/v1/results/{question.name}") as response:
                self._note(question, status=response.status, answer=await response.json())
        elif question.cancel == "queued" or (question.cancel and found.batch_state in _WAY[_far(question) :]):
            await self._cancel(question)

    async def _cancel(self, question: Question) -> None:
        async with self._http.delete(f"/v1/results/{question.name}") as response:
            if response.status not in (200, 202):
                raise Broken(f"{question.name} cannot be cancelled: {await response.text()}")

    def _body(self, question: Question) -> dict[str, object]:
        body = {
            "model": self._stage.model + ("-b" if question.lane else ""),
            "messages": [{"role": "user", "content": question.text}],
        }
        return {**body, "n": question.times} if question.times > 1 else body

    def _note(self, question: Question, **heard: object) -> None:
        self._notes.setdefault(question.name, {}).update(heard)
        with self._stage.notes.open("ab") as file:
            file.write(orjson.dumps({"name": question.name, **heard}) + b"\n")


def _far(question: Question) -> int:
    return 0 if question.cancel == "sealed" else len(_WAY) - 1


def notes_of(stage: Stage) -> dict[str, dict[str, object]]:
    """What callers have heard so far, by their questions."""
    notes: dict[str, dict[str, object]] = {}
    if stage.notes.exists():
        for line in stage.notes.read_bytes().splitlines():
            heard = json.loads(line)
            notes.setdefault(heard.pop("name"), {}).update(heard)
    return notes


async def billed(gateway: Gateway) -> list[float]:
    """Requests, cost, wasted cost, wasted lines and lines without a price, of all lanes."""
    bills: list[Bill] = await gateway.ledger.bills.totals()
    return [
        sum(bill.requests for bill in bills),
        round(sum(bill.cost_usd for bill in bills) * 1e6, 3),
        round(sum(bill.wasted_usd for bill in bills) * 1e6, 3),
        sum(bill.wasted_lines for bill in bills),
        sum(bill.unpriced_lines for bill in bills),
    ]


def counted(gateway: Gateway, metric: str) -> int:
    """What a counter of the provider says."""
    child = getattr(gateway.metrics, metric).of("sim")
    return int(child._value.get())


def quiet_log() -> None:
    """Lines of JSON, for a person who looks into a case that failed."""
    structlog.configure(processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()])
