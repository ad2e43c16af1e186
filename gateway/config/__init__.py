"""`config.toml` and the environment, as small frozen records: one for each component, all mistakes at once.

Floor 1. Start with `load`; `early` is its quick half for the first moment of `serve`. Every key, its default and its
meaning stand in `sections`. Nothing in this package imports more than the standard library and the ground floor.
"""

from __future__ import annotations

from gateway.config.loading import DEFAULT_FILE, early, examine, is_loopback, load, source_of
from gateway.config.sections import (
    Batching,
    Cache,
    Client,
    Configuration,
    Polling,
    ProviderTable,
    Retries,
    Route,
    Server,
    Storage,
    TokenPrices,
    Waiting,
)
from gateway.config.tables import CORE_KEYS

__all__ = [
    "CORE_KEYS",
    "DEFAULT_FILE",
    "Batching",
    "Cache",
    "Client",
    "Configuration",
    "Polling",
    "ProviderTable",
    "Retries",
    "Route",
    "Server",
    "Storage",
    "TokenPrices",
    "Waiting",
    "early",
    "examine",
    "is_loopback",
    "load",
    "source_of",
]
