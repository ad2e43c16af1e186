"""Power goes: of every file only what was synced is left. What the gateway gave its word for is there all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.disk.forge import Fault, outages, sweep


@pytest.mark.timeout(600)
def test_what_was_accepted_survives_a_loss_of_power(library: Path, tmp_path: Path) -> None:
    """Twenty times in the middle of accepting, with `durability = "full"`: no name is missing, and the ledger is sound."""
    losses = outages(library, "full", tmp_path, 20)

    assert [loss.complaint for loss in losses] == [""] * 20
    assert [loss.lost for loss in losses] == [0] * 20
    assert min(loss.acknowledged for loss in losses) >= 20


def test_the_same_outages_lose_some_with_relaxed_durability(library: Path, tmp_path: Path) -> None:
    """So the test above can tell; whoever asks for speed loses the last requests, but the ledger stays sound."""
    losses = outages(library, "relaxed", tmp_path, 3)

    assert [loss.complaint for loss in losses] == [""] * 3
    assert any(loss.lost for loss in losses)


def test_files_of_batches_have_their_names_when_they_are_on_the_disk(library: Path, tmp_path: Path) -> None:
    """Lines to send and rows that were fetched get their names only once they are synced: never half, never empty."""
    [outcome] = sweep(library, "tests.disk.parts:spool_in_an_outage", tmp_path, Fault(under="spool/"), 0)

    assert outcome.complaint == ""
