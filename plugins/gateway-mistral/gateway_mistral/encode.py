"""From a call to the bytes that are stored and sent. Pure."""

from __future__ import annotations

from gateway import Call, Unsupported
from gateway.provider import dump_body
from gateway_mistral.dialect import translate

CHAT = "/v1/chat/completions"


def encode_line(call: Call, passing: frozenset[str] = frozenset()) -> bytes:
    """One input line without its `custom_id`: `{"body": ...}`. Raises `Unsupported`."""
    return b'{"body":%b}' % encode_body(call, passing)


def encode_body(call: Call, passing: frozenset[str] = frozenset()) -> bytes:
    """The body of a chat completion in Mistral's words. Raises `Unsupported`."""
    if call.endpoint != CHAT:
        raise Unsupported("endpoint", f"this provider is asked for {CHAT} only")
    return dump_body({**translate(call.body, passing).body, "model": call.model})


def dropped_fields(call: Call, passing: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """What `encode_line` leaves out of a call that it takes."""
    return translate(call.body, passing).dropped
