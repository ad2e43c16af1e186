"""Input lines, and the requests inside them.

What is wrong with a line's frame fails the whole batch; what is wrong with the request inside it fails that line.
"""

from __future__ import annotations

import hashlib

import orjson

from gateway.reading import mapping, text
from gateway.sandbox import Line, Outcome, Problem, body_hash
from gateway_gemini.encode import EMBEDDINGS
from gateway_gemini.simulated.generate import request_problem
from gateway_gemini.simulated.schema import EMBED_REQUEST, normal

_FRAME = frozenset({"key", "request"})
_DIMENSIONS = 8


def read_frame(raw: bytes, model: str) -> Line:
    """One input line of a batch for `model`; its `problem` says what is wrong with its frame."""
    try:
        frame = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _broken("The line is not valid JSON.")
    if not isinstance(frame, dict):
        return _broken("The line is not a JSON object.")
    key = text(frame.get("key"))
    if key is None:
        return _broken("The line has no key.")
    for name in frame:
        if name not in _FRAME:
            return _broken(f'no such field: "{name[:64]}"', key)
    if not isinstance(frame.get("request"), dict):
        return _broken("The line has no request.", key)
    named = text(frame["request"].get("model"))
    other = named.removeprefix("models/") if named else model
    return Line(custom_id=key, model=other, body=frame["request"])


def body_problem(request: object, model: str, endpoint: str) -> str | None:
    """What an error says of a request; None when it is taken."""
    if endpoint != EMBEDDINGS:
        return request_problem(request, model)
    problem = EMBED_REQUEST(request, "")
    if problem is None and not mapping(mapping(request).get("content")).get("parts"):
        problem = "* EmbedContentRequest.content: contents is not specified"
    return problem


def embed(line: Line) -> Outcome:
    """An embedding that is a function of the request."""
    wanted = mapping(normal(EMBED_REQUEST, line.body)).get("outputDimensionality")
    size = wanted if isinstance(wanted, int) else _DIMENSIONS
    digest = hashlib.shake_128(body_hash(line.body).encode()).digest(size)
    return Outcome(status=200, body={"embedding": {"values": [byte / 256 for byte in digest]}}, input_tokens=1)


def _broken(message: str, key: str = "") -> Line:
    return Line(custom_id=key, problem=Problem(code="invalid_request", message=message))
