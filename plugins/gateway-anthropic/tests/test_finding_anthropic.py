"""Finding a batch that carries no mark: candidates by number and time, and a list that was not read to its end is no list."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from anthropic_lab import bodies, chat, speaking_to

from gateway import (
    Ambiguous,
    Batch,
    Retryable,
)
from gateway.clock import as_datetime
from gateway.listing import Page
from gateway.records import line_id
from gateway.sandbox import Fault, FaultKind, Operation
from gateway.testing import FakeClock, Lab
from gateway_anthropic import AnthropicProvider, provider
from gateway_anthropic.settings import AnthropicSettings


class Endless(AnthropicProvider):
    """A workspace whose list goes on and on."""

    async def _page(self, after: str | None) -> Page:
        return Page(items=[{"id": f"msgbatch_{after}"}], after=f"{after}x")


def batch_in(directory: Path) -> Batch:
    """One to look for."""
    return Batch(marker="m" * 20, endpoint="/v1/chat/completions", model="m", count=1, size=1, spool=directory / "x")


async def test_a_list_that_never_ends_is_no_empty_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pages there are: ours may stand on the next one, so that it is not sent again."""
    monkeypatch.setattr("gateway.listing.MOST_PAGES", 3)
    provider = Endless("x", AnthropicSettings.model_validate({"api_key": "k"}), FakeClock(), tmp_path)
    with pytest.raises(Retryable):
        await provider.find(batch_in(tmp_path))
    await provider.aclose()


async def test_a_list_that_says_it_goes_on_is_not_at_its_end(tmp_path: Path) -> None:
    """An empty page that has `has_more` is no end: ours may stand behind it, so that it is not sent again."""
    page = {"data": [], "has_more": True, "first_id": None, "last_id": None}
    async with speaking_to(page, tmp_path) as (own, _):
        with pytest.raises(Retryable, match="goes on"):
            await own.find(batch_in(tmp_path))


async def test_a_lost_answer_leaves_one_candidate(lab: Lab) -> None:
    """The create call is sent once; what it made is found by its time and its number of requests, and proven by its lines."""
    started = as_datetime(lab.clock.now())
    lab.simulator.faults.order(Fault(kind=FaultKind.CUT, operation=Operation.CREATE, when="after"))
    batch = lab.seal(*bodies(3))
    with pytest.raises(Ambiguous):
        await lab.provider.submit(batch)
    for count in (1, 2, 4):
        await lab.submit(*bodies(count), marker="z" * 20)
    [found] = await lab.provider.find(replace(batch, first_sent=started))
    results = await lab.results(await lab.later(found))

    assert lab.simulator.ledger.calls["create"] == 4
    assert {result.line_id for result in results} == {line_id(batch.marker, n) for n in range(3)}


async def test_candidates_are_as_old_as_they_can_be(lab: Lab) -> None:
    """Batches from before the first create call, less a day, are not ours; of the others all that fit, oldest first."""
    old = await lab.submit(chat(), marker="0" * 20)
    lab.clock.jump(2 * 86_400)
    made = []
    for n in range(3):
        made.append(await lab.submit(chat(), marker=f"{n:020d}"))
        lab.clock.jump(60)
    now = as_datetime(lab.clock.now())
    batch = lab.seal(chat())

    found = await lab.provider.find(replace(batch, first_sent=now))
    assert [remote.remote_id for remote in found] == [remote.remote_id for remote in made]
    assert old.remote_id in {remote.remote_id for remote in await lab.provider.find(batch)}
    assert await lab.provider.find(replace(batch, count=7, first_sent=now)) == []


async def test_the_whole_relevant_list_is_read(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A candidate on a later page is found, and reading stops where batches get too old."""
    monkeypatch.setattr(provider, "PAGE", 5)
    for n in range(20):
        lab.clock.jump(14_400)
        await lab.submit(*bodies(2), marker=f"{n:020d}")
    before = as_datetime(lab.clock.now()) + timedelta(minutes=1)
    ours = await lab.submit(chat())
    for n in range(12):
        lab.clock.jump(60)
        await lab.submit(*bodies(2), marker=f"z{n:019d}")
    calls = lab.simulator.ledger.calls["list"]
    found = await lab.provider.find(replace(lab.seal(chat()), first_sent=before))

    assert [remote.remote_id for remote in found] == [ours.remote_id]
    # 19 batches are young enough, so the fifth page is the first that is wholly too old; all 33 would be seven pages.
    assert lab.simulator.ledger.calls["list"] - calls == 5


async def test_a_list_that_breaks_off_is_no_list(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty answer is only given when everything was read."""
    monkeypatch.setattr(provider, "PAGE", 2)
    for n in range(5):
        await lab.submit(*bodies(2), marker=f"{n:020d}")
    lab.simulator.faults.order(
        Fault(kind=FaultKind.STATUS, operation=Operation.LIST, status=500, contains="", when="after")
    )
    with pytest.raises(Retryable):
        await lab.provider.find(lab.seal(chat()))
