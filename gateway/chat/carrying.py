"""What must come back with a conversation, carried in the id of a tool call.

A model that thinks wants its own thoughts, signed, beside its tool calls when the results come back. Chat completions
has no field for them, and clients drop fields they do not know; the id of a tool call is the one thing that every
client must send back as it was.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping

import orjson

#: Between the provider's id and what is carried; every character may stand in an id anywhere.
_MARK = "__bw1_"
#: Thoughts larger than this once unpacked are nobody's.
_MOST_BYTES = 1 << 20


def carry(id: str, content: Mapping[str, object]) -> str:  # noqa: A002 - OpenAI's word
    """The id for the caller: `id`, which is not empty, with `content` packed behind it.

    `content` is JSON, under a key that names its owner. What is nested too deeply to be written is not carried.
    """
    try:
        written = orjson.dumps(dict(content))
    except orjson.JSONEncodeError:
        return id
    packed = base64.urlsafe_b64encode(zlib.compress(written, 9)).rstrip(b"=")
    return f"{id}{_MARK}{packed.decode()}"


def carried(id: str) -> tuple[str, Mapping[str, object] | None]:  # noqa: A002 - OpenAI's word
    """The provider's id, and what was carried; an id that was damaged, or never carried anything, gives None."""
    # From the right: what a provider calls a call may itself carry something.
    plain, mark, packed = id.rpartition(_MARK)
    if not mark or not plain:
        return id, None
    try:
        raw = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
        unpacker = zlib.decompressobj()
        unpacked = unpacker.decompress(raw, _MOST_BYTES)
        content = orjson.loads(unpacked) if unpacker.eof else None
    except (binascii.Error, ValueError, zlib.error):
        return plain, None
    return plain, content if isinstance(content, dict) else None


def plain_ids(messages: object) -> object:
    """`messages` of a caller's body without what `carry` put into their ids; what is no list of messages stays.

    For providers that are sent messages as they are: they know nothing of what the ids carry, and OpenAI takes no id of
    more than 40 characters.
    """
    return [_plain_message(message) for message in messages] if isinstance(messages, list) else messages


def _plain_message(message: object) -> object:
    if not isinstance(message, Mapping):
        return message
    calls = message.get("tool_calls")
    changed: dict[str, object] = {}
    if isinstance(calls, list) and any(_is_marked(call, "id") for call in calls):
        changed["tool_calls"] = [
            {**call, "id": _plain(call["id"])} if _is_marked(call, "id") else call for call in calls
        ]
    if _is_marked(message, "tool_call_id"):
        changed["tool_call_id"] = _plain(message["tool_call_id"])
    return {**message, **changed} if changed else message


def _is_marked(holder: object, field: str) -> bool:
    content = holder.get(field) if isinstance(holder, Mapping) else None
    return isinstance(content, str) and _MARK in content


def _plain(id: str) -> str:  # noqa: A002 - OpenAI's word
    plain, _, _ = id.rpartition(_MARK)
    return plain or id
