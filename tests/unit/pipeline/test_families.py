"""A parent ends with what its children came to, whatever that is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
from msgspec.structs import replace

from gateway.config import Cache as CacheSettings
from gateway.pipeline.families import Families
from gateway.records import RemoteBatch, RemoteState, RequestState, new_marker
from gateway.store.cache import Cache
from gateway.store.rows import Ask, Ending
from gateway.store.shipping import Cut, Settlement
from tests.unit.pipeline.rig import Rig, arrival, claimed, open_rig

#: In the place of tokens: an answer that is no object.
ODD = -1


@dataclass(frozen=True, kw_only=True)
class Home:
    """A rig, and the stage that puts families together."""

    rig: Rig
    families: Families
    cache: Cache

    async def answered(self, *tokens: int, ask: Ask | None = None) -> list[int]:
        """The numbers of parents of two children each, answered in one batch with usage of so many tokens."""
        rig, batches, now = self.rig, self.rig.ledger.batches, self.rig.clock.now()
        asked = [replace(arrival(f"q{number}"), times=2, ask=ask or Ask()) for number in range(len(tokens))]
        admissions = await rig.ledger.requests.admit(asked)
        [window] = await rig.ledger.lanes.windows()
        await batches.seal(window.lane_id, Cut(), new_marker(), "", "", now)
        remote = RemoteBatch(remote_id="r", state=RemoteState.ENDED)
        await batches.submitted(await batches.intend(await claimed(rig), now), remote, now, now)
        await batches.ended(await claimed(rig), remote, now)
        lines = [Settlement(n=n, status=200, ending=_said(tokens[n // 2]), billed=True) for n in range(2 * len(tokens))]
        await batches.settle(await claimed(rig), lines, now)
        return [admission.seq for admission in admissions]


def _said(tokens: int) -> Ending:
    if tokens == ODD:
        return Ending(state=RequestState.SUCCEEDED, status=200, code=None, body=b"[]")
    body = {"choices": [{"index": 0, "message": {"content": "so"}}], "usage": {"prompt_tokens": tokens}}
    return Ending(state=RequestState.SUCCEEDED, status=200, code=None, body=orjson.dumps(body))


@asynccontextmanager
async def open_home(directory: Path) -> AsyncIterator[Home]:
    """Nothing has been asked yet."""
    async with open_rig(directory) as rig:
        cache = Cache.open(directory / "cache", CacheSettings())
        try:
            families = Families(rig.ledger, rig.waiters, cache, rig.metrics, rig.clock)
            yield Home(rig=rig, families=families, cache=cache)
        finally:
            cache.close()


async def test_callers_get_what_is_in_the_ledger(tmp_path: Path) -> None:
    """Whoever waits for the parent is given the ending that everybody reads later."""
    async with open_home(tmp_path) as home:
        [parent] = await home.answered(7)
        future = home.rig.waiters.attach(parent)
        assert await home.families.tick() == 1
        stored = await home.rig.ledger.requests.ending(parent)

        assert stored is not None
        assert orjson.loads(stored.body)["usage"] == {"prompt_tokens": 14}
        assert (future.result().status, future.result().body) == (200, stored.body)
        assert await home.families.tick() == 0


async def test_answers_that_cannot_be_put_together_stop_nobody(tmp_path: Path) -> None:
    """Answers that are no objects: their caller is told, and the families beside it have their answers."""
    async with open_home(tmp_path) as home:
        odd, good = await home.answered(ODD, 7)
        assert await home.families.tick() == 2
        endings = await home.rig.ledger.requests.endings([odd, good])

        assert (endings[odd].state, endings[odd].code) == (RequestState.FAILED, "attempts_exhausted")
        assert endings[good].state is RequestState.SUCCEEDED
        assert await home.families.tick() == 0


async def test_the_cache_keeps_what_may_be_kept(tmp_path: Path) -> None:
    """Whole answers of families, and nothing that failed or was not to be stored."""
    async with open_home(tmp_path) as home:
        await home.answered(ODD, 7)
        await home.families.tick()
        kept = await flushed(home)
        await home.answered(7, 7, 7, ask=Ask(no_store=True, no_cache=True))
        await home.families.tick()

        assert kept == [0, 1]
        assert await flushed(home) == [0, 1]


async def flushed(home: Home) -> list[int]:
    """How many answers the cache has of the first questions, once it has written what it was given."""
    await asyncio.to_thread(home.cache.flush)
    return [len(home.cache.read(arrival(f"q{number}").fingerprint)) for number in range(2)]
