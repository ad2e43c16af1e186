"""What makes two requests the same: canonical JSON and the hashes over it. Pure.

Floor 0. One canonicalisation serves both hashes:

    body = parse(raw)                   # 400 for what is no JSON object
    canonical = canonical_body(body)    # 400 for what cannot be written back unchanged
    fingerprint(..., model=routed_model, canonical=canonical)
    body_hash(endpoint=..., model=body["model"], canonical=canonical)

`model` is not in the canonical form: the fingerprint holds the model as routed, a name's hash the model as written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec
import orjson

from gateway.errors import Refusal

#: Raised when the encoding changes: hashes of two versions never meet.
VERSION = 1

#: Top-level fields that do not change the answer: how it is delivered, billed, routed or filed.
IGNORED_FIELDS = frozenset(
    {"model", "stream", "stream_options", "user", "safety_identifier", "metadata", "store", "service_tier", "cache"}
)
#: Hints to the provider's prompt cache are ignored alike, whatever they are called next.
IGNORED_PREFIX = "prompt_cache_"


def parse(raw: bytes) -> dict[str, object]:
    """The JSON object in `raw`. Raises `Refusal` (400) for bad JSON, NaN or infinite numbers, broken text, or no object.

    Whole numbers keep all their digits, so that `canonical_body` can refuse the ones it could not write back.
    """
    try:
        body: object = msgspec.json.decode(raw)
    except RecursionError:
        raise Refusal("invalid_request", "The request body is nested too deeply.") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Refusal("invalid_request", f"The request body is not valid JSON: {_place(raw, error)}") from None
    if not isinstance(body, dict):
        raise Refusal("invalid_request", "The request body must be a JSON object.")
    return body


def canonical_body(body: Mapping[str, object]) -> bytes:
    """`body` without its ignored fields, keys sorted at every level, no white space.

    Raises `Refusal` (400) for what JSON writers here cannot give back unchanged: whole numbers beyond 64 bits, lone
    surrogates, more than 250 levels. They are refused rather than passed: every way on would alter or reject them.
    """
    kept = {
        name: value
        for name, value in body.items()
        if name not in IGNORED_FIELDS and not name.startswith(IGNORED_PREFIX)
    }
    try:
        return orjson.dumps(kept, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise Refusal("invalid_request", f"The request body cannot be sent on: {error}.") from None


def fingerprint(
    *,
    client: str,
    provider: str,
    account: str,
    model: str,
    endpoint: str,
    canonical: bytes,
    rehearsal: bool = False,
) -> bytes:
    """32 bytes that are equal for two requests exactly when they ask the same thing for the same client.

    `model` is the provider's name of it, after routing; `canonical` comes from `canonical_body`. In a `rehearsal` a simulator
    answers instead of the provider: what it says is never the answer of a request that is meant.
    """
    meant = _hash(b"request", client, provider, account, model, endpoint, canonical)
    return _hash(b"rehearsal", meant) if rehearsal else meant


def body_hash(*, endpoint: str, model: str, canonical: bytes) -> bytes:
    """32 bytes that say whether a name is used again for the same body, whatever the route has become since.

    `model` is what the client wrote.
    """
    return _hash(b"name", model, endpoint, canonical)


def _hash(purpose: bytes, *parts: str | bytes) -> bytes:
    """SHA-256 over the parts, each after its length, so that no two lists of parts read the same."""
    encoded = [part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass") for part in parts]
    lengths = ",".join([str(len(part)) for part in encoded])
    return hashlib.sha256(b"%b/%d:%b:%b" % (purpose, VERSION, lengths.encode(), b"".join(encoded))).digest()


def _place(raw: bytes, error: Exception) -> str:
    """What parsers complain of, and where, without the text they complain of.

    Another parser is asked first: ours takes half a character at the end of a text for the end of the body.
    """
    try:
        raw.decode()
        orjson.loads(raw)
    except orjson.JSONDecodeError as found:
        return f"{found}."
    except UnicodeDecodeError as found:
        return f"byte {found.start} is not UTF-8."
    return f"{error}."
