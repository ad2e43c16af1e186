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
    """The id for the caller: `id` with `content` (JSON, under a key that names its owner) packed behind it."""
    packed = base64.urlsafe_b64encode(zlib.compress(orjson.dumps(content), 9)).rstrip(b"=")
    return f"{id}{_MARK}{packed.decode()}"


def carried(id: str) -> tuple[str, Mapping[str, object] | None]:  # noqa: A002 - OpenAI's word
    """The provider's id, and what was carried; an id that was damaged, or never carried anything, gives None."""
    plain, mark, packed = id.partition(_MARK)
    if not mark:
        return id, None
    try:
        raw = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
        unpacker = zlib.decompressobj()
        content = orjson.loads(unpacker.decompress(raw, _MOST_BYTES))
    except (binascii.Error, ValueError, zlib.error):
        return plain, None
    return plain, content if isinstance(content, dict) else None
