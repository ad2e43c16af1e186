"""Batchway: ordinary chat completions in, discounted provider batches out.

What a plugin author needs is here. To read the whole, follow one request: `endpoints/chat`, `pipeline/intake`,
`pipeline/batcher`, `pipeline/submitter`, the plugin, `pipeline/poller`, `pipeline/collector`, `pipeline/waiters`.

Each name is loaded when it is first used: `import gateway` alone brings nothing, so that `serve` can bind its port
before pydantic is there, which costs 0.1 s.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.errors import (
        Ambiguous,
        Missing,
        ProviderError,
        Rejected,
        Retryable,
        TokenLimit,
        Unauthorised,
        Unsupported,
    )
    from gateway.hookspecs import hookimpl
    from gateway.provider import Provider, ProviderSettings, UnbatchedProvider, envelope
    from gateway.records import Batch, Call, ErrorBody, Limits, RemoteBatch, RemoteState, Result

__all__ = [
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

_HOMES = {
    "gateway.errors": (
        "Ambiguous",
        "Missing",
        "ProviderError",
        "Rejected",
        "Retryable",
        "TokenLimit",
        "Unauthorised",
        "Unsupported",
    ),
    "gateway.hookspecs": ("hookimpl",),
    "gateway.provider": ("Provider", "ProviderSettings", "UnbatchedProvider", "envelope"),
    "gateway.records": ("Batch", "Call", "ErrorBody", "Limits", "RemoteBatch", "RemoteState", "Result"),
}


def __getattr__(name: str) -> object:
    """Load `name` from its home, once."""
    for home, names in _HOMES.items():
        if name in names:
            value: object = getattr(importlib.import_module(home), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted(__all__)
