"""From a caller's body to the bytes that are stored and sent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway import Call, Unsupported, envelope
from gateway.provider import dump_body

#: A batch has nobody to stream to; the gateway streams the stored answer itself.
_STREAMING = frozenset({"stream", "stream_options"})
#: Tiers that mean what a batch is anyway.
_BATCH_TIERS = frozenset({None, "auto", "default", "flex", "batch"})
#: What every answer is anyway.
_ORDINARY: Mapping[str, object] = MappingProxyType(
    {"n": 1, "top_logprobs": 0, "modalities": ["text"], "response_format": {"type": "text"}}
)


def encode_line(
    call: Call, *, drop: frozenset[str] = frozenset(), refuse: frozenset[str] = frozenset(), url: str = ""
) -> bytes:
    """One input line without its `custom_id`; unknown fields pass as they are.

    Raises `Unsupported` for fields in `refuse` that are set, for a service tier that batches do not have, and for values
    that JSON cannot hold.
    """
    body = sent_body(call, drop=drop)
    for field in refuse & body.keys():
        if _says_nothing(field, body[field]):
            del body[field]
        else:
            raise Unsupported(field, f"batches of this provider do not support {field}")
    return envelope(url or call.endpoint, dump_body(body))


def _says_nothing(field: str, content: object) -> bool:
    """Whether a field is there without asking for more than an answer without it has."""
    if content is None or content is False or content in ({}, []):
        return True
    return field in _ORDINARY and not isinstance(content, bool) and content == _ORDINARY[field]


def sent_body(call: Call, *, drop: frozenset[str] = frozenset()) -> dict[str, object]:
    """The fields of a caller's body that go to the provider."""
    left_out = _STREAMING | drop
    body = {key: field for key, field in call.body.items() if key not in left_out}
    if "service_tier" in body:
        _check_tier(body.pop("service_tier"))
    if "metadata" in body and body.get("store") is not True:
        del body["metadata"]
    return body


def _check_tier(tier: object) -> None:
    if not (tier is None or isinstance(tier, str)) or tier not in _BATCH_TIERS:
        shown = tier if isinstance(tier, str) else type(tier).__name__
        raise Unsupported(
            "service_tier", f"a batch has no service tier {str(shown)[:40]!r}; leave it out or use 'auto'"
        )
