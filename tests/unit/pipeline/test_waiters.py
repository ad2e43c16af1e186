"""Waiting callers and the marks they leave: who is woken, who is sent away, and what others see before it is committed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.endings import cancelled
from gateway.errors import LedgerError
from gateway.pipeline.waiters import Stopping, Waiters
from gateway.records import RequestState
from gateway.store.choose import New, Serve, Take, choose
from gateway.store.rows import Ask, Departure, Ending, Slot
from tests.unit.pipeline.rig import Rig, arrival, open_rig

HI = Ending(state=RequestState.SUCCEEDED, status=200, code=None, body=b"{}")


def gone(seq: int, *, delivered: bool = False) -> Departure:
    """The mark of a caller of request `seq` that has left."""
    return Departure(seq=seq, at=1_800_000_001.0, delivered=delivered, last=False)


async def slot_of(rig: Rig, text: str = "a") -> Slot:
    """The one slot of a text as the next call would see it."""
    rows = await rig.ledger.slots.of(arrival(text).fingerprint, "", None, rig.clock.now())
    (slot,) = rig.waiters.overlay(rows)
    return slot


async def ended(rig: Rig, seq: int) -> None:
    """End a queued request in the ledger, and tell nobody."""
    await rig.ledger.requests.cancel(seq, rig.clock.now(), cancelled())


async def test_every_caller_of_a_request_gets_its_ending(tmp_path: Path) -> None:
    """All who wait for a request are woken by its ending, and nobody else is."""
    async with open_rig(tmp_path) as rig:
        first, second, other = rig.waiters.attach(1), rig.waiters.attach(1), rig.waiters.attach(2)
        assert len(rig.waiters) == 3
        assert rig.waiters.counts([1, 2, 3]) == {1: 2, 2: 1}
        rig.waiters.wake({1: HI})
        assert first.result() is HI
        assert second.result() is HI
        assert not other.done()


async def test_a_second_ending_changes_nothing(tmp_path: Path) -> None:
    """Waking twice, or waking a caller that is gone, does no harm: the first ending stands."""
    async with open_rig(tmp_path) as rig:
        future, left = rig.waiters.attach(1), rig.waiters.attach(1)
        rig.waiters.leave(1, left, gone(1))
        rig.waiters.wake({1: HI})
        rig.waiters.wake({1: cancelled(), 99: HI})
        assert future.result() is HI


async def test_an_ending_before_the_attaching_is_seen_by_the_look(tmp_path: Path) -> None:
    """Whoever attaches and looks once never misses an ending that nobody will tell of again."""
    async with open_rig(tmp_path) as rig:
        (admission,) = await rig.admit("a")
        await ended(rig, admission.seq)
        future = rig.waiters.attach(admission.seq)
        found = await rig.waiters.look(admission.seq, future)
        assert found is not None
        assert found.state is RequestState.CANCELLED


async def test_the_sweep_finds_endings_nobody_told_of(tmp_path: Path) -> None:
    """A lost wake-up costs a caller a second, not for ever."""
    async with open_rig(tmp_path) as rig:
        first, second = await rig.admit("a", "b")
        futures = [rig.waiters.attach(first.seq), rig.waiters.attach(second.seq)]
        await ended(rig, second.seq)
        rig.tasks.start("sweeps", rig.waiters.run_sweeps())
        await rig.clock.advance(1.1)
        assert not futures[0].done()
        assert futures[1].result().state is RequestState.CANCELLED


async def test_sweeps_reach_everybody_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many wait, each is looked at after some sweeps; one sweep reads a bounded number of ids."""
    monkeypatch.setattr("gateway.pipeline.waiters.SWEEP_AT_MOST", 3)
    async with open_rig(tmp_path) as rig:
        admissions = await rig.admit(*map(str, range(8)))
        futures = [rig.waiters.attach(admission.seq) for admission in admissions]
        for admission in admissions:
            await ended(rig, admission.seq)
        done = []
        for _ in range(3):
            await rig.waiters.sweep()
            done.append(sum(future.done() for future in futures))
        assert done == [3, 6, 8]


