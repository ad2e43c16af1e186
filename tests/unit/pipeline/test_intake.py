"""Accepting a call: what is refused before anything is recorded, and what a stored answer says."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.config import Cache as CacheSettings
from gateway.endings import cancelled
from gateway.errors import LedgerError, Refusal, StorageFull
from gateway.pipeline.intake import Accepted, Incoming, Intake
from gateway.records import RequestState
from gateway.store.cache import Cache
from gateway.store.choose import DETACHED_SECONDS
from gateway.store.rows import Ask, Departure, Ending, Sample
from tests.unit.pipeline.rig import CHAT, Rig, open_rig


@asynccontextmanager
async def open_intake(tmp_path: Path, **options: object) -> AsyncIterator[tuple[Rig, Intake]]:
    """An intake on a real ledger and cache."""
    async with open_rig(tmp_path, **options) as rig:  # type: ignore[arg-type]
        cache = Cache.open(tmp_path / "cache", CacheSettings())
        intake = Intake(
            rig.ledger,
            cache,
            rig.router,
            rig.waiters,
            rig.metrics,
            clock=rig.clock,
            tasks=rig.tasks,
            arrived=rig.upstream.arrived,
            unbatched=asyncio.Event(),
        )
        try:
            yield rig, intake
        finally:
            cache.close()


def call(text: str = "hi", *, name: str | None = None, model: str = "m", **fields: object) -> Incoming:
    """A call of an ordinary client."""
    ask = fields.pop("ask", Ask())
    assert isinstance(ask, Ask)
    body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
    return Incoming(client="", endpoint=CHAT, model=model, body=body, ask=ask, custom_id=name)


async def refused(rig: Rig, intake: Intake, incoming: Incoming) -> Refusal:
    """The refusal of a call; nothing has been recorded."""
    before = len(await rig.ledger.requests.listed(None))
    with pytest.raises(Refusal) as raised:
        await intake.accept(incoming)
    assert len(await rig.ledger.requests.listed(None)) == before
    return raised.value


async def test_an_accepted_call_is_recorded_and_told_of(tmp_path: Path) -> None:
    """When accept returns the request is in the ledger, and the batcher has been told."""
    async with open_intake(tmp_path) as (rig, intake):
        accepted = await intake.accept(call())
        assert accepted.admission.fresh
        assert accepted.provider == "fake"
        assert await rig.states() == [RequestState.QUEUED]
        assert rig.upstream.arrived.is_set()


async def test_what_the_provider_cannot_express_is_refused_now(tmp_path: Path) -> None:
    """A field no batch can hold is a 400 that names it, before anything is recorded or paid."""
    async with open_intake(tmp_path) as (rig, intake):
        refusal = await refused(rig, intake, call(unsupported=1))
        assert (refusal.code, refusal.param) == ("unsupported_field", "unsupported")
        assert "unsupported" in refusal.message


async def test_unknown_models_and_missing_providers_are_refused_now(tmp_path: Path) -> None:
    """No route is a 404; a provider that is not there is a 502 that says why."""
    async with open_intake(tmp_path) as (rig, intake):
        assert (await refused(rig, intake, call(model="other"))).code == "model_not_found"
        refusal = await refused(rig, intake, call(model="gone/x"))
        assert refusal.code == "provider_unavailable"
        assert "uninstalled" in refusal.message


@pytest.mark.parametrize(
    ("limits", "code"),
    [({"max_line_bytes": 400}, "body_too_large"), ({"max_line_bytes": None, "max_bytes": 400}, "body_too_large")],
)
async def test_a_line_no_batch_can_hold_is_refused_now(limits: dict[str, object], code: str, tmp_path: Path) -> None:
    """A line over the provider's limit of a line, or of a whole batch, is a 413; one under it passes."""
    async with open_intake(tmp_path, limits=limits) as (rig, intake):
        assert (await refused(rig, intake, call("x" * 400))).code == code
        assert (await intake.accept(call("x" * 100))).admission.fresh


