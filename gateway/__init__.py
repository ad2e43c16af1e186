"""Batchway: ordinary chat completions in, discounted provider batches out.

What a plugin author needs is here. To read the whole, follow one request: `endpoints/chat`, `pipeline/intake`,
`pipeline/batcher`, `pipeline/submitter`, the plugin, `pipeline/poller`, `pipeline/collector`, `pipeline/waiters`.
"""

from __future__ import annotations

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
from gateway.provider import Provider, ProviderSettings, envelope
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
    "Unsupported",
    "envelope",
    "hookimpl",
]
