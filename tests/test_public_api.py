"""What plugin authors may rely on, written out: a name added or lost is a decision, not an accident."""

from __future__ import annotations

import gateway

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


def test_public_names_are_these_and_no_others() -> None:
    """`gateway` exports exactly what plugin authors were promised, in order."""
    assert list(gateway.__all__) == PUBLIC_NAMES


def test_public_names_exist_and_explain_themselves() -> None:
    """Every exported name can be imported and has a docstring that somebody wrote."""
    docstrings = {name: getattr(gateway, name).__doc__ or "" for name in gateway.__all__}

    # A dataclass without a docstring is given its own signature for one.
    assert [name for name, text in docstrings.items() if not text or text.startswith(f"{name}(")] == []