async def test_a_mark_counts_before_it_is_committed_and_once(tmp_path: Path) -> None:
    """Deliveries and departures change what the next call sees at once; committing them counts nothing twice."""
    async with open_rig(tmp_path) as rig:
        (admission,) = await rig.admit("a")
        future = rig.waiters.attach(admission.seq)
        slot = await slot_of(rig)
        assert (slot.held, slot.waiters, slot.deliveries) == (True, 1, 0)
        await ended(rig, admission.seq)
        rig.waiters.leave(admission.seq, future, gone(admission.seq, delivered=True))
        for _ in range(2):
            slot = await slot_of(rig)
            assert (slot.held, slot.waiters, slot.deliveries) == (False, 0, 1)
            assert slot.last_delivered_at is not None
            await rig.waiters.fold()
        assert rig.waiters.unfolded == 0


async def test_only_the_last_caller_ends_the_hold(tmp_path: Path) -> None:
    """A slot is held as long as one caller of it is attached, in the overlay and in the ledger."""
    async with open_rig(tmp_path) as rig:
        (admission,) = await rig.admit("a")
        first, second = rig.waiters.attach(admission.seq), rig.waiters.attach(admission.seq)
        rig.waiters.leave(admission.seq, first, gone(admission.seq))
        assert (await slot_of(rig)).held
        await rig.waiters.fold()
        slot = await slot_of(rig)
        assert (slot.held, slot.waiters) == (True, 1)
        rig.waiters.leave(admission.seq, second, gone(admission.seq))
        assert not (await slot_of(rig)).held
        await rig.waiters.fold()
        assert not (await slot_of(rig)).held


async def test_whoever_joins_while_another_leaves_keeps_the_hold(tmp_path: Path) -> None:
    """A caller that comes before the other's mark is committed holds on: its sister is not given the same sample."""
    async with open_rig(tmp_path) as rig:
        (admission,) = await rig.admit("a")
        rig.waiters.leave(admission.seq, rig.waiters.attach(admission.seq), gone(admission.seq))
        second = rig.waiters.attach(admission.seq)
        await rig.waiters.fold()
        slot = await slot_of(rig)
        assert (slot.held, slot.waiters) == (True, 1)
        assert isinstance(choose([slot], Ask(), rig.clock.now()), New)
        rig.waiters.leave(admission.seq, second, gone(admission.seq))
        await rig.waiters.fold()
        assert isinstance(choose([await slot_of(rig)], Ask(), rig.clock.now()), Take)


async def test_two_departures_under_way_are_both_seen(tmp_path: Path) -> None:
    """A caller that comes and goes while an earlier mark is being committed leaves the slot free, before and after."""
    async with open_rig(tmp_path) as rig:
        (admission,) = await rig.admit("a")
        rig.waiters.leave(admission.seq, rig.waiters.attach(admission.seq), gone(admission.seq))
        early = rig.waiters.take_departures()
        rig.waiters.leave(admission.seq, rig.waiters.attach(admission.seq), gone(admission.seq))
        rig.waiters.folded(early)
        slot = await slot_of(rig)
        assert not slot.held
        assert isinstance(choose([slot], Ask(), rig.clock.now()), Take)


async def test_marks_of_a_failed_write_go_with_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that fails loses no mark, keeps their order, and others see them meanwhile."""
    async with open_rig(tmp_path) as rig:
        (admission,) = await rig.admit("a")
        rig.waiters.leave(admission.seq, rig.waiters.attach(admission.seq), gone(admission.seq))

        async def fail(departures: object) -> None:
            raise LedgerError("the disk is gone")

        with monkeypatch.context() as broken:
            broken.setattr(rig.ledger.requests, "depart", fail)
            with pytest.raises(LedgerError):
                await rig.waiters.fold()
        assert not (await slot_of(rig)).held
        later = gone(admission.seq + 1)
        rig.waiters.mark(later)
        assert [mark.seq for mark in rig.waiters.take_departures()] == [admission.seq, later.seq]


async def test_a_failed_commit_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the task that commits marks is started again after a failing write, it does not wait for another caller."""
    async with open_rig(tmp_path) as rig:
        (admission,) = await rig.admit("a")

        async def fail(departures: object) -> None:
            raise LedgerError("the disk is gone")

        rig.waiters.leave(admission.seq, rig.waiters.attach(admission.seq), gone(admission.seq))
        with monkeypatch.context() as broken:
            broken.setattr(rig.ledger.requests, "depart", fail)
            folding = rig.tasks.spawn("folds", rig.waiters.run_folds())
            await rig.clock.advance(1)
            assert isinstance(folding.exception(), LedgerError)
        rig.tasks.spawn("folds", rig.waiters.run_folds())
        async with asyncio.timeout(20):
            while rig.waiters._released:
                await rig.clock.advance(1)
                await asyncio.sleep(0.005)
        assert not (await slot_of(rig)).held


