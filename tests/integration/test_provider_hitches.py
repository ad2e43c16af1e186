"""What goes wrong with batches that run, end, or are refused at every kind of provider: all answers come, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.sandbox import Fault, FaultKind, Operation
from tests.integration.crowd import answered, batched, calling, crowded_town, lines, order, repeats, wrong

COUNT = 4


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind=FaultKind.STATUS, operation=Operation.POLL, status=500, times=3),
        Fault(kind=FaultKind.CUT, operation=Operation.POLL, when="after", times=3),
        Fault(kind=FaultKind.STATUS, operation=Operation.FETCH, status=502, times=2),
        Fault(kind=FaultKind.CUT, operation=Operation.FETCH, when="during", times=2),
    ],
    ids=["polls-500", "polls-cut", "fetches-502", "fetches-cut-half-way"],
)
async def test_lost_polls_and_downloads_mean_nothing(tmp_path: Path, fault: Fault) -> None:
    """Polls that fail and downloads that break off delay answers and change nothing else."""
    async with crowded_town(tmp_path, calling(fault.operation)) as here:
        order(here, fault)
        answers = await answered(here, COUNT)

        assert {kind for kind, each in here.simulators.items() if each.faults} == set()
        assert await wrong(here, answers, tmp_path) == []
        assert await lines(here) == dict.fromkeys(here.simulators, COUNT)


@pytest.mark.parametrize("kind", [FaultKind.EXPIRED, FaultKind.CANCELLED])
async def test_what_an_ended_batch_has_is_kept(tmp_path: Path, kind: FaultKind) -> None:
    """Of a batch that expires, or that others cancel, half done: what the provider gives out is kept, the rest asked again."""
    async with crowded_town(tmp_path, batched()) as here:
        order(here, Fault(kind=kind, fraction=0.5))
        answers = await answered(here, COUNT)
        # Of such a batch Gemini gives out nothing.
        again = {each: COUNT if each.startswith("gemini") else COUNT // 2 for each in here.simulators}

        assert await wrong(here, answers, tmp_path) == []
        assert await lines(here) == {each: COUNT + more for each, more in again.items()}
        assert await repeats(here) == again


@pytest.mark.parametrize("named", ["", " line=none"])
async def test_a_poison_line_fails_alone(tmp_path: Path, named: str) -> None:
    """A line for which the provider refuses a whole batch fails by itself with the provider's reason; the others are answered."""
    async with crowded_town(tmp_path, batched()) as here:
        answers = await answered(here, COUNT, words={0: f" [sandbox: poison{named}]"})
        poisoned = {kind: told[0] for kind, told in answers.items()}

        assert {(told.status, told.code) for told in poisoned.values()} == {(400, "provider_rejected")}
        assert [kind for kind, told in poisoned.items() if "This line is poisoned" not in told.text] == []
        assert [(kind, number) for kind, number, _ in await wrong(here, answers, tmp_path)] == [
            (kind, 0) for kind in answers
        ]
        assert await lines(here) == dict.fromkeys(here.simulators, COUNT - 1)
        assert await repeats(here) == dict.fromkeys(here.simulators, 0)
