"""The cache is deleted, cut or overwritten under a running gateway; and answers that only the cache has are still there."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gateway.config.sections import Cache as CacheSettings
from tests.integration.callers import sample
from tests.integration.house import House, open_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A gateway in front of a simulator."""
    async with open_house(tmp_path) as house:
        yield house


async def forget(house: House) -> None:
    """Let retention take every request, once the cache has written what it was given; the latest of all always stays."""
    await asyncio.to_thread(house.gateway.cache.flush)
    await house.ask(f"the last of them all, at {house.clock.now()}")
    await house.until(lambda: _forgotten(house))


async def _forgotten(house: House) -> bool:
    await house.gateway.waiters.fold()
    await house.gateway.ledger.requests.forget(house.clock.now() + 1, 500)
    return len(await house.gateway.ledger.requests.listed(None)) == 1


async def test_samples_come_back_in_their_order(house: House) -> None:
    """Answers the ledger has forgotten come back out of the cache, the first first: a new run gets them as the first run did."""
    first = [await house.ask("dice", run="/run/one") for _ in range(3)]
    await forget(house)

    again = [await house.ask("dice", run="/run/two") for _ in range(3)]
    fourth = await house.ask("dice", run="/run/two")

    assert [answer.body for answer in again] == [answer.body for answer in first]
    assert [sample(answer) for answer in again] == [f"hit; sample={number}; of=3" for number in (1, 2, 3)]
    assert fourth.headers["x-batchway-cache"] == "miss"
    assert await house.lines() == 5


async def test_a_new_sample_stands_behind_the_ones_that_only_the_cache_has(house: House) -> None:
    """A no-cache call asks anew; neither it nor a later forgetting changes which answers are the first and the second."""
    first = [await house.ask("dice", run="/run/one") for _ in range(2)]
    await forget(house)
    third = await house.ask("dice", headers={"Cache-Control": "no-cache"})
    await forget(house)

    again = [await house.ask("dice", run="/run/two") for _ in range(3)]

    assert [answer.body for answer in again] == [answer.body for answer in (*first, third)]


async def test_samples_come_back_beside_the_ones_that_were_kept(house: House) -> None:
    """A question of which the ledger has forgotten only the older answers is not asked again either: a run gets them in order."""
    first = await house.ask("dice")
    house.clock.jump(1000)
    second = await house.ask("dice", headers={"Cache-Control": "no-cache"})
    await asyncio.to_thread(house.gateway.cache.flush)
    await house.gateway.waiters.fold()
    assert await house.gateway.ledger.requests.forget(house.clock.now() - 500, 10) == 1

    again = [await house.ask("dice", run="/run/two") for _ in range(3)]

    assert [answer.body for answer in again[:2]] == [first.body, second.body]
    assert [sample(answer) for answer in again[:2]] == ["hit; sample=1; of=2", "hit; sample=2; of=2"]
    assert again[2].headers["x-batchway-cache"] == "miss"
    assert await house.lines() == 3


async def test_what_must_not_be_stored_is_not_in_the_cache(house: House) -> None:
    """An answer to a no-store call is gone with its request; so is that of a named one, which is found by its name only."""
    await house.ask("secret", headers={"Cache-Control": "no-store"})
    await house.ask("named", headers={"x-batchway-custom-id": "name"})
    await forget(house)

    assert (await house.ask("secret")).headers["x-batchway-cache"] == "miss"
    assert (await house.ask("named")).headers["x-batchway-cache"] == "miss"


async def test_without_a_cache_everything_works(tmp_path: Path) -> None:
    """With the cache switched off answers are stored as long as the ledger keeps them."""
    async with open_house(tmp_path, cache=CacheSettings(enabled=False)) as house:
        first = await house.ask("plain")
        stored = await house.ask("plain")
        await forget(house)
        anew = await house.ask("plain")

    assert stored.body == first.body
    assert anew.headers["x-batchway-cache"] == "miss"


def _delete(directory: Path) -> None:
    shutil.rmtree(directory)


def _truncate(directory: Path) -> None:
    for path in directory.iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        path.write_bytes(b"")


def _garble(directory: Path) -> None:
    for path in directory.iterdir():
        with path.open("r+b") as file:
            file.write(b"\xff" * path.stat().st_size)


def _replace(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.write_text("a file where the cache was")


@pytest.mark.parametrize("harm", [_delete, _truncate, _empty, _garble, _replace])
async def test_a_harmed_cache_only_misses(house: House, tmp_path: Path, harm: Callable[[Path], None]) -> None:
    """Whatever happens to the cache's files, every call gets its own answer, and new answers are remembered again."""
    texts = [f"question {number}" for number in range(20)]
    first = await asyncio.gather(*map(house.ask, texts))
    await forget(house)
    harm(tmp_path / "cache")

    second = await asyncio.gather(*map(house.ask, texts))
    stored = await asyncio.gather(*map(house.ask, texts))
    await forget(house)
    third = await asyncio.gather(*map(house.ask, texts))

    for answers in (first, second, stored, third):
        assert [answer.status for answer in answers] == [200] * 20
        assert all(text in answer.text for text, answer in zip(texts, answers, strict=True))
    assert [answer.body for answer in stored] == [answer.body for answer in second]
    assert [answer.body for answer in third] == [answer.body for answer in second]
    assert {sample(answer) for answer in third} == {"hit; sample=1; of=1"}
