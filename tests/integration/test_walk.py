"""An ordinary call goes through a real batch and comes back to its caller."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.integration.house import MODEL, House, messages, open_house


@pytest.fixture
async def house(tmp_path: Path):  # noqa: ANN201 - a fixture
    """A gateway in front of a simulator."""
    async with open_house(tmp_path) as house:
        yield house


async def test_everyone_gets_its_own_answer(house: House) -> None:
    """Simultaneous callers each get the answer to their own question, and each question is submitted once."""
    texts = [f"Question number {number}?" for number in range(200)]

    async with house.client() as client:

        async def ask(text: str) -> str:
            answer = await client.chat.completions.create(model=MODEL, messages=messages(text))
            return answer.choices[0].message.content or ""

        answers = await asyncio.gather(*map(ask, texts))
        again = await asyncio.gather(*map(ask, texts))

    assert all(text in answer for text, answer in zip(texts, answers, strict=True))
    assert again == answers
    assert await house.lines() == 200
    requests = await house.gateway.ledger.requests.listed(None, limit=200)
    assert {request.attempts for request in requests} == {1}
