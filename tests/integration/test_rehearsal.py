"""A job is rehearsed with a simulator (`sandbox = true`), and then run: nothing of the rehearsal passes for the provider's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from gateway.clock import SystemClock
from gateway.config import ProviderTable
from gateway.sandbox import Directive, Line, Outcome, SandboxServer
from gateway_openai.sandbox import OpenAISimulator
from tests.integration.callers import RETRY
from tests.integration.house import MODEL, QUICK, House, messages, open_house
from tests.integration.test_cache import forget

EARNEST = "In earnest: "


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
    body = {"model": MODEL, "messages": messages("what is it")}
    headers = {"Prefer": "respond-async"}
    async with open_house(tmp_path) as house:
        rehearsed = await house.http.post("/v1/chat/completions", json=body, headers=headers)
        where = rehearsed.headers["location"]
        await house.until(lambda: _answered(house, where))
    async with in_earnest(tmp_path, company) as house:
        meant = await house.http.post("/v1/chat/completions", json=body, headers=headers | RETRY)
        assert meant.headers["location"] != where
        await house.until(lambda: _answered(house, meant.headers["location"]))
        told = (await house.http.get(meant.headers["location"])).json()
    assert told["choices"][0]["message"]["content"].startswith(EARNEST)


async def _answered(house: House, where: str) -> bool:
    return (await house.http.get(where)).status_code == 200
