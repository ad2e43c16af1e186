"""What is over leaves nothing behind: no files, no copy that a create in doubt may still bring."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.dissolving import dissolve
from gateway.errors import Missing, Rejected, Retryable, TokenLimit, Unauthorised
from gateway.pipeline.discarder import Discarder
from gateway.records import Batch, RemoteBatch, RemoteState
from gateway.spool import Spool
from gateway.store.shipping import BatchRow
from gateway.testing import FakeBatch, FakeProvider
from tests.unit.pipeline.rig import Rig, claimed, open_rig, sealed

HOUR = 3600.0


def discarder_of(rig: Rig) -> Discarder:
    """A discarder with the ordinary quarantine."""
    return Discarder(rig.upstream, rig.retries.quarantine_seconds)


@pytest.mark.parametrize("error", [None, Retryable("503"), Missing("gone"), RuntimeError("bug"), TimeoutError()])
async def test_files_of_a_settled_batch_are_deleted_once(error: Exception | None, tmp_path: Path) -> None:
    """A batch that is over leaves nothing here, and the provider is asked once to delete its files: the rest expires there."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a")
        rig.upstream.spool.write_lines(batch.marker, [b"{}"])
        await rig.ledger.batches.dissolve(batch, rig.clock.now(), {})
        if error is not None:
            rig.remote.before["discard"].append(error)
        discarder = discarder_of(rig)
        for _ in range(3):
            await rig.clock.advance(400)
            await discarder.round()
        assert rig.remote.calls["discard"] == 1
        assert not rig.upstream.spool.lines(batch.marker).exists()