@pytest.mark.parametrize("name", [None, "k"])
async def test_who_comes_back_is_not_refused_by_limits_that_were_lowered(
    name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that was accepted is joined by whoever asks again; only a new one of its size is refused."""
    async with open_intake(tmp_path) as (rig, intake):
        first = await intake.accept(call("x" * 3_000, name=name))
        lower(rig, monkeypatch)
        seq = first.admission.seq
        left = Departure(seq=seq, at=rig.clock.now(), delivered=False, last=True, client="", run=None)
        rig.waiters.leave(seq, rig.waiters.attach(seq), left)
        again = await intake.accept(call("x" * 3_000, name=name))
        assert (again.admission.seq, again.admission.fresh) == (seq, False)
        assert (await refused(rig, intake, call("y" * 3_000))).code == "too_many_tokens"


async def test_a_detached_call_that_comes_again_is_not_refused_by_limits_that_were_lowered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retry of a call that was told to come back finds its request, for as long as a retry is taken for one."""
    async with open_intake(tmp_path) as (rig, intake):
        first = await intake.accept(call("x" * 3_000, ask=Ask(detached=True)))
        lower(rig, monkeypatch)
        again = await intake.accept(call("x" * 3_000, ask=Ask(detached=True, retry=True)))
        assert (again.admission.seq, again.admission.fresh) == (first.admission.seq, False)
        assert (await refused(rig, intake, call("x" * 3_000, ask=Ask(detached=True)))).code == "too_many_tokens"
        await rig.clock.advance(DETACHED_SECONDS + 1)
        late = call("x" * 3_000, ask=Ask(detached=True, retry=True))
        assert (await refused(rig, intake, late)).code == "too_many_tokens"


async def test_what_only_the_cache_has_is_not_refused_by_limits_that_were_lowered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that the ledger has forgotten is given all the same; a call that wants another one is refused."""
    async with open_intake(tmp_path) as (rig, intake):
        monkeypatch.setattr(
            Cache, "read", lambda *_: (Sample(ordinal=0, body=b'{"choices": []}', ended_at=rig.clock.now()),)
        )
        lower(rig, monkeypatch)
        fresh = call("x" * 3_000, ask=Ask(no_cache=True))
        assert (await refused(rig, intake, fresh)).code == "too_many_tokens"
        served = await intake.accept(call("x" * 3_000))
        assert served.admission.ending is not None
        assert served.admission.ending.body == b'{"choices": []}'


def lower(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator lowers what may wait at the provider."""
    provider = rig.router.providers["fake"]
    monkeypatch.setattr(provider, "limits", dataclasses.replace(provider.limits, max_enqueued_tokens=500))


async def test_a_name_with_another_body_is_refused(tmp_path: Path) -> None:
    """The same name for something else is a 422, whatever happens to the first; the same body is the same request."""
    async with open_intake(tmp_path) as (rig, intake):
        first = await intake.accept(call("one", name="k"))
        refusal = await refused(rig, intake, call("two", name="k"))
        assert (refusal.code, refusal.rule.status) == ("name_taken", 422)
        again = await intake.accept(call("one", name="k"))
        assert again.admission.seq == first.admission.seq
        assert not again.admission.fresh


async def test_only_if_cached_asks_nobody(tmp_path: Path) -> None:
    """Without a stored answer it is a 504, and nothing is recorded."""
    async with open_intake(tmp_path) as (rig, intake):
        assert (await refused(rig, intake, call(ask=Ask(only_if_cached=True)))).code == "not_cached"


@pytest.mark.parametrize(
    ("error", "code"), [(StorageFull("full"), "storage_full"), (LedgerError("broken"), "storage_failed")]
)
async def test_a_commit_that_fails_accepts_nothing(
    error: Exception, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full or broken disk is a 503 that may be tried again; marks that went along are not lost."""
    async with open_intake(tmp_path) as (rig, intake):
        accepted = await intake.accept(call("first"))
        leave(rig, accepted)

        async def fail(arrivals: object, departures: object = ()) -> object:
            raise error

        with monkeypatch.context() as broken:
            broken.setattr(rig.ledger.requests, "admit", fail)
            refusal = await refused(rig, intake, call("second"))
        assert (refusal.code, refusal.rule.status, refusal.rule.should_retry) == (code, 503, None)
        assert [mark.seq for mark in rig.waiters.take_departures()] == [accepted.admission.seq]
        assert rig.faults == []


async def test_a_ledger_that_cannot_be_read_accepts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that fails is a 503 as well, not a bug, and leaves no answer booked as being delivered."""
    async with open_intake(tmp_path) as (rig, intake):
        accepted = await intake.accept(call())
        await answer(rig, accepted)

        async def fail(*arguments: object) -> object:
            raise LedgerError("the disk is gone")

        for room, method in ((rig.ledger.slots, "of"), (rig.ledger.requests, "ending")):
            with monkeypatch.context() as broken:
                broken.setattr(room, method, fail)
                assert (await refused(rig, intake, call())).code == "storage_failed"
            assert rig.waiters.unfolded == 0


def leave(rig: Rig, accepted: Accepted, *, delivered: bool = False) -> None:
    """The caller of a call goes."""
    seq = accepted.admission.seq
    rig.waiters.leave(
        seq, rig.waiters.attach(seq), Departure(seq=seq, at=rig.clock.now(), delivered=delivered, last=False)
    )


async def answer(rig: Rig, accepted: Accepted) -> None:
    """End the request of a call in the ledger, its caller gone."""
    ending = Ending(state=RequestState.SUCCEEDED, status=200, code=None, body=b'{"choices": []}')
    await rig.ledger.requests.cancel(accepted.admission.seq, rig.clock.now(), ending)
    leave(rig, accepted, delivered=True)
    await rig.waiters.fold()


async def test_a_stored_answer_is_served_without_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same call again gets the stored answer, booked as being delivered, told as sample 1 of 1; nothing is recorded."""
    async with open_intake(tmp_path) as (rig, intake):
        await answer(rig, await intake.accept(call()))

        async def never(*arguments: object) -> object:
            raise AssertionError("nothing is to be written")

        monkeypatch.setattr(rig.ledger.requests, "admit", never)
        served = await intake.accept(call())
        assert served.stored
        assert served.admission.ending is not None
        assert (served.admission.sample, served.admission.of) == (1, 1)
        rig.waiters.unbook(served.admission.seq)
        assert rig.waiters.unfolded == 0


async def test_simultaneous_identical_calls_are_separate_samples(tmp_path: Path) -> None:
    """Calls that come in one turn of the loop each make a request of their own, in one commit."""
    async with open_intake(tmp_path) as (_, intake):
        accepted = await asyncio.gather(*(intake.accept(call()) for _ in range(5)))
        assert len({each.admission.seq for each in accepted}) == 5
        assert [each.admission.sample for each in accepted] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("run", [None, "r1"])
async def test_who_is_gone_before_the_commit_releases_what_it_took(run: str | None, tmp_path: Path) -> None:
    """A caller that hangs up while its request is recorded leaves it to the next one, in a run too: one request, not two."""
    async with open_intake(tmp_path) as (rig, intake):
        hasty = asyncio.create_task(intake.accept(call(ask=Ask(run=run))))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        hasty.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hasty
        async with asyncio.timeout(20):
            while not rig.waiters._departures:
                await asyncio.sleep(0.005)
        again = await intake.accept(call(ask=Ask(run=run)))
        assert not again.admission.fresh
        assert len(await rig.ledger.requests.listed(None)) == 1


async def test_a_cancelled_request_is_not_given_to_others(tmp_path: Path) -> None:
    """After a cancel the same call is a new request: only a retry is told of the cancel."""
    async with open_intake(tmp_path) as (rig, intake):
        accepted = await intake.accept(call())
        await rig.ledger.requests.cancel(accepted.admission.seq, rig.clock.now(), cancelled())
        leave(rig, accepted)
        assert (await intake.accept(call())).admission.fresh
