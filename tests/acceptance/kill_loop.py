"""Rounds of real callers and a gateway that is killed, at a moment of its life that a seed decides.

All rounds share one storage directory and the simulated providers of this process. After each round everyone has been
answered, and nobody but by its own answer; both ledgers, the gateway's and the providers', know each question once, and the
bill is the sum of what the callers were told. `test_kill_loop` runs some rounds, `make soak` as many as it is left.
"""

from __future__ import annotations

import asyncio
import enum
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gateway.cli.demo.cast import Part, parts
from gateway.cli.demo.oracle import Oracle
from gateway.cli.reading import open_ledger
from gateway.clock import SystemClock
from gateway.config import Storage
from gateway.sandbox import Fault, FaultKind, Operation, SandboxServer, SandboxSettings, Simulator
from gateway.store.shipping import Bill
from tests.acceptance.callers import MANNERS, Answer, Clients, Question, insist, open_clients
from tests.acceptance.stand import DEADLINE_SECONDS, Stand, Times, until, watched

#: Long enough for a batch to be seen at each step of its way.
PACE = SandboxSettings(
    validating_seconds=0.02, running_seconds=0.15, finalizing_seconds=0.02, max_creates_per_hour=None
)
TIMES = Times(window_seconds=0.4, idle_seconds=0.1)
#: The callers of a round begin within so many seconds.
ARRIVAL_SECONDS = 0.3
#: What a call to a provider takes, after which it has its effect whoever is still there.
CALL_SECONDS = 0.04
#: At most so long after its moment a blow falls: before that effect, after it, or after its answer.
LATE_SECONDS = 0.06
#: From the start of a process until it listens, and a little more.
START_SECONDS = 1.2
FROZEN_SECONDS = 1.0
STOPPING_SECONDS = 0.2
#: Large bodies make the log of the ledger so long that it is copied into the file, which `COMPACTING` waits for.
LARGE_BYTES = 100_000
HUGE_BYTES = 2_000_000
#: Callers with a huge body, then.
HUGE = 5
COMPACT_BYTES = 8 << 20
LOOK_SECONDS = 0.002
#: What a million tokens cost, in and out: any line's price tells its tokens.
INPUT_USD, OUTPUT_USD = 1.0, 3.0


class Moment(enum.StrEnum):
    """When the gateway is struck."""

    ACCEPTING = "accepting"
    UPLOADING = "uploading"
    SUBMITTING = "submitting"
    POLLING = "polling"
    COLLECTING = "collecting"
    DELIVERING = "delivering"
    COMPACTING = "compacting"
    AFTERWARDS = "afterwards"


class Blow(enum.StrEnum):
    """How."""

    KILL = "kill"
    KILL_TWICE = "kill, and kill while it starts"
    KILL_AGAIN = "kill, and kill when it has just started"
    KILL_STOPPING = "kill while it stops"
    KILL_FROZEN = "kill while it is frozen"
    FREEZE = "freeze and thaw"
    TERMINATE = "terminate"


