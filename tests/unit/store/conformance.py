"""What every database of the ledger must do: subclass `LedgerConformance` and give it the fixture `database`."""

from __future__ import annotations

from tests.unit.store.conformance_batches import BatchesConformance
from tests.unit.store.conformance_completions import CompletionsConformance
from tests.unit.store.conformance_database import DatabaseConformance
from tests.unit.store.conformance_families import FamiliesConformance
from tests.unit.store.conformance_fences import FencesConformance
from tests.unit.store.conformance_kinds import KindsConformance
from tests.unit.store.conformance_requests import RequestsConformance
from tests.unit.store.conformance_settling import SettlingConformance
from tests.unit.store.conformance_slots import SlotsConformance


class LedgerConformance(
    DatabaseConformance,
    RequestsConformance,
    SlotsConformance,
    BatchesConformance,
    SettlingConformance,
    CompletionsConformance,
    FamiliesConformance,
    FencesConformance,
    KindsConformance,
):
    """The whole suite."""
