"""What a call becomes as a line of a batch: its bytes, their size, and a guess at its tokens.

Floor 3. Everything a provider would refuse is refused here, before anything is recorded or paid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.accounts import plugin_fault
from gateway.errors import PluginFault, Refusal, Unsupported
from gateway.metrics import Metrics
from gateway.provider import Provider
from gateway.records import MARKER_LENGTH, Call, Limits, line_id
from gateway.store.rows import LaneKey

#: A line id that is as long as any can be.
LONGEST_LINE_ID = line_id("z" * MARKER_LENGTH, 9_999_999)
#: Estimate of input tokens: text bytes / 3, and this much for an image or a file.
BYTES_PER_TOKEN = 3
TOKENS_PER_PART = 1_000
#: As many answers as OpenAI gives to one request.
MOST_ANSWERS = 128
#: Of the names of dropped fields; some servers and clients take 4 KB of headers in all.
LONGEST_HEADER = 1_000
_COUNTED_PARTS = frozenset({"image_url", "input_image", "file", "input_file", "input_audio"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A call in the provider's bytes."""

    payload: bytes
    #: More than 1: the provider has no `n`; the payload asks for one answer, and this many are wanted.
    times: int = 1


def encoded(plugin: Provider, call: Call, metrics: Metrics) -> Encoded:
    """The provider's bytes for the call. Raises `Refusal`: a 400 that says which field is in the way, or 502 for a bug.

    A call that is refused for its `n` alone becomes as many calls for one answer.
    """
    try:
        return Encoded(payload=_payload(plugin, call))
    except Unsupported as error:
        times = call.body.get("n")
        if error.field == "n" and type(times) is int and 1 <= times <= MOST_ANSWERS:
            return Encoded(payload=encoded(plugin, _without_n(call), metrics).payload, times=times)
        raise Refusal(
            "unsupported_field",
            f"Field {error.field!r}, provider {plugin.name!r}: {error.reason}. Nothing was sent or paid.",
            param=error.field,
        ) from error
    except (Exception, SystemExit) as error:
        raise _faulty(plugin, "encode", error, metrics) from error


def _payload(plugin: Provider, call: Call) -> bytes:
    payload: object = plugin.encode(call)
    if not isinstance(payload, bytes):
        raise PluginFault(f"returned {type(payload).__name__} from encode, not bytes")
    return payload


def _faulty(plugin: Provider, verb: str, error: BaseException, metrics: Metrics) -> Refusal:
    """What a caller is told of a bug in the plugin, which is counted and logged."""
    plugin_fault(metrics, plugin.name, plugin.kind, verb, error)
    return Refusal(
        "provider_unavailable",
        f"The plugin of kind {plugin.kind!r} (provider {plugin.name!r}) failed on this request with "
        f"{type(error).__name__}: a bug in the plugin, whose log has the details. Nothing was sent or paid.",
    )


def _without_n(call: Call) -> Call:
    return replace(call, body={field: value for field, value in call.body.items() if field != "n"})


def dropped(plugin: Provider, call: Call, metrics: Metrics) -> str:
    """Names of the fields that the plugin leaves out of `call`, as `a, b`, fit for a header; empty: none.

    Costs nothing where a plugin leaves nothing out. Never raises: an error is a bug in the plugin, counted and logged.
    """
    if type(plugin).dropped is Provider.dropped:
        return ""
    try:
        return _header(plugin.dropped(call))
    except Unsupported as error:
        # Only `encode` refuses: its `n` may have been taken from it, and a stored answer is served unasked.
        return dropped(plugin, _without_n(call), metrics) if error.field == "n" and "n" in call.body else ""
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the request is as good without the hint
        plugin_fault(metrics, plugin.name, plugin.kind, "dropped", error)
        return ""


def _header(names: Sequence[str]) -> str:
    """Names, each once, up to what any client takes in one header; callers choose parts of them, so all are checked."""
    text = ", ".join(name for name in dict.fromkeys(names) if name.isascii() and name.isprintable())
    return text if len(text) <= LONGEST_HEADER else text[:LONGEST_HEADER].rpartition(",")[0] + ", ..."


def line_size(plugin: Provider, limits: Limits, payload: bytes, metrics: Metrics) -> int:
    """Bytes of the framed line with its newline. Raises `Refusal`: 413 when the provider would refuse it, 502 for a bug."""
    try:
        size = len(plugin.frame(LONGEST_LINE_ID, payload)) + 1
    except (Exception, SystemExit) as error:
        raise _faulty(plugin, "frame", error, metrics) from error
    most = limits.max_line_bytes or limits.max_bytes
    if most is not None and size > most:
        raise Refusal(
            "body_too_large",
            f"The request makes a batch line of {size} bytes; provider {plugin.name!r} takes at most {most}.",
        )
    return size


def refuse_tokens(tokens: int, factor: float, allowed: int, lane: LaneKey) -> None:
    """Raises `Refusal` (400) for a request that is larger than all that may wait at its provider: it could never be sent.

    `factor` is what the lane's estimates are corrected by. Only downwards: what is too large by a doubtful estimate alone is
    accepted, sent when nothing else of its model waits, and left to the provider.
    """
    count = int(tokens * min(1.0, factor))
    if count > allowed:
        raise Refusal(
            "too_many_tokens",
            f"The request has about {count} tokens, and all requests for {lane.model!r} that wait at provider "
            f"{lane.provider!r} may have {allowed} together (limits.max_enqueued_tokens): it could never be sent. Shorten it, "
            "or raise the limit if the account has a higher one.",
            param="messages",
        )


def estimated_tokens(body: Mapping[str, object], size: int) -> int:
    """Input tokens the provider will reckon with, roughly; the lane corrects the estimate by the usage that comes back.

    Images and files count by the piece: their bytes say nothing of their tokens.
    """
    parts, bulk = _counted_parts(body.get("messages"))
    return max(1, (size - bulk) // BYTES_PER_TOKEN) + parts * TOKENS_PER_PART


def _counted_parts(messages: object) -> tuple[int, int]:
    """How many parts are counted by the piece, and the bytes they take."""
    parts = bulk = 0
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict) and part.get("type") in _COUNTED_PARTS:
                parts += 1
                bulk += _text_length(part)
    return parts, bulk


def _text_length(part: Mapping[str, object]) -> int:
    """Characters a part carries inline; parts nest no deeper than this."""
    inner = [value for value in part.values() if isinstance(value, dict)]
    return sum(len(text) for piece in (part, *inner) for text in piece.values() if isinstance(text, str))
