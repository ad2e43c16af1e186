"""The doubles behave as what they stand for."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from gateway.errors import Ambiguous, Missing, Rejected, Retryable, Unsupported
from gateway.provider import Provider
from gateway.records import Batch, Call, RemoteState
from gateway.testing import FakeClock, FakeProvider, FakeRemote, FakeSettings


@pytest.fixture(name="clock")
def _clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(name="remote")
def _remote(clock: FakeClock) -> FakeRemote:
    return FakeRemote(clock=clock)


def provider_of(remote: FakeRemote, directory: Path) -> FakeProvider:
    """A new instance, as after a restart, that talks to the same remote."""
    return FakeProvider("fake", FakeSettings(remote=remote), remote.clock, directory)


@pytest.fixture(name="provider")
def _provider(remote: FakeRemote, tmp_path: Path) -> FakeProvider:
    return provider_of(remote, tmp_path)


async def uploaded(provider: Provider, directory: Path, *prompts: str, marker: str = "m" * 20) -> Batch:
    """A batch of these prompts, its file at the provider."""
    calls = [{"model": "fake-1", "messages": [{"role": "user", "content": prompt}]} for prompt in prompts]
    payloads = [provider.encode(Call(endpoint="/v1/chat/completions", model="fake-1", body=body)) for body in calls]
    spool = directory / f"{marker}.jsonl"
    spool.write_bytes(b"".join(provider.frame(f"{marker}-{n}", payload) + b"\n" for n, payload in enumerate(payloads)))
    batch = Batch(
        marker=marker,
        endpoint="/v1/chat/completions",
        model="fake-1",
        count=len(prompts),
        size=spool.stat().st_size,
        spool=spool,
    )
    return replace(batch, file_id=await provider.upload(batch))


async def test_sleepers_wake_in_the_order_of_their_time(clock: FakeClock) -> None:
    """However far the clock is turned, everybody wakes at the moment it slept for, earliest first."""
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, *naps: float) -> None:
        for nap in naps:
            await clock.sleep(nap)
            woken.append((name, clock.monotonic()))

    tasks = [asyncio.ensure_future(sleeper("slow", 25)), asyncio.ensure_future(sleeper("quick", 10, 10, 10))]
    await clock.advance(30)

    assert woken == [("quick", 10), ("quick", 20), ("slow", 25), ("quick", 30)]
    assert all(task.done() for task in tasks)
    assert clock.monotonic() == 30
    assert clock.now() == FakeClock().now() + 30


async def test_nobody_wakes_early(clock: FakeClock) -> None:
    """A sleeper whose time has not come sleeps on."""
    task = asyncio.ensure_future(clock.sleep(10))
    await clock.advance(9.999)
    assert not task.done()
    await clock.advance(0.001)

    assert task.done()


async def test_a_cancelled_sleeper_is_gone(clock: FakeClock) -> None:
    """Cancelling a sleep leaves nothing in the clock."""
    task = asyncio.ensure_future(clock.sleep(10))
    await clock.settle()
    task.cancel()
    await clock.settle()

    assert clock.sleeping() == 0


async def test_wall_time_may_jump_alone(clock: FakeClock) -> None:
    """Setting the machine's clock moves wall time only, back or forth, and wakes nobody."""
    task = asyncio.ensure_future(clock.sleep(10))
    clock.jump(-3600)
    await clock.settle()

    assert clock.now() == FakeClock().now() - 3600
    assert clock.monotonic() == 0
    assert not task.done()
    task.cancel()


async def test_a_batch_takes_its_time_and_answers_every_line(
    clock: FakeClock, remote: FakeRemote, provider: FakeProvider, tmp_path: Path
) -> None:
    """A batch runs until its turnaround is over, and then each line has its own answer, in no order."""
    batch = await uploaded(provider, tmp_path, "one", "two")
    created = await provider.submit(batch)
    assert (created.state, created.total, created.done) == (RemoteState.RUNNING, 2, 0)

    await clock.advance(remote.turnaround_seconds)
    ended = await provider.poll(created)
    await provider.fetch(ended, tmp_path / "rows")
    results = [provider.decode(row) for row in (tmp_path / "rows").read_bytes().splitlines()]

    assert ended.state is RemoteState.ENDED
    answers = {result.line_id: orjson.dumps(result.body) for result in results}
    assert b"echo: one" in answers[f"{batch.marker}-0"]
    assert b"echo: two" in answers[f"{batch.marker}-1"]
    assert remote.duplicates() == {}


