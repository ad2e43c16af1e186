"""Thoughts that no writer of JSON takes do not stand in the way of the answer that they came with."""

from __future__ import annotations

from gateway.chat import carried, carry


def nested(depth: int) -> object:
    """A list in a list in a list."""
    content: object = 1
    for _ in range(depth):
        content = [content]
    return content


def test_what_cannot_be_packed_is_not_carried() -> None:
    """The id is the provider's own then, and the caller gets the answer."""
    assert carry("call_1", {"anthropic": nested(600)}) == "call_1"
    assert carried(carry("call_1", {"anthropic": nested(20)})) == ("call_1", {"anthropic": nested(20)})
