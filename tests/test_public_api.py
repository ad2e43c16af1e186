"""What plugin authors may rely on, written out: a name added or lost is a decision, not an accident."""

from __future__ import annotations

import inspect

import gateway
from gateway import failures

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
    "is_transport_failure",
    "retry_after",
    "seconds",
]


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
