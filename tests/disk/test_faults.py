"""The k-th call to the disk fails, is cut short, or is the first on a full disk: for every k, of every file the gateway keeps.

A child lives a whole life on such a disk (accept, seal, submit, collect, deliver) and a second one on a disk that is well.
In CI a part of the calls is struck, evenly; with BATCHWAY_DISK_SWEEP=all every one (`make soak`).
"""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.disk.forge import Fault, Outcome, chosen, sweep

LIVES = "tests.disk.world:whole_life"
MANNERS = {
    "the call fails": Fault(under="", manner="fail", errno=errno.EIO),
    "half is written": Fault(under="", manner="cut"),
    "full from then on": Fault(under="", manner="full", errno=errno.ENOSPC),
}
#: Under which name each part keeps its files, and how many of its calls are struck in CI in each manner.
PARTS = {"ledger": ("data/ledger.sqlite", 24), "spool": ("data/spool/", 9), "cache": ("data/cache/", 6)}


def swept(library: Path, scenario: str, directory: Path, fault: Fault, most: int) -> list[Outcome]:
    """Count the calls of an undisturbed run; then strike them."""
    [whole] = sweep(library, scenario, directory / "whole", [_at(fault, 1 << 40)])
    assert whole.complaint == ""
    assert whole.calls > 4
    faults = [_at(fault, k) for k in chosen(whole.calls, most)]
    return sweep(library, scenario, directory / "struck", faults)


def _at(fault: Fault, k: int) -> Fault:
    return Fault(under=fault.under, k=k, manner=fault.manner, errno=fault.errno)


def held(outcomes: list[Outcome]) -> bool:
    """Nobody complains, and the disk has failed for most: the order of calls is not the same in every run."""
    complaints = [f"{outcome.fault}: {outcome.complaint}" for outcome in outcomes if outcome.complaint]
    assert not complaints, "\n\n".join(complaints)
    return sum(outcome.fired > 0 for outcome in outcomes) > len(outcomes) // 2


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("part", PARTS)
def test_every_request_is_answered_once_whatever_call_fails(
    library: Path, tmp_path: Path, part: str, manner: str
) -> None:
    """While it fails callers get answers or clear errors and nothing hangs; then all are answered, right and asked once."""
    under, most = PARTS[part]
    fault = Fault(under=under, manner=MANNERS[manner].manner, errno=MANNERS[manner].errno)

    assert held(swept(library, LIVES, tmp_path, fault, most))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("manner", [*MANNERS, "said to be done"])
def test_the_cache_gives_what_was_stored_or_nothing(library: Path, tmp_path: Path, manner: str) -> None:
    """Whichever call fails or only seems to be done: no wrong answer, and new ones are remembered on a disk that is well."""
    fault = MANNERS.get(manner, Fault(under="", manner="drop"))
    fault = Fault(under="cache/", manner=fault.manner, errno=fault.errno)

    assert held(swept(library, "tests.disk.parts:cache_life", tmp_path, fault, 60))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("manner", MANNERS)
def test_a_file_of_a_batch_is_whole_or_not_there(library: Path, tmp_path: Path, manner: str) -> None:
    """Whichever call of its writing fails, nothing half lies under its name, and nothing is left in the way."""
    fault = Fault(under="spool/", manner=MANNERS[manner].manner, errno=MANNERS[manner].errno)

    assert held(swept(library, "tests.disk.parts:spool_life", tmp_path, fault, 1_000))
