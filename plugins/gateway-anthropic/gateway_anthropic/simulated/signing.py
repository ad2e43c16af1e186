"""Signed thoughts: each block is signed, and bound to everything that stood before it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import orjson

#: Models that refuse a thought when something before it has changed.
_BINDING = ("claude-fable-5-[1-9]*", "claude-mythos-5-[1-9]*", "claude-*-5-5*")
_OLD = "claude-*-4-5*"

Block = dict[str, object]


def thought(text: str, shown: str, params: Mapping[str, object], before: Sequence[Block]) -> Block:
    """A thinking block that follows `before` in the answer to `params`; `shown` is what is told of it."""
    signature = _own(shown) + _bound(params, params.get("messages"), before)
    return {"type": "thinking", "thinking": shown, "signature": signature + hashlib.md5(text.encode()).hexdigest()}  # noqa: S324


def redacted(text: str, params: Mapping[str, object], before: Sequence[Block]) -> Block:
    """A thinking block that says nothing."""
    secret = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return {"type": "redacted_thinking", "data": secret + _own(secret) + _bound(params, params.get("messages"), before)}


def signature_problem(params: Mapping[str, object]) -> str | None:
    """What is wrong with the thoughts in a history."""
    messages = _list(params.get("messages"))
    for at, message in enumerate(messages):
        content = _list(message.get("content") if isinstance(message, dict) else None)
        for place, block in enumerate(content):
            kind = block.get("type") if isinstance(block, dict) else None
            if not isinstance(block, dict) or kind not in ("thinking", "redacted_thinking"):
                continue
            own, bound = _signed(block)
            if not own:
                field = "signature" if kind == "thinking" else "data"
                return f"messages.{at}.content.{place}: Invalid `{field}` in `{kind}` block"
            if bound != _bound(params, messages[:at], content[:place]) and _binds(params):
                return f"messages.{at}.content.{place}: The block is bound to a different conversation"
    return None


def _list(content: object) -> list[object]:
    return content if isinstance(content, list) else []


def _signed(block: Mapping[str, object]) -> tuple[bool, str]:
    """Whether a block is as it was made, and what it is bound to."""
    if block.get("type") == "thinking":
        shown, signature = str(block.get("thinking")), str(block.get("signature"))
        return signature[:16] == _own(shown) and len(signature) == 64, signature[16:32]
    content = str(block.get("data"))
    return content[16:32] == _own(content[:16]) and len(content) == 48, content[32:48]


def _own(text: str) -> str:
    return hashlib.blake2b(text.encode(), key=b"sandbox", digest_size=8).hexdigest()


def _bound(params: Mapping[str, object], messages: object, before: Sequence[object]) -> str:
    prefix = [params.get("system"), params.get("tools"), messages, list(before)]
    packed = orjson.dumps(prefix, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(packed, key=b"sandbox", digest_size=8).hexdigest()


def _binds(params: Mapping[str, object]) -> bool:
    """Whether the model minds what stood before a thought, and was not asked to read over those that do not fit."""
    model, config = str(params.get("model")), params.get("thinking")
    binding = config.get("block_binding") if isinstance(config, dict) else None
    if isinstance(binding, dict) and binding.get("prefix_mismatch_behavior") == "drop_block":
        return False
    return any(fnmatchcase(model, pattern) for pattern in _BINDING) and not fnmatchcase(model, _OLD)
