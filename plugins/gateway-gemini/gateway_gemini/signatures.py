"""Thought signatures: carried to the caller in the ids of tool calls, and restored when the conversation goes on. Pure.

Gemini signs the first function call of an answer (2.5: sometimes the text before it) and wants the signature back in the
very same part; without it, models of the third generation and later refuse the conversation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from gateway.chat import carry

#: The owner's name in what is carried: the signature of this call's own part.
CALL_KEY = "gemini"
#: The signature of the text before the calls; on the first call only.
TEXT_KEY = "gemini_text"
#: Ids that we made, because the provider gave none; it never sees them.
_OURS = "call_g_"


def caller_id(known: str | None, place: int, seed: str, *, call: str | None, text: str | None) -> str:
    """The id that the caller sees: the provider's own, else one made of `seed` and `place`, with what has to come back."""
    unique = hashlib.blake2b(f"{place} {seed}".encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    content: dict[str, object] = {}
    if call:
        content[CALL_KEY] = call
    if text:
        content[TEXT_KEY] = text
    name = known or _OURS + unique
    return carry(name, content) if content else name


def provider_id(id: str) -> str | None:  # noqa: A002 - OpenAI's word
    """The id as the provider gave it; None when it gave none."""
    return None if not id or id.startswith(_OURS) else id


def signature_of_call(carried: Mapping[str, object] | None) -> str | None:
    """The signature that belongs to the call itself."""
    return _text(carried, CALL_KEY)


def signature_of_text(carried: Mapping[str, object] | None) -> str | None:
    """The signature that belongs to the text before the calls."""
    return _text(carried, TEXT_KEY)


def _text(carried: Mapping[str, object] | None, key: str) -> str | None:
    found = carried.get(key) if carried else None
    return found if isinstance(found, str) and found else None
