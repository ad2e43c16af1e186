"""Thought signatures as the simulator makes them: a function of the call, so that it can tell an altered one."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping

import orjson


def signature(call: Mapping[str, object]) -> str:
    """The signature of a `functionCall`: 96 bytes in base64."""
    known = orjson.dumps([call.get("name"), call.get("args")], option=orjson.OPT_SORT_KEYS)
    return base64.b64encode(hashlib.shake_256(b"thought " + known).digest(96)).decode()


def same(one: str, other: str) -> bool:
    """Whether two signatures are the same bytes; both alphabets of base64 are taken."""
    return _standard(one) == _standard(other)


def _standard(signed: str) -> str:
    return signed.replace("-", "+").replace("_", "/").rstrip("=")
