"""For tests, a plugin author's above all: doubles, a provider before its simulator, servers that say what they are told, and
the suite that every plugin has to pass.

Imported by no part of the gateway. Each name is loaded when it is first used: the doubles need nothing, `ProviderContract` needs
pytest, pytest-asyncio and hypothesis.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.testing.clock import FakeClock, QuickClock
    from gateway.testing.contract import ProviderContract
    from gateway.testing.fake import FakeBatch, FakeProvider, FakeRemote, FakeSettings
    from gateway.testing.lab import Lab, sandboxed
    from gateway.testing.serving import deaf, saying, served

__all__ = [
    "FakeBatch",
    "FakeClock",
    "FakeProvider",
    "FakeRemote",
    "FakeSettings",
    "Lab",
    "ProviderContract",
    "QuickClock",
    "deaf",
    "sandboxed",
    "saying",
    "served",
]

_HOMES = {
    "gateway.testing.clock": ("FakeClock", "QuickClock"),
    "gateway.testing.contract": ("ProviderContract",),
    "gateway.testing.fake": ("FakeBatch", "FakeProvider", "FakeRemote", "FakeSettings"),
    "gateway.testing.lab": ("Lab", "sandboxed"),
    "gateway.testing.serving": ("deaf", "saying", "served"),
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
