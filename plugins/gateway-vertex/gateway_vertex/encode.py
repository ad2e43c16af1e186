"""From a caller's body to the line that is stored, framed and sent. Pure."""

from __future__ import annotations

import re

import orjson

from gateway import Call, Unsupported
from gateway.chat import read_chat
from gateway_gemini.dialect import Dialect
from gateway_gemini.encode import line_of
from gateway_gemini.translate import generate_content_request

CHAT = "/v1/chat/completions"
_OPENING = b'{"request":{'
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@/-]{0,255}")


def encode_line(call: Call, dialect: Dialect) -> bytes:
    """One input line without its name. Raises `Unsupported` for what Gemini cannot say."""
    return line_of(request_of(call, dialect))


def frame_line(line_id: str, payload: bytes, label_key: str) -> bytes:
    """The line under its name: a label inside the request, which comes back with the request's echo; else a `key` beside it."""
    name = orjson.dumps(line_id)
    if not label_key:
        return b'{"key":%b,%b' % (name, payload[1:])
    return b'%b"labels":{%b:%b},%b' % (_OPENING, orjson.dumps(label_key), name, payload[len(_OPENING) :])


def request_of(call: Call, dialect: Dialect) -> dict[str, object]:
    """The `GenerateContentRequest` for a chat completion. Raises `Unsupported`."""
    if call.endpoint != CHAT:
        raise Unsupported("model", f"batches on Vertex AI have no {call.endpoint[:60]}; use chat completions")
    resource_of(call.model)
    return generate_content_request(read_chat(call.body), dialect)


def resource_of(model: str) -> str:
    """The resource name of a model: Google's own, `PUBLISHER/MODEL`, or any full name. Raises `Unsupported`."""
    if not _MODEL.fullmatch(model) or "//" in model or ".." in model:
        raise Unsupported("model", "no model on Vertex AI has such a name")
    if model.startswith(("publishers/", "projects/", "models/")):
        return model
    publisher, slash, name = model.rpartition("/")
    return f"publishers/{publisher}/models/{name}" if slash else f"publishers/google/models/{model}"
