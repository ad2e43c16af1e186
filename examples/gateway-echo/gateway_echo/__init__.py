"""An example of a plugin of Batchway that lives outside of it."""

from __future__ import annotations

from collections.abc import Iterable

from gateway import Provider, hookimpl
from gateway_echo.provider import EchoProvider

__all__ = ["EchoProvider", "register_providers"]


@hookimpl
def register_providers() -> Iterable[type[Provider]]:
    """The kind `echo`."""
    return [EchoProvider]