async def test_a_restarted_provider_finds_its_batches(
    remote: FakeRemote, provider: FakeProvider, tmp_path: Path
) -> None:
    """What was submitted is still there for a new instance, under its marker."""
    batch = await uploaded(provider, tmp_path, "one")
    created = await provider.submit(batch)
    found = await provider_of(remote, tmp_path).find(batch)

    assert [each.remote_id for each in found] == [created.remote_id]
    assert await provider.find(await uploaded(provider, tmp_path, "one", marker="x" * 20)) == []


async def test_faults_come_before_or_after_the_effect(
    remote: FakeRemote, provider: FakeProvider, tmp_path: Path
) -> None:
    """An error ordered before a call leaves nothing done, one ordered after it leaves everything done; each comes once."""
    batch = await uploaded(provider, tmp_path, "one")
    remote.before["submit"].append(Retryable("busy"))
    remote.after["submit"].append(Ambiguous("response lost"))

    with pytest.raises(Retryable):
        await provider.submit(batch)
    assert remote.batches == {}
    with pytest.raises(Ambiguous):
        await provider.submit(batch)
    assert len(remote.batches) == 1
    await provider.submit(batch)
    assert list(remote.duplicates().values()) == [2]
    assert remote.calls["submit"] == 3


async def test_lines_can_fail_or_be_lost(
    clock: FakeClock, remote: FakeRemote, provider: FakeProvider, tmp_path: Path
) -> None:
    """A prompt's line gets the status that was ordered for it, or no row at all."""
    remote.statuses = {"bad": 400, "busy": 429}
    remote.lost = {"gone"}
    created = await provider.submit(await uploaded(provider, tmp_path, "bad", "busy", "gone", "fine"))
    await clock.advance(60)
    await provider.fetch(created, tmp_path / "rows")
    results = [provider.decode(row) for row in (tmp_path / "rows").read_bytes().splitlines()]

    assert sorted((result.status, result.retriable) for result in results) == [(200, False), (400, False), (429, True)]


async def test_a_cancelled_batch_ends_undone(clock: FakeClock, provider: FakeProvider, tmp_path: Path) -> None:
    """Cancelling ends a batch at once, with retriable lines; a batch that has ended stays as it was."""
    created = await provider.submit(await uploaded(provider, tmp_path, "one"))
    await provider.cancel(created)
    await provider.fetch(await provider.poll(created), tmp_path / "rows")
    other = await provider.submit(await uploaded(provider, tmp_path, "two", marker="x" * 20))
    await clock.advance(60)
    await provider.cancel(other)

    assert provider.decode((tmp_path / "rows").read_bytes().strip()).retriable
    assert (await provider.poll(other)).done == 1


async def test_what_is_not_there_is_missing(provider: FakeProvider, tmp_path: Path) -> None:
    """An unknown batch is `Missing`, an unknown file is `Rejected`, an unknown field `Unsupported`."""
    batch = await uploaded(provider, tmp_path, "one")
    created = await provider.submit(batch)
    await provider.discard(batch, created)

    with pytest.raises(Rejected):
        await provider.submit(batch)
    provider.remote.batches.clear()
    with pytest.raises(Missing):
        await provider.poll(created)
    with pytest.raises(Unsupported):
        provider.encode(Call(endpoint="/v1/chat/completions", model="m", body={"unsupported": 1}))


def test_rows_that_are_no_rows_name_no_line(provider: FakeProvider) -> None:
    """Decoding never raises, whatever a row holds."""
    for row in (b"", b"{", b"[]", b"1", b'{"custom_id": "x"}', b'{"custom_id": "x", "response": null}', b"\xff"):
        assert provider.decode(row).line_id is None
