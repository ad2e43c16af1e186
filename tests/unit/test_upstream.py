"""What the pipeline's steps share when they talk to a provider: whose batch it is, how its plugin sees it, what escapes."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.errors import (
    LedgerError,
    PluginFault,
    Retryable,
    StaleEpoch,
    StorageFull,
)
from gateway.records import BatchState, RemoteBatch, RemoteState
from gateway.store.shipping import BatchRow
from gateway.testing import FakeProvider
from gateway.upstream import remote_of
from tests.unit.pipeline.rig import Rig, claimed, open_rig, sealed


async def again(rig: Rig, batch: BatchRow) -> BatchRow:
    """The batch as it is now."""
    found = await rig.ledger.batches.get(batch.id)
    assert found is not None
    return found


async def made_at(rig: Rig, base_url: str) -> BatchRow:
    """A batch of an earlier version, which wrote the address down as it was."""
    batch = await sealed(rig, "a")
    await rig.ledger.database.write(
        lambda session: session._connection.execute(  # type: ignore[attr-defined]
            "UPDATE batches SET base_url = ?", (base_url,)
        )
    )
    return await again(rig, batch)


async def test_a_batch_finds_its_provider(tmp_path: Path) -> None:
    """A batch that was made for the provider as it is configured may be worked on."""
    async with open_rig(tmp_path) as rig:
        side = await rig.upstream.side(await sealed(rig, "a"))
        assert side is not None
        assert side.plugin.name == "fake"


async def test_a_batch_of_an_earlier_version_finds_its_provider(tmp_path: Path) -> None:
    """Ledgers of schema 1 may have user and password in a batch's address: it is the same place, and goes on there."""
    async with open_rig(tmp_path) as rig:
        rig.router.providers["fake"].base_url = "https://me:key@models.test/v1"
        stored = await made_at(rig, "https://me:key@models.test/v1")
        assert await rig.upstream.side(stored) is not None
        assert stored.base_url == "https://models.test/v1"


async def test_a_batch_finds_a_place_that_is_written_otherwise(tmp_path: Path) -> None:
    """A base_url that is tidied up is the same place, also for a batch of an earlier version: it goes on there."""
    async with open_rig(tmp_path) as rig:
        rig.router.providers["fake"].base_url = "https://models.test/v1"
        assert await rig.upstream.side(await made_at(rig, "https://Models.test:443/v1/")) is not None


@pytest.mark.parametrize(("attribute", "value"), [("account", "another"), ("_reason", "set the variable X")])
async def test_a_batch_whose_provider_is_not_usable_is_parked(attribute: str, value: str, tmp_path: Path) -> None:
    """Another account, or a provider that is disabled: the batch stays where it is and says why."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a")
        setattr(rig.router.providers["fake"], attribute, value)
        assert await rig.upstream.side(batch) is None
        after = await again(rig, batch)
        assert after.state is BatchState.SEALED
        assert after.parked_reason
        assert after.retry_at == rig.clock.now() + 300


async def test_a_batch_of_a_kind_that_has_none_any_more_is_parked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table has another kind now, which is asked one by one: what was sent before waits and says why."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a")
        monkeypatch.setattr(FakeProvider, "batch", False)
        assert await rig.upstream.side(batch) is None
        assert "has no batches" in ((await again(rig, batch)).parked_reason or "")


async def test_while_the_key_is_refused_nothing_is_asked(tmp_path: Path) -> None:
    """A batch of a stopped account waits until the account may be asked again, with the reason."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a")
        rig.accounts.of(rig.router.providers["fake"]).unauthorised("status 401")
        assert await rig.upstream.side(batch) is None
        after = await again(rig, batch)
        assert (after.retry_at, after.parked_reason) == (rig.clock.now() + 600, "unauthorised: status 401")


async def raises(error: Exception) -> None:
    """A step that fails."""
    raise error


