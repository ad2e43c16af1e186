"""The demonstration, step by step."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from openai import AsyncOpenAI, OpenAIError
from openai.types.chat import ChatCompletion

from gateway.cli.demo.bill import Totals, bill_lines, provider_rows, totals, whole
from gateway.cli.demo.cast import Part, tables
from gateway.cli.demo.oracle import Oracle, Said
from gateway.cli.demo.processes import DemoFailed, GatewayProcess, SandboxProcess, free_port
from gateway.cli.demo.screen import Screen
from gateway.cli.demo.workload import Task, dealt, labelling_job
from gateway.cli.reading import open_ledger
from gateway.clock import Clock, SystemClock
from gateway.config import Storage
from gateway.records import BatchState
from gateway.store.shipping import BatchRow

#: The client's own patience with a gateway that is being restarted; its default, 2, bridges about 1.5 s.
MAX_RETRIES = 6
#: So many batches the job is cut into for one provider alone, and for each of several.
BATCHES_ALONE = 4
BATCHES = 2
_LOOK_SECONDS = 0.2

_CONFIG = """\
# Made by `batchway demo`. Each base_url points at a simulated provider; everything is quicker than with a real one.
[server]
port = {port}
[storage]
directory = "data"
[batching]
idle_seconds = 1
max_requests = {most}
[polling]
min_seconds = 0.5
max_seconds = 1
[retries]
quarantine_seconds = 5
breaker_seconds = 0.5
{tables}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the command was asked for."""

    cast: Sequence[Part]
    count: int
    batch_seconds: float
    directory: Path

    @property
    def most_requests(self) -> int:
        """What a batch may hold, so that every provider gets some."""
        batches = BATCHES if len(self.cast) > 1 else BATCHES_ALONE
        return max(1, -(-self.count // (len(self.cast) * batches)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Who is on it."""

    #: What to ask for, by provider.
    models: Mapping[str, str]
    sandbox: SandboxProcess
    gateway: GatewayProcess
    data: Path
    screen: Screen
    clock: Clock


async def walk(wishes: Wishes) -> bool:
    """Everything; whether all answers were right and nothing was submitted twice. Children end with it, however it ends."""
    screen = Screen(SystemClock())
    job = dealt(labelling_job(wishes.count), [part.kind for part in wishes.cast])
    async with AsyncExitStack() as stack:
        stage = await _set(wishes, screen, stack)
        screen.say(
            f"An ordinary AsyncOpenAI client with base_url={stage.gateway.base_url} asks {len(job)} questions at once."
        )
        first = await _first_pass(stage, job)
        screen.samples(job, first)
        second = await _second_pass(stage, job)
        submissions = await stage.sandbox.submissions()
        bills = await totals(open_ledger(Storage(directory=stage.data)), wishes.cast, submissions)
    expected = await right_answers(job, wishes.cast, wishes.directory)
    found = faults(expected, first, second, bills)
    _verdict(screen, first, bills, found)
    return not found


async def _set(wishes: Wishes, screen: Screen, stack: AsyncExitStack) -> Stage:
    """Start the simulated provider and the gateway."""
    clock = SystemClock()
    kinds = [part.kind for part in wishes.cast]
    sandbox = SandboxProcess(wishes.directory, kinds, batch_seconds=wishes.batch_seconds)
    stack.push_async_callback(sandbox.stop)
    await sandbox.start()
    screen.say(f"Simulated: {', '.join(kinds)}. Their batches take about {wishes.batch_seconds:g} s.")
    port = free_port()
    config = wishes.directory / "config.toml"
    providers = tables(wishes.cast, sandbox.base_urls)
    config.write_text(_CONFIG.format(port=port, most=wishes.most_requests, tables=providers), encoding="utf-8")
    gateway = GatewayProcess(wishes.directory, config, port, clock)
    stack.push_async_callback(gateway.stop)
    await gateway.start()
    return Stage(
        models={part.kind: f"{part.kind}/{part.model}" for part in wishes.cast},
        sandbox=sandbox,
        gateway=gateway,
        data=wishes.directory / "data",
        screen=screen,
        clock=clock,
    )


async def _first_pass(stage: Stage, job: Sequence[Task]) -> list[ChatCompletion]:
    """Ask everything; kill the gateway as soon as a batch is with the provider, and start it again."""
    try:
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(_ask(stage, job, "answers"))
            tasks.create_task(_crash(stage, asking))
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    return asking.result()


async def _crash(stage: Stage, asking: asyncio.Task[list[ChatCompletion]]) -> None:
    """The crash, and then what comes back."""
    await _until(stage, asking, BatchState.SUBMITTED)
    begun = stage.clock.monotonic()
    await stage.gateway.kill()
    stage.screen.say("A batch is with the provider: the gateway is killed (kill -9) and started again.")
    await stage.gateway.start()
    stage.screen.say(
        f"Back after {stage.clock.monotonic() - begun:.1f} s. The client's own retries found their requests again, and the "
        "gateway its batches: both are in the ledger on disk."
    )
    await _tell_returns(stage, asking)


