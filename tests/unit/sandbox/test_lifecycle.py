"""Where a simulated batch stands at a moment."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sandbox.lifecycle import Stage, life
from gateway.sandbox.records import Plan, Problem, StoredBatch

PLAN = Plan(
    validating_seconds=10, running_seconds=100, finalizing_seconds=5, cancelling_seconds=20, window_seconds=86_400
)
BATCH = StoredBatch(
    id="batch_1", number=1, created=1_000.0, endpoint="/x", file_id="file-1", model="m", tokens=1, plan=PLAN
)


@pytest.mark.parametrize(
    ("after", "stage", "done"),
    [
        (0, Stage.VALIDATING, 0.0),
        (9.9, Stage.VALIDATING, 0.0),
        (10, Stage.IN_PROGRESS, 0.0),
        (60, Stage.IN_PROGRESS, 0.5),
        (110, Stage.FINALIZING, 1.0),
        (115, Stage.COMPLETED, 1.0),
    ],
)
def test_a_batch_goes_from_stage_to_stage(after: float, stage: Stage, done: float) -> None:
    """Each stage lasts as long as planned, and the done part grows while the lines run."""
    where = life(BATCH, BATCH.created + after)

    assert (where.stage, where.done) == (stage, done)


def test_no_time_at_all_ends_at_once() -> None:
    """A batch of zero planned seconds is complete at the moment of its creation."""
    plan = replace(PLAN, validating_seconds=0, running_seconds=0, finalizing_seconds=0)

    assert life(replace(BATCH, plan=plan), BATCH.created).stage is Stage.COMPLETED


def test_problems_fail_a_batch_when_validation_is_over() -> None:
    """A batch with problems is being validated for as long as others are, and then fails."""
    batch = replace(BATCH, problems=(Problem(code="c", message="m"),))

    assert [life(batch, batch.created + after).stage for after in (5, 10, 500)] == [
        Stage.VALIDATING,
        Stage.FAILED,
        Stage.FAILED,
    ]


def test_the_window_expires_a_slow_batch() -> None:
    """A batch that runs longer than its window expires with the part that is done by then."""
    batch = replace(BATCH, plan=replace(PLAN, window_seconds=60))
    where = life(batch, batch.created + 60)

    assert (where.stage, where.done, where.ended_at) == (Stage.EXPIRED, 0.5, batch.created + 60)


def test_an_endless_batch_outlives_its_window_and_can_be_hurried() -> None:
    """An endless batch makes no progress for ever, until it is told to finish or cancelled."""
    batch = replace(BATCH, plan=replace(PLAN, endless=True))
    late = batch.created + 1_000_000
    hurried = replace(batch, plan=PLAN, hurried=late)

    assert (life(batch, late).stage, life(batch, late).done) == (Stage.IN_PROGRESS, 0.0)
    assert life(hurried, late).stage is Stage.COMPLETED
    assert life(replace(batch, cancelled=late), late + 20).stage is Stage.CANCELLED


def test_cancelling_takes_its_time() -> None:
    """A cancelled batch is cancelling first, and keeps the part that was done when it was asked."""
    batch = replace(BATCH, cancelled=BATCH.created + 35)
    stages = [life(batch, BATCH.created + after) for after in (34, 35, 54, 55)]

    assert [where.stage for where in stages] == [
        Stage.IN_PROGRESS,
        Stage.CANCELLING,
        Stage.CANCELLING,
        Stage.CANCELLED,
    ]
    assert {where.done for where in stages[1:]} == {0.25}


@pytest.mark.parametrize(("ending", "after"), [("expired", 110), ("cancelled", 80)])
def test_a_planned_end_comes_at_its_moment(ending: str, after: float) -> None:
    """An ordered expiry comes at the end of the run, a foreign cancel when its part is done."""
    batch = replace(BATCH, plan=replace(PLAN, ending=ending, fraction=0.7, cancelling_seconds=0))

    assert not life(batch, batch.created + after - 1).stage.ended
    where = life(batch, batch.created + after)
    assert (where.stage, where.done) == (Stage(ending), 0.7)


@given(
    first=st.floats(0, 1_000),
    later=st.floats(0, 1_000),
    ending=st.sampled_from(["completed", "expired", "cancelled"]),
    cancelled=st.none() | st.floats(1_000, 2_000),
    hurried=st.none() | st.floats(1_000, 2_000),
    window=st.floats(0, 500),
)
def test_an_end_is_an_end(
    *, first: float, later: float, ending: str, cancelled: float | None, hurried: float | None, window: float
) -> None:
    """Whatever the plan, time only leads forward: an ended batch stays as it ended, and is never less done."""
    plan = replace(PLAN, ending=ending, window_seconds=window)
    batch = replace(BATCH, plan=plan, cancelled=cancelled, hurried=hurried)
    before, after = life(batch, 1_000 + first), life(batch, 1_000 + first + later)

    if before.stage.ended:
        assert after == before
    assert after.done >= before.done or after.stage in (Stage.EXPIRED, Stage.CANCELLED, Stage.CANCELLING)
