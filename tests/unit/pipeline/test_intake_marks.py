"""Callers that go, and commits that fail, at the one moment in between: no hold stays, no mark is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.errors import LedgerError, Refusal
from gateway.pipeline.intake import Accepted
from gateway.store.rows import Departure
from tests.unit.pipeline.test_intake import answer, call, open_intake


async def test_who_is_gone_after_the_commit_releases_what_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller that hangs up when its request is recorded, and before it hears of it, leaves it to the next one."""
    async with open_intake(tmp_path) as (rig, intake):
        hasty: asyncio.Task[Accepted] = asyncio.create_task(intake.accept(call()))

        with monkeypatch.context() as hanging:
            hanging.setattr(rig.upstream.arrived, "set", hasty.cancel)
            with pytest.raises(asyncio.CancelledError):
                await hasty
        await rig.waiters.fold()
        assert not (await intake.accept(call())).admission.fresh


async def test_a_failed_commit_loses_no_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks that went with a commit which failed go with the next one: a delivery is counted."""
    async with open_intake(tmp_path) as (rig, intake):
        accepted = await intake.accept(call())
        seq = accepted.admission.seq
        gone = Departure(seq=seq, at=rig.clock.now(), delivered=True, last=True)
        rig.waiters.leave(seq, rig.waiters.attach(seq), gone)

        async def fail(*_: object) -> None:
            raise LedgerError("the disk is gone")

        with monkeypatch.context() as broken:
            broken.setattr(rig.ledger.requests, "admit", fail)
            with pytest.raises(Refusal):
                await intake.accept(call("other"))
        assert [mark.seq for mark in rig.waiters.take_departures()] == [seq]


async def test_simultaneous_readers_get_different_samples(tmp_path: Path) -> None:
    """Of two stored samples each is handed to one of two callers, before either delivery is known."""
    async with open_intake(tmp_path) as (rig, intake):
        for accepted in await asyncio.gather(intake.accept(call()), intake.accept(call())):
            await answer(rig, accepted)
        served = [await intake.accept(call()) for _ in range(2)]
        assert len({each.admission.seq for each in served}) == 2