async def test_stop_sends_everybody_away(tmp_path: Path) -> None:
    """At the stop those who wait, and those who come after it, are told so; an ending that was there stays."""
    async with open_rig(tmp_path) as rig:
        waiting, served = rig.waiters.attach(1), rig.waiters.attach(2)
        rig.waiters.wake({2: HI})
        rig.waiters.stop()
        late = rig.waiters.attach(3)
        assert isinstance(waiting.exception(), Stopping)
        assert isinstance(late.exception(), Stopping)
        assert served.result() is HI
        for seq, future in ((1, waiting), (2, served), (3, late)):
            rig.waiters.leave(seq, future, gone(seq))
        assert len(rig.waiters) == 0


async def test_leaving_twice_counts_once(tmp_path: Path) -> None:
    """The count of waiting callers never goes wrong."""
    async with open_rig(tmp_path) as rig:
        future = rig.waiters.attach(1)
        rig.waiters.leave(1, future, gone(1))
        rig.waiters.leave(1, future, gone(1))
        assert len(rig.waiters) == 0


async def test_simultaneous_readers_of_one_sample_take_turns(tmp_path: Path) -> None:
    """An answer that is being written counts as delivered for the choice: the next caller is served another sample first."""
    async with open_rig(tmp_path) as rig:
        waiters = rig.waiters
        slots = [Slot(seq=n, ordinal=n, state=RequestState.SUCCEEDED, held=False, ended_at=0.0) for n in (1, 2)]
        given = []
        for _ in range(4):
            choice = choose(waiters.overlay(slots), Ask(), rig.clock.now())
            assert isinstance(choice, Serve)
            given.append(choice.slot.seq)
            waiters.book(choice.slot.seq)
        assert given == [1, 2, 1, 2]
        for seq in given:
            waiters.unbook(seq)
        assert waiters.overlay(slots) == slots


class Nobody:
    """A ledger that is never asked: everything here is bookkeeping of the process."""


class Alarm:
    """A clock that stands still."""

    def now(self) -> float:
        """Always the same."""
        return 1_800_000_000.0


async def play(steps: list[tuple[str, int]]) -> None:
    """Let callers come, go and be served, and commit their marks, and compare with a plain count after each step."""
    waiters = Waiters(Nobody(), Alarm())  # type: ignore[arg-type]
    attached: dict[int, list[asyncio.Future[Ending]]] = {}
    uncommitted: list[Departure] = []
    in_flight: list[list[Departure]] = []
    for verb, seq in steps:
        if verb == "attach":
            attached.setdefault(seq, []).append(waiters.attach(seq))
        elif verb in ("leave", "deliver") and attached.get(seq):
            waiters.leave(seq, attached[seq].pop(), gone(seq, delivered=verb == "deliver"))
            uncommitted.append(gone(seq, delivered=verb == "deliver"))
        elif verb == "take":
            in_flight.append(waiters.take_departures())
        elif verb == "fold" and in_flight:
            batch = in_flight.pop(0)
            waiters.folded(batch)
            del uncommitted[: len(batch)]
        elif verb == "fail" and in_flight:
            waiters.put_back(in_flight.pop())
        slots = [Slot(seq=n, ordinal=n, state=RequestState.QUEUED, held=True) for n in range(3)]
        for slot in waiters.overlay(slots):
            waiting = len(attached.get(slot.seq, []))
            marks = [mark for mark in uncommitted if mark.seq == slot.seq]
            assert slot.waiters == waiting
            assert slot.deliveries == sum(mark.delivered for mark in marks)
            if waiting:
                assert slot.held
        assert len(waiters) == sum(map(len, attached.values()))


@given(
    st.lists(
        st.tuples(st.sampled_from(["attach", "leave", "deliver", "take", "fold", "fail"]), st.integers(0, 2)),
        max_size=40,
    )
)
def test_whatever_comes_and_goes_the_overlay_is_right(steps: list[tuple[str, int]]) -> None:
    """In any order of coming, going and committing, waiters and uncommitted deliveries are counted exactly."""
    asyncio.run(play(steps))
