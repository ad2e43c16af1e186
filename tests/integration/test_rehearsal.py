"""A job is rehearsed with a simulator (`sandbox = true`), and then run: nothing of the rehearsal passes for the provider's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from gateway.clock import SystemClock
from gateway.config import ProviderTable
from gateway.records import BatchState
from gateway.sandbox import Directive, Fault, FaultKind, Line, Outcome, SandboxServer
from gateway_openai.sandbox import OpenAISimulator
from tests.integration.callers import HELD_BACK, RETRY
from tests.integration.house import MODEL, QUICK, House, messages, open_house
from tests.integration.test_cache import forget

EARNEST = "In earnest: "
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Company(OpenAISimulator):
    """Stands for the real provider: what it says is told from what a rehearsal says."""

    def answer(self, line: Line, told: Directive | None) -> Outcome:
        """As its simulator, after a word of its own."""
        outcome = super().answer(line, told)
        body = dict(outcome.body or {})
        [choice] = body["choices"]  # type: ignore[misc]
        said = {**choice["message"], "content": EARNEST + choice["message"]["content"]}
        return replace(outcome, body={**body, "choices": [{**choice, "message": said}]})


@pytest.fixture
async def company() -> AsyncIterator[tuple[Company, str]]:
    """The real provider, and its base URL."""
    company = Company(clock=SystemClock(), name="company", settings=QUICK)
    async with SandboxServer([company]) as server:
        yield company, server.base_url(company)


@asynccontextmanager
async def in_earnest(directory: Path, company: tuple[Company, str], **sections: object) -> AsyncIterator[House]:
    """The gateway on the same ledger, started again without `sandbox = true`."""
    table = ProviderTable(
        name="sim",
        kind="openai",
        limits={"min_poll_seconds": 0.01},
        settings={"base_url": company[1], "api_key": "a-real-key"},
    )
    async with open_house(directory, providers=MappingProxyType({"sim": table}), **sections) as house:  # type: ignore[arg-type]
        yield house


async def test_a_rehearsal_is_no_answer(tmp_path: Path, company: tuple[Company, str]) -> None:
    """After a rehearsal the same call is asked at the provider, and served from store only once that has answered."""
    async with open_house(tmp_path) as house:
        rehearsed = await house.ask("what is it")
        again = await house.ask("what is it")
        assert (rehearsed.status, again.headers["x-batchway-cache"]) == (200, "hit; sample=1; of=1")
    async with in_earnest(tmp_path, company) as house:
        meant = await house.ask("what is it")
        stored = await house.ask("what is it")
    assert meant.text == EARNEST + rehearsed.text
    assert [meant.headers["x-batchway-cache"], stored.headers["x-batchway-cache"]] == ["miss", "hit; sample=1; of=1"]
    assert stored.body == meant.body
    assert (await company[0].submissions()).accepted_lines == 1


async def test_the_cache_remembers_a_rehearsal_as_one(tmp_path: Path, company: tuple[Company, str]) -> None:
    """Also when only the cache has it: what a simulator said is not served in its provider's place."""
    async with open_house(tmp_path) as house:
        rehearsed = await house.ask("what is it")
        await forget(house)
    async with in_earnest(tmp_path, company) as house:
        meant = await house.ask("what is it")
    assert meant.text == EARNEST + rehearsed.text


async def test_a_retry_of_a_detached_call_finds_no_rehearsal(tmp_path: Path, company: tuple[Company, str]) -> None:
    """A detached call that comes again right after the switch is a new one: it is not told the id of the rehearsed one."""
    async with open_house(tmp_path) as house:
        rehearsed = await _detached(house, "what is it")
        await house.until(lambda: _answered(house, rehearsed))
    async with in_earnest(tmp_path, company) as house:
        meant = await _detached(house, "what is it", RETRY)
        assert meant != rehearsed
        await house.until(lambda: _answered(house, meant))
        told = (await house.http.get(meant)).json()
    assert told["choices"][0]["message"]["content"].startswith(EARNEST)