_OPERATIONS: Mapping[Moment, Operation] = {
    Moment.UPLOADING: Operation.UPLOAD,
    Moment.SUBMITTING: Operation.CREATE,
    Moment.POLLING: Operation.POLL,
    Moment.COLLECTING: Operation.FETCH,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One round, as the seed wants it."""

    number: int
    moment: Moment
    blow: Blow
    #: Of what the moment waits for, how much has happened; of a pause, how long it is.
    share: float
    late_seconds: float

    def __str__(self) -> str:
        """For people."""
        return f"round {self.number}: {self.blow} {self.moment}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A round that went well."""

    plan: Plan
    #: Whether the blow fell while somebody waited, or, if it was to fall afterwards, when nobody did.
    in_time: bool
    seconds: float


def plans(chance: random.Random) -> Iterator[Plan]:
    """Rounds without end: all moments before one comes again, and all blows, of which the plain one is the most frequent."""
    moments: list[Moment] = []
    blows: list[Blow] = []
    number = 0
    while True:
        number += 1
        moments = moments or chance.sample(list(Moment), len(Moment))
        blows = blows or chance.sample([*Blow, *[Blow.KILL] * 3], len(Blow) + 3)
        yield Plan(
            number=number,
            moment=moments.pop(),
            blow=blows.pop(),
            share=chance.random(),
            late_seconds=chance.uniform(0, LATE_SECONDS),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """One simulated provider, and what it must say."""

    part: Part
    simulator: Simulator
    oracle: Oracle

    @property
    def kind(self) -> str:
        """Its kind and the name of its table."""
        return self.part.kind


class KillLoop:
    """Runs one round after the other."""

    def __init__(self, stand: Stand, actors: Sequence[Actor], clients: Clients, *, seed: int, callers: int) -> None:
        """`callers`: how many ask in each round."""
        self.seed = seed
        self.stand = stand
        self.actors = actors
        self.clients = clients
        self.chance = random.Random(seed)
        self.plans = plans(self.chance)
        self.callers = callers
        self.asked: Counter[str] = Counter()
        self.cost_usd: defaultdict[str, float] = defaultdict(float)

    async def round(self) -> Round:
        """Calls, a blow on their way, and, when everyone has an answer, the books."""
        plan = next(self.plans)
        began = time.monotonic()
        try:
            in_time = await self._round(plan)
        except Exception as error:
            error.add_note(f"in {plan}, seed {self.seed}")
            raise
        return Round(plan=plan, in_time=in_time, seconds=time.monotonic() - began)

    async def finish(self) -> None:
        """An orderly end: everything is written, and the file of the ledger is whole."""
        assert await self.stand.terminate() == 0
        with open_ledger(Storage(directory=self.stand.storage)).database.reader() as session:
            totals = [tuple(row) for row in session.rows("recount", {})]
        assert all(row[1:5] == row[5:9] == (0, 0, 0, 0) for row in totals), totals
        assert self.stand.integrity() == "ok"

    async def _round(self, plan: Plan) -> bool:
        if self.stand.process is None:
            await self.stand.start(TIMES)
        began = self._counts()
        questions = self._questions(plan)
        answers: dict[str, Answer] = {}
        async with asyncio.timeout(2 * DEADLINE_SECONDS), asyncio.TaskGroup() as crowd:
            for question in questions:
                crowd.create_task(self._ask(question, answers))
            in_time = await self._reach(plan, began, answers)
            await self._strike(plan)
        self._check_answers(questions, answers)
        await self._check_books()
        return in_time

    async def _ask(self, question: Question, answers: dict[str, Answer]) -> None:
        late, manner = self.chance.uniform(0, ARRIVAL_SECONDS), self.chance.choice(MANNERS)
        await asyncio.sleep(late)
        answers[question.text] = await insist(manner, self.clients, question)

    def _questions(self, plan: Plan) -> list[Question]:
        huge = HUGE if plan.moment is Moment.COMPACTING else 0
        return [
            Question(
                model=f"{actor.kind}/{actor.part.model}",
                text=f"Who survives round {plan.number} as number {n} of {actor.kind}?",
                filler=" " + "x" * (HUGE_BYTES if n // 4 < huge else LARGE_BYTES) if n % 4 == 0 else "",
            )
            for n in range(self.callers)
            for actor in (self.actors[n % len(self.actors)],)
        ]

    async def _reach(self, plan: Plan, began: Counter[str], answers: Mapping[str, Answer]) -> bool:
        """Return at the plan's moment; or when nobody is left who waits, and False: it has passed unseen, or never came."""
        part = 1 + int(plan.share * (self.callers - 2))
        reached: Callable[[], bool]
        if plan.moment is Moment.ACCEPTING:
            reached = partial(self._recorded, self.asked.total() + part)
        elif plan.moment is Moment.DELIVERING:
            reached = lambda: len(answers) >= part  # noqa: E731
        elif plan.moment is Moment.COMPACTING:
            # The log may be long from the start: then it is copied after the first commit.
            reached = lambda: self.stand.log_bytes() >= COMPACT_BYTES and self._recorded(self.asked.total() + 1)  # noqa: E731
        elif plan.moment is Moment.AFTERWARDS:
            reached = lambda: False  # noqa: E731
        else:
            operation = _OPERATIONS[plan.moment]
            reached = lambda: self._counts()[operation] > began[operation]  # noqa: E731
        await until(
            lambda: reached() or len(answers) == self.callers, f"{plan.moment} in {plan}", look_seconds=LOOK_SECONDS
        )
        in_time = len(answers) < self.callers or plan.moment is Moment.AFTERWARDS
        await asyncio.sleep(plan.late_seconds)
        return in_time

    async def _strike(self, plan: Plan) -> None:
        stand = self.stand
        if plan.blow is Blow.TERMINATE:
            assert await stand.terminate() == 0
            return await stand.start(TIMES)
        if plan.blow is Blow.KILL_STOPPING:
            stand.send(signal.SIGTERM)
            await asyncio.sleep(plan.share * STOPPING_SECONDS)
        elif plan.blow in (Blow.FREEZE, Blow.KILL_FROZEN):
            stand.send(signal.SIGSTOP)
            await asyncio.sleep(plan.share * FROZEN_SECONDS)
            if plan.blow is Blow.FREEZE:
                return stand.send(signal.SIGCONT)
        await stand.kill()
        if plan.blow is Blow.KILL_TWICE:
            stand.launch(TIMES)
            await asyncio.sleep(plan.share * START_SECONDS)
            await stand.kill()
        elif plan.blow is Blow.KILL_AGAIN:
            await stand.start(TIMES)
            await asyncio.sleep(plan.share * STOPPING_SECONDS)
            await stand.kill()
        await stand.start(TIMES)
        return None

    def _recorded(self, count: int) -> bool:
        return self.stand.recorded() >= count

    def _counts(self) -> Counter[str]:
        """Calls at all providers so far."""
        return sum((actor.simulator.ledger.calls for actor in self.actors), Counter())

    def _check_answers(self, questions: Sequence[Question], answers: Mapping[str, Answer]) -> None:
        """Each has its own answer, and no other."""
        oracles = {actor.kind: actor for actor in self.actors}
        for question in questions:
            actor = oracles[question.model.partition("/")[0]]
            said = actor.oracle.says(actor.part.model, {"messages": question.messages})
            answer = answers[question.text]
            assert (answer.text, answer.input_tokens) == (said.text, said.prompt_tokens), question
            self.asked[actor.kind] += 1
            self.cost_usd[actor.kind] += (answer.input_tokens * INPUT_USD + answer.output_tokens * OUTPUT_USD) / 1e6

    async def _check_books(self) -> None:
        """Both ledgers know each question once, and the bill is what the callers' answers add up to."""
        assert self.stand.recorded() == self.asked.total(), "the gateway made two requests of one question"
        ledger = open_ledger(Storage(directory=self.stand.storage))
        totals: list[Bill] = await ledger.bills.totals()
        bills = {bill.provider: bill for bill in totals}
        for actor in self.actors:
            kind, asked = actor.kind, self.asked[actor.kind]
            submitted = await actor.simulator.submissions()
            assert not submitted.repeated, f"{kind}: questions were in two batches: {submitted.repeated}"
            assert (submitted.accepted_lines, submitted.distinct) == (asked, asked), kind
            bill = bills[kind]
            assert (bill.requests, bill.lines, bill.unpriced_lines) == (asked, asked, 0), bill
            assert (bill.wasted_lines, bill.wasted_usd) == (0, 0.0), bill
            assert abs(bill.cost_usd - self.cost_usd[kind]) < 1e-9, (bill, self.cost_usd[kind])


@asynccontextmanager
async def open_kill_loop(
    directory: Path, *, seed: int, kinds: Sequence[str] = ("openai",), callers: int = 20
) -> AsyncIterator[KillLoop]:
    """A loop on an empty directory; its processes end with the block. Kinds without batches are left out."""
    clock = SystemClock()
    cast = [part for part in parts(kinds) if part.provider_class.batch]
    actors = [
        Actor(
            part=part,
            simulator=part.simulator_class(clock=clock, name=part.kind, settings=PACE),
            oracle=Oracle(part.provider_class, part.simulator_class, clock, directory / "oracle" / part.kind),
        )
        for part in cast
    ]
    for actor in actors:
        for operation in _OPERATIONS.values():
            slow = Fault(kind=FaultKind.DELAY, operation=operation, seconds=CALL_SECONDS, times=None)
            actor.simulator.faults.order(slow)
    async with SandboxServer([actor.simulator for actor in actors]) as server:
        stand = Stand(
            simulator=actors[0].simulator,
            provider_url=server.base_url(actors[0].simulator),
            directory=directory,
            tables="".join(_table(actor, server.base_url(actor.simulator)) for actor in actors),
        )
        async with watched(stand), open_clients(stand) as clients:
            yield KillLoop(stand, actors, clients, seed=seed, callers=callers)


def new_seed() -> int:
    """A seed to print."""
    return time.time_ns() % 1_000_000


def _table(actor: Actor, url: str) -> str:
    return (
        f'[providers.{actor.kind}]\nkind = "{actor.kind}"\nsandbox = true\nsandbox_url = "{url}"\n'
        f"[providers.{actor.kind}.limits]\nmin_poll_seconds = 0.05\n"
        f'[providers.{actor.kind}.prices."*"]\ninput = {INPUT_USD}\ncached = {INPUT_USD}\noutput = {OUTPUT_USD}\n'
    )
