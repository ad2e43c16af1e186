"""From sealed to submitted, exactly once: every way in which a create call can end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson
import pytest

from gateway.errors import Ambiguous, Missing, ProviderError, Rejected, Retryable, TokenLimit, Unauthorised, Unsupported
from gateway.records import BatchState, RequestState
from gateway.store.shipping import BatchRow
from tests.unit.pipeline.rig import Rig, claimed, open_rig, sealed
from tests.unit.pipeline.stages import submitter_of


async def submit(rig: Rig, batch: BatchRow) -> BatchRow:
    """Take a claimed batch as far as it goes, and read it again."""
    await rig.upstream.guard(batch, submitter_of(rig).submit(batch))
    again = await rig.ledger.batches.get(batch.id)
    assert again is not None
    return again


async def test_a_batch_is_uploaded_and_created_once(tmp_path: Path) -> None:
    """The ordinary way: spool, upload, intent, create, and the provider's id is durable."""
    async with open_rig(tmp_path) as rig:
        batch = await submit(rig, await sealed(rig, "a", "b"))
        assert batch.state is BatchState.SUBMITTED
        assert batch.remote_id == "fake-1"
        assert batch.submissions == 1
        assert rig.remote.batches["fake-1"].marker == batch.marker
        names = [orjson.loads(line)["custom_id"] for line in rig.remote.batches["fake-1"].lines]
        assert names == [f"{batch.marker}-{n}" for n in range(2)]


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Retryable("refused connection"), BatchState.SEALED),
        (Unauthorised("status 401"), BatchState.SEALED),
        (Ambiguous("timeout"), BatchState.RECONCILING),
        (Missing("no such file"), BatchState.RECONCILING),
        (TimeoutError(), BatchState.RECONCILING),
        (ProviderError("odd"), BatchState.RECONCILING),
        (RuntimeError("a bug"), BatchState.RECONCILING),
        (Rejected("bad file"), BatchState.DISSOLVED),
        (TokenLimit("full"), BatchState.DISSOLVED),
    ],
)
async def test_each_end_of_a_create_leads_where_the_design_says(
    error: Exception, state: BatchState, tmp_path: Path
) -> None:
    """Nothing happened: sealed for later; it was refused: dissolved; whatever leaves it open: reconciling; no request fails."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a", "b")
        rig.remote.before["submit"].append(error)
        after = await submit(rig, batch)
        assert after.state is state
        assert rig.remote.calls["submit"] == 1
        assert not {found.ended for found in await rig.states()} - {False}


@pytest.mark.parametrize("error", [Retryable("429"), Ambiguous("reset"), RuntimeError("a bug"), TimeoutError()])
async def test_a_failed_create_closes_the_breaker(error: Exception, tmp_path: Path) -> None:
    """After a create that did not go through the account makes no other for five seconds."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a")
        rig.remote.before["submit"].append(error)
        await submit(rig, batch)
        account = rig.accounts.of(rig.router.providers["fake"])
        assert not account.may_create()
        assert account.may_call()
        assert account.seconds_left() == 5


async def test_the_intent_is_durable_before_the_create(tmp_path: Path) -> None:
    """When the create call is made the ledger says so already: a crash in it is known as unknown."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a")
        seen: list[BatchState] = []
        create = rig.remote.create

        def spying(sent: object) -> object:
            with rig.ledger.database.reader() as session:
                seen.extend(BatchState(row[0]) for row in session._connection.execute("SELECT state FROM batches"))  # type: ignore[attr-defined]
            return create(sent)  # type: ignore[arg-type]

        rig.remote.create = spying  # type: ignore[assignment,method-assign]
        await submit(rig, batch)
        assert seen == [BatchState.SUBMITTING]


@pytest.mark.parametrize(
    "error",
    [
        Retryable("busy"),
        Missing("gone"),
        Ambiguous("timeout"),
        Unauthorised("401"),
        RuntimeError("bug"),
        TimeoutError(),
    ],
)
async def test_an_upload_that_fails_is_only_late(error: Exception, tmp_path: Path) -> None:
    """Uploads may be repeated: the batch stays sealed, keeps its marker, and nothing is created or taken apart."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a", "b")
        rig.remote.before["upload"].append(error)
        after = await submit(rig, batch)
        assert after.state is BatchState.SEALED
        assert after.marker == batch.marker
        assert after.retry_at > rig.clock.now()
        assert rig.remote.calls["submit"] == 0
        assert len(await rig.batches()) == 1
        await rig.clock.advance(700)
        again = await submit(rig, await claimed(rig))
        assert again.state is BatchState.SUBMITTED
        assert rig.remote.duplicates() == {}