@pytest.mark.parametrize("error", [PermissionError(13, "not ours"), OSError(5, "I/O error")])
async def test_a_file_that_cannot_be_deleted_stops_nothing(
    error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spool that stays, whoever's it is, is said once and left to the doctor: others are deleted, and the gateway goes on."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a")
        await rig.ledger.batches.dissolve(batch, rig.clock.now(), {})

        def refuse(spool: Spool, marker: str) -> None:
            raise error

        monkeypatch.setattr(Spool, "drop", refuse)
        await discarder_of(rig).round()
        assert not await rig.ledger.batches.undiscarded(rig.clock.now(), 10)


async def test_a_disk_that_fails_while_files_are_deleted_stops_nothing(tmp_path: Path) -> None:
    """An error of our own disk in a plugin's `discard` is one of that batch."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a")
        await rig.ledger.batches.dissolve(batch, rig.clock.now(), {})
        rig.remote.before["discard"].append(OSError(28, "No space left on device"))
        await discarder_of(rig).round()
        assert not await rig.ledger.batches.undiscarded(rig.clock.now(), 10)


async def test_files_of_several_batches_are_deleted_beside_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that does not answer holds up the deleting for one time limit, not for one of each batch."""
    together = asyncio.Barrier(3)

    async def discard(fake: FakeProvider, batch: Batch, remote: RemoteBatch | None) -> None:
        await together.wait()

    monkeypatch.setattr(FakeProvider, "discard", discard)
    async with open_rig(tmp_path) as rig:
        for text in "abc":
            batch = await sealed(rig, text)
            await rig.ledger.batches.dissolve(batch, rig.clock.now(), {}, not_before=rig.clock.now() + HOUR)
        async with asyncio.timeout(5):
            await discarder_of(rig).round()
        assert not await rig.ledger.batches.undiscarded(rig.clock.now(), 10)


async def doubted_and_dissolved(rig: Rig, *texts: str) -> BatchRow:
    """A batch whose create was in doubt, was surely not there, was sent again, and was refused then for its tokens."""
    batches, now = rig.ledger.batches, rig.clock.now()
    await batches.doubt(await batches.intend(await sealed(rig, *texts), now), "lost", now)
    await batches.reseal(await claimed(rig), now)
    await dissolve(rig.upstream, await batches.intend(await claimed(rig), now), TokenLimit("full"))
    return (await rig.batches())[-1]


def appears(rig: Rig, batch: BatchRow, **changes: object) -> FakeBatch:
    """The provider shows a batch of this marker from now on."""
    remote_id = f"copy-{len(rig.remote.batches)}"
    now = rig.clock.now()
    seen = FakeBatch(
        remote_id=remote_id, marker=batch.marker, model="m", lines=[b"{}"], created=now, due=now + 30 * HOUR
    )
    rig.remote.batches[remote_id] = replace(seen, **changes)  # type: ignore[arg-type]
    return rig.remote.batches[remote_id]


async def go_on(rig: Rig, discarder: Discarder, hours: float) -> None:
    """Let it go round every quarter of an hour."""
    for _ in range(round(hours * 4)):
        await discarder.round()
        await rig.clock.advance(HOUR / 4)


def counted(rig: Rig) -> int:
    """How many duplicates the operator is told of."""
    told = rig.metrics.render().decode().partition('duplicate_batches_total{provider="fake"} ')[2]
    return int(float(told.split()[0])) if told else 0


@pytest.mark.parametrize("after_hours", [0.3, 1.2, 7.0, 20.0])
async def test_a_copy_of_what_was_dissolved_is_stopped_and_counted(after_hours: float, tmp_path: Path) -> None:
    """What a create in doubt made, and the provider shows only when its batch is long taken apart, is stopped; counted once."""
    async with open_rig(tmp_path) as rig:
        batch = await doubted_and_dissolved(rig, "a", "b")
        discarder = discarder_of(rig)
        await go_on(rig, discarder, after_hours)
        copy = appears(rig, batch)
        rig.remote.before["cancel"].append(Retryable("503"))
        await go_on(rig, discarder, 48)
        assert copy.cancelled
        assert counted(rig) == 1
        assert rig.remote.calls["discard"] == 1


async def test_looks_for_copies_come_to_an_end(tmp_path: Path) -> None:
    """They get rarer, and stop when whatever was made has been over for the provider's window: a handful in all."""
    async with open_rig(tmp_path) as rig:
        await doubted_and_dissolved(rig, "a")
        await go_on(rig, discarder_of(rig), 48)
        assert rig.remote.calls["find"] == 9
        assert [batch.discarded for batch in await rig.batches()] == [True]


async def test_copies_are_looked_for_only_after_a_doubt(tmp_path: Path) -> None:
    """A batch whose create was refused at once, or that was never sent, has no copies: nothing is listed for it."""
    async with open_rig(tmp_path) as rig:
        sent = await rig.ledger.batches.intend(await sealed(rig, "a"), rig.clock.now())
        await dissolve(rig.upstream, sent, TokenLimit("full"))
        await rig.ledger.batches.dissolve(await sealed(rig, "b"), rig.clock.now(), {})
        await discarder_of(rig).round()
        assert rig.remote.calls["find"] == 0
        assert [batch.discarded for batch in await rig.batches()] == [True, True]


async def test_a_look_that_failed_is_made_again(tmp_path: Path) -> None:
    """A provider that cannot be asked, for whatever reason, is asked again; for two days, and not for ever."""
    async with open_rig(tmp_path) as rig:
        batch = await doubted_and_dissolved(rig, "a")
        copy = appears(rig, batch)
        discarder = discarder_of(rig)
        rig.remote.before["find"].extend([Retryable("503"), RuntimeError("bug"), Unauthorised("401")])
        await go_on(rig, discarder, 4)
        assert copy.cancelled
        rig.remote.before["find"].extend([Retryable("503")] * 100)
        await go_on(rig, discarder, 60)
        assert [each.discarded for each in await rig.batches()] == [True]


@pytest.mark.parametrize(("attribute", "value"), [("account", "another"), ("_reason", "set the variable X")])
async def test_what_cannot_be_looked_for_waits(attribute: str, value: str, tmp_path: Path) -> None:
    """While its provider has another account, or is disabled, nothing is listed; it is looked for once that is set right."""
    async with open_rig(tmp_path) as rig:
        batch = await doubted_and_dissolved(rig, "a")
        copy = appears(rig, batch)
        provider, discarder = rig.router.providers["fake"], discarder_of(rig)
        usual = getattr(provider, attribute)
        setattr(provider, attribute, value)
        await go_on(rig, discarder, 1)
        assert rig.remote.calls["find"] == 0
        setattr(provider, attribute, usual)
        await go_on(rig, discarder, 2)
        assert copy.cancelled


async def test_what_is_no_copy_is_not_counted(tmp_path: Path) -> None:
    """The batch as we knew it, given up while it ran, and one that the provider refused, repeat nothing; what runs is stopped."""
    async with open_rig(tmp_path) as rig:
        batches, now = rig.ledger.batches, rig.clock.now()
        await batches.doubt(await batches.intend(await sealed(rig, "a"), now), "lost", now)
        own = appears(rig, await rig.batch())
        remote = RemoteBatch(remote_id=own.remote_id, state=RemoteState.RUNNING)
        await batches.submitted(await claimed(rig), remote, now, now)
        appears(rig, await rig.batch(), refusal=Rejected("poison"))
        await batches.dissolve(await claimed(rig), now, {})
        await go_on(rig, discarder_of(rig), 30)
        assert (counted(rig), own.cancelled) == (0, True)


async def test_what_was_lost_and_comes_back_is_a_copy(tmp_path: Path) -> None:
    """A batch that vanished after it was submitted, and was sent again and refused then, is one too many when it is back."""
    async with open_rig(tmp_path) as rig:
        batches, now = rig.ledger.batches, rig.clock.now()
        sent = await batches.intend(await sealed(rig, "a"), now)
        remote = RemoteBatch(remote_id="copy-0", state=RemoteState.RUNNING)
        await batches.submitted(sent, remote, now, now)
        await batches.doubt(await claimed(rig), "missing", now)
        await batches.reseal(await claimed(rig), now)
        await dissolve(rig.upstream, await batches.intend(await claimed(rig), now), TokenLimit("full"))
        back = appears(rig, await rig.batch())
        await go_on(rig, discarder_of(rig), 1)
        assert (counted(rig), back.cancelled) == (1, True)
