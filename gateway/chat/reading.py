"""From a caller's body to a `ChatRequest`. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.chat.records import ChatRequest


def read_chat(body: Mapping[str, object]) -> ChatRequest:
    """The request in `body`, checked as a whole.

    Raises `Unsupported`, naming the field, for what no translation can say: see `docs/translation.md`.
    """
    raise NotImplementedError
