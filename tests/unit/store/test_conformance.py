"""The suite of the ledger is whole."""

from __future__ import annotations

from tests.unit.store.conformance import LedgerConformance


def test_no_room_hides_a_test_of_another() -> None:
    """Every test that a room of the suite defines is run, also where two rooms have one of the same name."""
    run = {id(test) for room in LedgerConformance.__mro__ for test in vars(room).values()}
    reached = {id(getattr(LedgerConformance, name)) for name in dir(LedgerConformance)}
    hidden = [
        f"{room.__name__}.{name}"
        for room in LedgerConformance.__mro__
        for name, test in vars(room).items()
        if name.startswith("test_")
        if id(test) in run - reached
    ]

    assert hidden == []