async def _tell_returns(stage: Stage, asking: asyncio.Task[list[ChatCompletion]]) -> None:
    """A word for each batch that comes back, until all have and everything is answered."""
    told: set[int] = set()
    over = False
    while not over:
        answered = asking.done()
        batches = await _batches(stage)
        for batch in reversed(batches):
            if batch.state is BatchState.COLLECTED and batch.id not in told:
                told.add(batch.id)
                stage.screen.say(f"Batch {batch.id} came back from {batch.lane.provider} with {batch.count} answers.")
        over = answered and all(batch.state in (BatchState.COLLECTED, BatchState.DISSOLVED) for batch in batches)
        await stage.clock.sleep(_LOOK_SECONDS)


async def _until(stage: Stage, asking: asyncio.Task[list[ChatCompletion]], state: BatchState) -> None:
    """Return when a batch is in `state`, or there is nothing left to wait for."""
    while not asking.done() and all(batch.state is not state for batch in await _batches(stage)):
        await stage.clock.sleep(_LOOK_SECONDS)


async def _batches(stage: Stage) -> list[BatchRow]:
    """As the ledger has them now, the latest first; also while the gateway is down."""
    return await open_ledger(Storage(directory=stage.data)).batches.listed(limit=10_000)


async def _second_pass(stage: Stage, job: Sequence[Task]) -> list[ChatCompletion]:
    """The same again."""
    stage.screen.say("The same script again:")
    begun = stage.clock.monotonic()
    answers = await _ask(stage, job, "answers")
    seconds = stage.clock.monotonic() - begun
    stage.screen.say(f"{len(answers)} answers from store in {seconds:.1f} s; no provider was asked.")
    return answers


async def _ask(stage: Stage, job: Sequence[Task], what: str) -> list[ChatCompletion]:
    """One answer for each task, all asked at once through the official client."""
    async with AsyncOpenAI(base_url=stage.gateway.base_url, api_key="any", max_retries=MAX_RETRIES) as client:
        with stage.screen.progress(what, len(job)) as progress:

            async def one(task: Task) -> ChatCompletion:
                answer = await client.chat.completions.create(model=stage.models[task.provider], messages=task.messages)
                progress.advance()
                return answer

            try:
                return await asyncio.gather(*map(one, job))
            except OpenAIError as error:
                raise DemoFailed(f"a call failed: {type(error).__name__}: {error}") from error


async def right_answers(job: Sequence[Task], cast: Sequence[Part], directory: Path) -> list[Said]:
    """What the simulated providers say to each task."""
    clock = SystemClock()
    oracles = {
        part.kind: Oracle(part.provider_class, part.simulator_class, clock, directory / "oracle" / part.kind)
        for part in cast
    }
    models = {part.kind: part.model for part in cast}
    said = [oracles[task.provider].says(models[task.provider], {"messages": task.messages}) for task in job]
    for oracle in oracles.values():
        await oracle.provider.aclose()
    return said


def wrong_answers(expected: Sequence[Said], answers: Sequence[ChatCompletion]) -> int:
    """How many answers are not what the simulated provider says to that very request."""
    return sum(
        answer.choices[0].message.content != said.text
        or answer.usage is None
        or answer.usage.prompt_tokens != said.prompt_tokens
        for said, answer in zip(expected, answers, strict=True)
    )


def faults(
    expected: Sequence[Said],
    first: Sequence[ChatCompletion],
    second: Sequence[ChatCompletion],
    bills: Sequence[Totals],
) -> list[str]:
    """Everything that is not as promised, for a person; empty: all is well."""
    changed = sum(one.model_dump() != other.model_dump() for one, other in zip(first, second, strict=True))
    bill, asked = whole(bills), len(expected)
    counts = {
        "answers that are not those of their questions": wrong_answers(expected, first),
        "answers that changed in the second pass": changed,
        "questions submitted more than once": bill.repeated,
        "lines more or less than questions": abs(bill.lines - asked),
        "requests more or less than questions": abs(bill.requests - asked),
    }
    return [f"{count} {what}" for what, count in counts.items() if count]


def _verdict(screen: Screen, answers: Sequence[ChatCompletion], bills: Sequence[Totals], found: Sequence[str]) -> None:
    """Show the bill, what the labels were, and what is wrong, if anything."""
    if len(bills) > 1:
        screen.providers(provider_rows(bills))
    screen.bill(bill_lines(whole(bills), [bill.provider for bill in bills if bill.cost_usd is None]))
    labels = Counter(answer.choices[0].message.content or "" for answer in answers)
    screen.say(f"Labels: {', '.join(f'{count} {label}' for label, count in labels.most_common())}.")
    screen.say(f"NOT RIGHT: {'; '.join(found)}" if found else "Every answer was that of its own question.")