@pytest.mark.parametrize("error", [RuntimeError("bug"), PluginFault("plugin"), TimeoutError()])
async def test_whatever_escapes_a_step_leaves_the_batch_for_later(error: Exception, tmp_path: Path) -> None:
    """A step that fails in a way nobody foresaw is logged, and its batch is parked: the worker goes on."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a")
        with capture_logs() as logs:
            await rig.upstream.guard(batch, raises(error))
        assert "batch_step_failed" in [log["event"] for log in logs]
        after = await again(rig, batch)
        assert after.state is BatchState.SEALED
        assert after.retry_at > rig.clock.now()


@pytest.mark.parametrize("error", [LedgerError("disk"), StorageFull("full"), OSError(errno.ENOSPC, "No space left")])
async def test_a_batch_goes_on_soon_after_the_disk_does(error: Exception, tmp_path: Path) -> None:
    """What could not be written says nothing of the batch: it is tried again within seconds, later each time."""
    async with open_rig(tmp_path) as rig:
        pauses = []
        batch = await sealed(rig, "a")
        for _ in range(3):
            with capture_logs() as logs:
                await rig.upstream.guard(batch, raises(error))
            assert "batch_waits_for_disk" in [log["event"] for log in logs]
            pauses.append((await again(rig, batch)).retry_at - rig.clock.now())
            batch = await claimed(rig)
        assert pauses == [2.0, 4.0, 8.0]


async def test_a_batch_somebody_else_took_over_is_dropped(tmp_path: Path) -> None:
    """A stale claim writes nothing more: the other one's batch is left alone."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a")
        await rig.upstream.guard(batch, raises(StaleEpoch("taken")))
        assert (await again(rig, batch)).retry_at == batch.retry_at


async def test_copies_are_stopped_and_counted(tmp_path: Path) -> None:
    """Each copy is counted; the running ones are cancelled, and one that cannot be is no reason to stop."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a")
        side = await rig.upstream.side(batch)
        assert side is not None
        rig.remote.before["cancel"].extend([Retryable("503"), RuntimeError("bug"), TimeoutError()])
        copies = [RemoteBatch(remote_id=f"r{n}", state=RemoteState.RUNNING) for n in range(3)]
        ended = RemoteBatch(remote_id="r9", state=RemoteState.ENDED)
        await rig.upstream.cancel_copies(batch, side, [*copies, ended])
        assert rig.remote.calls["cancel"] == 3
        assert b'duplicate_batches_total{provider="fake"} 4.0' in rig.metrics.render()


async def test_a_copy_whose_cancel_was_lost_is_stopped_at_the_next_look(tmp_path: Path) -> None:
    """It is counted once, and asked to stop for as long as it runs: it is being paid for."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a")
        side = await rig.upstream.side(batch)
        assert side is not None
        rig.remote.before["cancel"].append(Retryable("503"))
        copy = RemoteBatch(remote_id="r", state=RemoteState.RUNNING)
        for state in (RemoteState.RUNNING, RemoteState.RUNNING, RemoteState.ENDED):
            await rig.upstream.cancel_copies(batch, side, [replace(copy, state=state)])
        assert rig.remote.calls["cancel"] == 2
        assert b'duplicate_batches_total{provider="fake"} 1.0' in rig.metrics.render()


async def test_a_plugin_sees_its_batch(tmp_path: Path) -> None:
    """Marker, counts, spool and the time of the first create are what the ledger has; before it there is no time."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a", "b")
        view = rig.upstream.view(batch)
        assert (view.marker, view.count, view.first_sent, view.file_id) == (batch.marker, 2, None, None)
        sent = await rig.ledger.batches.intend(batch, rig.clock.now())
        first = rig.upstream.view(sent).first_sent
        assert first is not None
        assert first.timestamp() == rig.clock.now()
        assert first.tzinfo is not None
        assert remote_of(sent).remote_id == ""


async def test_a_claim_is_given_back_once_the_ledger_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the ledger cannot write the claim is kept and given back later: no batch is held for ever by a living process."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "question")
        release = rig.ledger.batches.release
        faults = [LedgerError("disk on fire"), LedgerError("still on fire")]

        async def hampered(batch: BatchRow, *, retry_at: float, parked_reason: str, troubles: int) -> BatchRow:
            if faults:
                raise faults.pop()
            return await release(batch, retry_at=retry_at, parked_reason=parked_reason, troubles=troubles)

        monkeypatch.setattr(rig.ledger.batches, "release", hampered)
        guarded = rig.tasks.spawn("guarded", rig.upstream.guard(batch, raises(RuntimeError("a bug"))))
        while not guarded.done():
            await rig.clock.advance(1)

        assert await rig.ledger.batches.claim([BatchState.SEALED], rig.clock.now() + 600, 1)
