"""From a caller's body to the bytes that are stored and sent, and to the row of an inline create call. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from gateway import Call, Unsupported
from gateway.chat import read_chat
from gateway_gemini.dialect import Dialect
from gateway_gemini.translate import dropped_fields, generate_content_request

CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"
_KEY = b'{"key":'
_EMBEDDING_FIELDS = frozenset({"model", "input", "dimensions", "encoding_format", "user"})


def encode_line(call: Call, dialect: Dialect) -> bytes:
    """One input line without its key: `{"request": ...}`. Raises `Unsupported` for what Gemini cannot say."""
    return line_of(request_of(call, dialect))


def line_of(request: Mapping[str, object]) -> bytes:
    """`request` as a line. Raises `Unsupported` for what JSON cannot hold, as numbers beyond 64 bits in a schema."""
    try:
        return orjson.dumps({"request": request})
    except orjson.JSONEncodeError as error:
        raise Unsupported("messages", f"the request cannot be sent as JSON: {error}") from None


def request_of(call: Call, dialect: Dialect) -> Mapping[str, object]:
    """The request inside a line. Raises `Unsupported`, also for an endpoint that Gemini's batches do not have."""
    if call.endpoint == CHAT:
        return generate_content_request(read_chat(call.body), dialect)
    if call.endpoint == EMBEDDINGS:
        return embed_content_request(call.body)
    raise Unsupported("model", f"Gemini's batches have no {call.endpoint}; use chat completions")


def request_in(payload: bytes) -> bytes:
    """The request alone, of what `encode_line` made."""
    return payload.removeprefix(b'{"request":')[:-1]


def dropped(call: Call) -> Sequence[str]:
    """Fields that go without having been refused."""
    if call.endpoint == EMBEDDINGS:
        return [name for name in ("encoding_format", "user") if call.body.get(name) is not None]
    users = [name for name in ("user", "safety_identifier") if call.body.get(name)]
    return [*dropped_fields(read_chat(call.body)), *users]


def embed_content_request(body: Mapping[str, object]) -> dict[str, object]:
    """The request of one embedding. Raises `Unsupported` for token arrays and for several inputs: a row has one content."""
    for name in body:
        if name not in _EMBEDDING_FIELDS:
            raise Unsupported(name, f"embeddings on Gemini have no field {name[:60]!r}")
    given = body.get("input")
    text = given[0] if isinstance(given, list) and len(given) == 1 else given
    if not isinstance(text, str) or not text:
        raise Unsupported("input", "on Gemini each request embeds one text that is not empty, and takes no tokens")
    request: dict[str, object] = {"content": {"parts": [{"text": text}]}}
    dimensions = body.get("dimensions")
    if dimensions is not None:
        if not isinstance(dimensions, int) or isinstance(dimensions, bool) or dimensions < 1:
            raise Unsupported("dimensions", "dimensions must be a whole number from 1")
        request["outputDimensionality"] = dimensions
    return request


def asked_schema(payload: bytes) -> Mapping[str, object] | None:
    """The schema that a line of `line_of` asks for, any object where it asks for JSON alone; None: it asks for text."""
    if b'"application/json"' not in payload:
        return None
    config = orjson.loads(payload)["request"].get("generationConfig") or {}
    if config.get("responseMimeType") != "application/json":
        return None
    schema = config.get("responseJsonSchema", {"type": "object"})
    return schema if isinstance(schema, dict) else None


def frame_line(line_id: str, payload: bytes) -> bytes:
    """A line of an input file: `payload` with its key in front."""
    return b"%b%b,%b" % (_KEY, orjson.dumps(line_id), payload[1:])


def inline_row(line: bytes) -> bytes:
    """The same line as an entry of an inline create call, whose key is metadata."""
    key, _, rest = line.rstrip(b"\n").removeprefix(_KEY).partition(b",")
    return b'{"metadata":{"key":%b},%b' % (key, rest)
