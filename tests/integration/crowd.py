"""Callers of several kinds of providers at once: what they ask, what they are told, and what they should have been told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import openai

from gateway.cli.demo.cast import Part, parts
from gateway.cli.demo.oracle import Oracle
from gateway.clock import SystemClock
from gateway.sandbox import Fault, Operation, SandboxSettings
from tests.integration.callers import HELD_BACK
from tests.integration.town import OTHER_WAYS, Town, town

#: A batch takes no longer than it must.
AT_ONCE = SandboxSettings(validating_seconds=0.0, running_seconds=0.05, finalizing_seconds=0.0)
#: How far the clock goes forward at a time: quick, and yet no batch reaches the end of its window.
STEP_SECONDS = 20.0
_NO_WORDS: Mapping[int, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one caller got: an answer's words, or an error's."""

    status: int
    text: str
    code: str = ""


Answers = Mapping[str, Sequence[Told]]


@asynccontextmanager
async def crowded_town(
    directory: Path, cast: Sequence[Part], simulated: SandboxSettings = AT_ONCE, **sections: object
) -> AsyncIterator[Town]:
    """A town of quick providers, where nothing is sealed before a test says so."""
    async with town(directory, cast, simulated, **{"batching": HELD_BACK, **sections}) as here:
        yield here


def batched() -> list[Part]:
    """All installed kinds that have batches, and those that have two ways to hand one over a second time."""
    found = [part for part in parts([]) if part.provider_class.batch]
    return found + [
        replace(part, kind=name) for name in OTHER_WAYS for part in found if name.startswith(part.kind + "-")
    ]


def body(kind: str, number: int, words: Mapping[int, str] = _NO_WORDS) -> dict[str, object]:
    """The question of this number at this kind; no other has its words. `words` by number are said besides."""
    text = f"What is number {number} of {kind}?{words.get(number, '')}"
    return {"messages": [{"role": "user", "content": text}]}


def begin(
    here: Town, count: int, *, kinds: Sequence[str] = (), words: Mapping[int, str] = _NO_WORDS
) -> asyncio.Future[Answers]:
    """So many questions at each kind (all of them, if none is named), all at once."""
    return asyncio.ensure_future(_all(here, tuple(kinds) or tuple(here.simulators), count, words))


async def _all(here: Town, kinds: Sequence[str], count: int, words: Mapping[int, str]) -> Answers:
    said = await asyncio.gather(
        *(_one(here, kind, body(kind, number, words)) for kind in kinds for number in range(count))
    )
    return {kind: said[place * count : (place + 1) * count] for place, kind in enumerate(kinds)}


async def _one(here: Town, kind: str, question: Mapping[str, object]) -> Told:
    try:
        answer = await here.ask(kind, question)
    except openai.APIStatusError as error:
        return Told(status=error.status_code, text=error.message, code=error.code or "")
    return Told(status=200, text=answer.choices[0].message.content or "")


async def accepted(here: Town, callers: int) -> None:
    """Return when so many callers wait: whatever is sealed from now on, they are in one batch for each kind."""

    async def there() -> bool:
        return len(here.gateway.waiters) >= callers

    await here.until(there)


async def finish(here: Town, asked: asyncio.Future[Answers], jump_seconds: float = STEP_SECONDS) -> Answers:
    """All answers; whatever is queued goes out at once, and the clock is put forward until they are there."""

    async def over() -> bool:
        here.gateway.batcher.flush()
        return asked.done()

    await here.until(over, jump_seconds=jump_seconds)
    return asked.result()


async def answered(here: Town, count: int, *, words: Mapping[int, str] = _NO_WORDS) -> Answers:
    """What so many callers of each kind are told, all of a kind in one batch at first."""
    asked = begin(here, count, words=words)
    await accepted(here, count * len(here.simulators))
    return await finish(here, asked)


def order(here: Town, *faults: Fault) -> None:
    """The same trouble at every kind."""
    for simulator in here.simulators.values():
        for fault in faults:
            simulator.faults.order(fault)


async def wrong(
    here: Town, answers: Answers, directory: Path, words: Mapping[int, str] = _NO_WORDS
) -> list[tuple[str, int, Told]]:
    """Whoever was not told what the simulated provider says to that very question."""
    clock = SystemClock()
    found: list[tuple[str, int, Told]] = []
    for part in here.cast:
        if part.kind in answers:
            oracle = Oracle(part.provider_class, part.simulator_class, clock, directory / "oracle")
            for number, told in enumerate(answers[part.kind]):
                said = oracle.says(part.model, body(part.kind, number, words))
                found += [] if told == Told(status=200, text=said.text) else [(part.kind, number, told)]
            await oracle.provider.aclose()
    return found


def calling(operation: Operation | None) -> list[Part]:
    """`batched`, less the table whose results come with its polls where `operation` is a download."""
    return [part for part in batched() if operation is not Operation.FETCH or part.kind != "gemini-inline"]


async def lines(here: Town) -> dict[str, int]:
    """How many lines each kind accepted in batches."""
    return {kind: (await simulator.submissions()).accepted_lines for kind, simulator in here.simulators.items()}


async def repeats(here: Town) -> dict[str, int]:
    """How many questions each kind was asked more than once; all of them exactly twice, or the test is wrong."""
    found: dict[str, int] = {}
    for kind, simulator in here.simulators.items():
        repeated = (await simulator.submissions()).repeated
        assert set(repeated.values()) <= {2}
        found[kind] = len(repeated)
    return found
