"""Callers beside the test: who begins, hangs up, and is counted."""

from __future__ import annotations

import asyncio

from gateway.config import Batching
from tests.integration.house import Answered, House

RETRY = {"x-stainless-retry-count": "1"}
#: Commits to its caller after half a second, so that failures after a 200 can be had.
HASTY = {"x-stainless-read-timeout": "1"}
#: Nothing is sealed before a test says so.
HELD_BACK = Batching(window_seconds=100_000, idle_seconds=100_000, max_window_seconds=100_000)


def sample(answered: Answered) -> str:
    """Which sample a stored answer is, as the caller reads it."""
    return answered.headers["x-batchway-cache"]


async def waiting(house: House, callers: int) -> None:
    """Return when so many callers wait, with whatever they did before being known."""

    async def there() -> bool:
        return len(house.gateway.waiters) == callers

    await house.until(there)


async def hang_up(house: House, asked: asyncio.Task[Answered]) -> None:
    """Cut one caller's connection, and return when the gateway has seen it."""
    left = len(house.gateway.waiters) - 1
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    await waiting(house, left)


async def finish(house: House, *asked: asyncio.Task[Answered]) -> list[Answered]:
    """Let the window seal, and return what everybody got."""
    house.gateway.batcher.flush()
    return list(await asyncio.gather(*asked))


def begin(house: House, text: str, **options: object) -> asyncio.Task[Answered]:
    """A call that goes on beside the test."""
    return asyncio.create_task(house.ask(text, **options))  # type: ignore[arg-type]
