"""What plugin authors may rely on, written out: a name added or lost is a decision, not an accident."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

import gateway
from gateway import failures, listing, reading, transfers

PUBLIC_NAMES = [
    "Ambiguous",
    "Batch",
    "Call",
    "ErrorBody",
    "Limits",
    "Missing",
    "Provider",
    "ProviderError",
    "ProviderSettings",
    "Rejected",
    "RemoteBatch",
    "RemoteState",
    "Result",
    "Retryable",
    "TokenLimit",
    "Unauthorised",
    "UnbatchedProvider",
    "Unsupported",
    "envelope",
    "hookimpl",
]

#: What `gateway.failures` has for them.
NAMES_OF_FAILURES = [
    "CREATE",
    "Answered",
    "Failures",
    "StatusError",
    "is_foreign",
    "is_transport_failure",
    "redirect",
    "retry_after",
    "seconds",
]


#: What stands in the smaller rooms, each of which says so itself.
NAMES_OF_ROOMS = {
    listing: ["MOST_PAGES", "Page", "is_past", "oldest_first", "read_list"],
    reading: ["count", "items", "mapping", "moment", "number", "parse_object", "text"],
    transfers: ["PIECE_BYTES", "append_files", "append_rows", "end_row", "opened", "result_file", "until_usable"],
}


def test_public_names_are_these_and_no_others() -> None:
    """`gateway` exports exactly what plugin authors were promised, in order."""
    assert list(gateway.__all__) == PUBLIC_NAMES


def test_public_names_exist_and_explain_themselves() -> None:
    """Every exported name can be imported and has a docstring that somebody wrote."""
    docstrings = {name: getattr(gateway, name).__doc__ or "" for name in gateway.__all__}

    # A dataclass without a docstring is given its own signature for one.
    assert [name for name, text in docstrings.items() if not text or text.startswith(f"{name}(")] == []


def test_the_room_of_failures_has_these_names_and_no_others() -> None:
    """`gateway.failures` exports exactly what authors use to tell failures apart, each explained."""
    docstrings = {name: getattr(failures, name).__doc__ or "" for name in failures.__all__ if name != "CREATE"}

    assert failures.__all__ == NAMES_OF_FAILURES
    assert [name for name, text in docstrings.items() if not text or text.startswith(f"{name}(")] == []
    own = {name for name, member in vars(failures).items() if inspect.getmodule(member) is failures}
    assert {name for name in own if not name.startswith("_")} <= set(NAMES_OF_FAILURES)


@pytest.mark.parametrize("room", NAMES_OF_ROOMS, ids=lambda room: room.__name__)
def test_the_smaller_rooms_have_these_names_and_no_others(room: ModuleType) -> None:
    """What authors import from the other rooms is there by these names, each explained."""
    explained = {name: getattr(room, name).__doc__ or "" for name in room.__all__ if not name.isupper()}

    assert room.__all__ == NAMES_OF_ROOMS[room]
    assert [name for name, text in explained.items() if not text or text.startswith(f"{name}(")] == []
    own = {name for name, member in vars(room).items() if inspect.getmodule(member) is room}
    assert {name for name in own if not name.startswith("_")} <= set(room.__all__)