@pytest.mark.parametrize("error", [Rejected("bad line"), Unsupported("x", "no such thing")])
async def test_a_refused_upload_is_a_refused_batch(error: Exception, tmp_path: Path) -> None:
    """A file the provider will not have is halved until the offending line stands alone."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a", "b", "c")
        rig.remote.before["upload"].append(error)
        assert (await submit(rig, batch)).state is BatchState.DISSOLVED
        assert [part.count for part in await rig.batches(BatchState.SEALED)] == [2, 1]
        assert len({part.marker for part in await rig.batches()}) == 3


async def test_the_poison_line_fails_alone(tmp_path: Path) -> None:
    """Halving ends with one failed request, and all others are submitted."""
    async with open_rig(tmp_path) as rig:
        whole = await sealed(rig, *(f"line {n}" for n in range(6)), "poison")
        create = rig.remote.create

        def strict(batch: object) -> object:
            if b"poison" in rig.remote.files[batch.file_id]:  # type: ignore[attr-defined]
                raise Rejected("one of the lines is bad")
            return create(batch)  # type: ignore[arg-type]

        rig.remote.create = strict  # type: ignore[assignment,method-assign]
        await submit(rig, whole)
        for _ in range(5):
            for batch in await rig.batches(BatchState.SEALED):
                found = await rig.ledger.batches.claim_one(batch.id)
                if found is not None:
                    await submit(rig, found)
        assert await rig.states() == [RequestState.BATCHED] * 6 + [RequestState.FAILED]
        assert rig.remote.duplicates() == {}
        assert sum(rig.remote.submitted.values()) == 6


@pytest.mark.parametrize(
    "error", [Rejected("bad query"), TokenLimit("no"), Ambiguous("timeout"), Missing("x"), RuntimeError("bug")]
)
async def test_a_listing_that_fails_says_nothing_of_the_batch(error: Exception, tmp_path: Path) -> None:
    """After a create that may be repeated the batch is looked for first; while that fails it is neither sent nor dissolved."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a", "b")
        rig.remote.before["submit"].append(Retryable("429"))
        await submit(rig, batch)
        await rig.clock.advance(10)
        rig.remote.before["find"].append(error)
        after = await submit(rig, await claimed(rig))
        assert after.state is BatchState.SEALED
        assert rig.remote.calls["submit"] == 1
        assert len(await rig.batches()) == 1


async def test_a_create_that_worked_after_all_is_found(tmp_path: Path) -> None:
    """A 429 that was none: the look before the second try finds the batch, and nothing is sent twice."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a")
        rig.remote.after["submit"].append(Retryable("429"))
        await submit(rig, batch)
        await rig.clock.advance(10)
        after = await submit(rig, await claimed(rig))
        assert after.state is BatchState.SUBMITTED
        assert rig.remote.calls["submit"] == 1
        assert rig.remote.duplicates() == {}


async def test_a_frame_that_raises_parks_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that breaks in `frame` leaves its batch parked with the reason, and no half spool."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a")

        def broken(line_id: str, payload: bytes) -> bytes:
            raise ZeroDivisionError("in the plugin")

        plugin = rig.router.providers["fake"].instance
        monkeypatch.setattr(plugin, "frame", broken)
        after = await submit(rig, batch)
        assert after.state is BatchState.SEALED
        assert "ZeroDivisionError" in (after.parked_reason or "")
        assert list((tmp_path / "spool").glob("*")) == []


async def test_a_batch_of_another_account_is_parked_not_sent(tmp_path: Path) -> None:
    """When base URL or account are not those the batch was made for it stays, with the reason."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a")
        rig.router.providers["fake"].account = "another"
        after = await submit(rig, batch)
        assert after.state is BatchState.SEALED
        assert "account" in (after.parked_reason or "")
        assert rig.remote.calls == {}


async def test_ticks_take_every_sealed_batch(tmp_path: Path) -> None:
    """However many are sealed, all are submitted, a few at a time, and none twice."""
    async with open_rig(tmp_path) as rig:
        for n in range(9):
            batch = await sealed(rig, f"t{n}")
            await rig.ledger.batches.release(batch, retry_at=rig.clock.now())
        submitter = submitter_of(rig)
        async with asyncio.timeout(20):
            while await rig.batches(BatchState.SEALED, BatchState.SUBMITTING):
                await submitter.tick()
                await asyncio.sleep(0.005)
        assert len(rig.remote.batches) == 9
        assert rig.remote.duplicates() == {}
        assert rig.faults == []


async def test_a_file_the_provider_has_lost_is_uploaded_again(tmp_path: Path) -> None:
    """After several failures in a row the input file is sent anew, in case it is gone there: the batch does not hang on it."""
    async with open_rig(tmp_path) as rig:
        batch = await sealed(rig, "a")
        for _ in range(6):
            rig.remote.before["submit"].append(Retryable("cannot find the input file"))
            await submit(rig, batch)
            await rig.clock.advance(600)
            batch = await claimed(rig)

        assert rig.remote.calls["upload"] == 2
