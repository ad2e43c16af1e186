"""The k-th call to the disk fails, is cut short, or is the first on a full disk: for every k, of every file the gateway keeps.

A child lives a whole life on such a disk (accept, seal, submit, collect, deliver) and a second one on a disk that is well.
In CI a part of the calls is struck, evenly; with BATCHWAY_DISK_SWEEP=all every one (`make soak`).
"""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from tests.disk.forge import Fault, Outcome, sweep

LIVES = "tests.disk.world:whole_life"
MANNERS = {
    "the call fails": Fault(under="", manner="fail", errno=errno.EIO),
    "half is written": Fault(under="", manner="cut"),
    "full from then on": Fault(under="", manner="full", errno=errno.ENOSPC),
}
#: Under which name each part keeps its files, and how many of its calls are struck in CI in each manner.
PARTS = {"ledger": ("data/ledger.sqlite", 18), "spool": ("data/spool/", 9), "cache": ("data/cache/", 5)}


def of(under: str, manner: str) -> Fault:
    """In this manner, of these files."""
    return replace(MANNERS.get(manner, Fault(under="", manner="drop")), under=under)


def held(outcomes: list[Outcome]) -> bool:
    """Nobody complains, and the disk has failed for many: the order of calls is not the same in every run."""
    complaints = [f"{outcome.fault}: {outcome.complaint}" for outcome in outcomes if outcome.complaint]
    assert not complaints, "\n\n".join(complaints)
    struck = outcomes[1:]
    return sum(outcome.fired > 0 for outcome in struck) > len(struck) // 3 > 0


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("part", PARTS)
def test_every_request_is_answered_once_whatever_call_fails(
    library: Path, tmp_path: Path, part: str, manner: str
) -> None:
    """While it fails callers get answers or clear errors and nothing hangs; then all are answered, right and asked once."""
    under, most = PARTS[part]

    assert held(sweep(library, LIVES, tmp_path, of(under, manner), most))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("manner", [*MANNERS, "said to be done"])
def test_the_cache_gives_what_was_stored_or_nothing(library: Path, tmp_path: Path, manner: str) -> None:
    """Whichever call fails or only seems to be done: no wrong answer, and new ones are remembered on a disk that is well."""
    assert held(sweep(library, "tests.disk.parts:cache_life", tmp_path, of("cache/", manner), 50))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("manner", MANNERS)
def test_a_file_of_a_batch_is_whole_or_not_there(library: Path, tmp_path: Path, manner: str) -> None:
    """Whichever call of its writing fails, nothing half lies under its name, and nothing is left in the way."""
    assert held(sweep(library, "tests.disk.parts:spool_life", tmp_path, of("spool/", manner), 1_000))