async def _answered(house: House, where: str) -> bool:
    return (await house.http.get(where)).status_code == 200


async def test_a_job_is_rehearsed_and_then_run(tmp_path: Path, company: tuple[Company, str]) -> None:
    """Whatever a rehearsal left, answered, at work or queued, named or not: run for real, every call is asked of the provider,
    once, and answered by it; nothing of the rehearsal is sent there, and what is left of it says why it waits.
    """
    named = {"x-batchway-custom-id": "mine"}
    async with open_house(tmp_path) as house:
        await asyncio.gather(house.ask("unnamed"), house.ask("named", headers=named), _detached(house, "detached"))
        house.simulator.faults.order(Fault(kind=FaultKind.ENDLESS))
        flying = await _detached(house, "in flight", {"x-batchway-custom-id": "flying"})
        await house.until(lambda: _has_batch(house, BatchState.SUBMITTED))
    async with open_house(tmp_path, simulator=house.simulator, batching=HELD_BACK) as house:
        queued = await _detached(house, "queued", {"x-batchway-custom-id": "waiting"})
    async with in_earnest(tmp_path, company) as house:
        texts = ["unnamed", "named", "in flight", "queued"]
        names = [{}, named, {"x-batchway-custom-id": "flying"}, {"x-batchway-custom-id": "waiting"}]
        asked = [house.ask(text, headers=headers) for text, headers in zip(texts, names, strict=True)]
        answers = await asyncio.gather(*asked)
        where = await _detached(house, "detached", RETRY)
        await house.until(lambda: _answered(house, where))
        await house.until(lambda: _parked(house, "set sandbox = true again", count=2))
        left = [each for each in await house.gateway.ledger.requests.listed(None) if not each.state.ended]
        batches = await house.gateway.ledger.batches.listed([BatchState.SUBMITTED])
    assert all(answer.text.startswith(EARNEST + "You said") for answer in answers)
    assert all(text in answer.text for text, answer in zip(texts, answers, strict=True))
    assert (await company[0].submissions()).accepted_lines == len(texts) + 1
    assert {flying, queued} == {"/v1/results/flying", "/v1/results/waiting"}
    assert [each.lane.kind for each in left] == ["sandbox:openai"] * 2
    assert [batch.lane.kind for batch in batches] == ["sandbox:openai"]


async def test_what_is_meant_is_not_rehearsed(tmp_path: Path, company: tuple[Company, str]) -> None:
    """What was queued for the provider goes to no simulator while one stands in for it, and is asked when it is real again."""
    async with in_earnest(tmp_path, company, batching=HELD_BACK) as house:
        where = await _detached(house, "meant", {"x-batchway-custom-id": "mine"})
    async with open_house(tmp_path) as house:
        await house.ask("rehearsed")
        await house.until(lambda: _parked(house, "remove sandbox = true"))
        assert await house.lines() == 1
    async with in_earnest(tmp_path, company) as house:

        async def asked() -> bool:
            house.clock.jump(60)
            return await _answered(house, where)

        await house.until(asked)
    assert (await company[0].submissions()).accepted_lines == 1


async def _detached(house: House, text: str, headers: Mapping[str, str] = NO_HEADERS) -> str:
    """Where the answer of a call will be that nobody waits for."""
    body = {"model": MODEL, "messages": messages(text)}
    told = await house.http.post("/v1/chat/completions", json=body, headers={"Prefer": "respond-async", **headers})
    return str(told.headers["location"])


async def _parked(house: House, advice: str, count: int = 1) -> bool:
    requests = await house.gateway.ledger.requests.listed(None)
    return sum(advice in (request.parked_reason or "") for request in requests) == count


async def _has_batch(house: House, state: BatchState) -> bool:
    return bool(await house.gateway.ledger.batches.listed([state]))
